"""The wall clock of the daemon's machine is an hour wrong, either way, while it runs.

Leases go by PostgreSQL's clock and the monotonic one, retries are due by PostgreSQL's. So nothing is lost, nothing
comes twice, and a receiver that failed is not asked again before its time.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from tests.support.cli import HERE
from tests.support.clock import WallClock
from tests.support.figures import Figures
from tests.support.stage import Stage
from tests.support.witness import FAILING

HOUR_SECONDS = 3600
RETRY_SECONDS = 600


async def test_a_wall_clock_that_jumps_by_an_hour(
    ground: Stage, figures: Figures, tmp_path: Path, is_long: bool
) -> None:
    clock, hours = WallClock(tmp_path / "clock", path=str(HERE)), (1, -1, 0) * (5 if is_long else 1)
    skews: list[float] = []
    retry = {
        "HOOKLEDGER_DELIVERY__RETRY_FIRST_SECONDS": str(RETRY_SECONDS),
        "HOOKLEDGER_DELIVERY__RETRY_CAP_SECONDS": str(RETRY_SECONDS),
    }
    async with ground.daemon(**clock.environment, **retry):
        await ground.route("/acme", "order.create")
        await ground.route("/failing", "order.cancel")
        ground.witness.behave("/failing", FAILING)
        ground.producer.types = ["order.create"] * 9 + ["order.cancel"]
        async with ground.producer.load(per_second=400):
            await ground.until_more(100)
            for hour in hours:
                clock.shift(hour * HOUR_SECONDS)
                await ground.until_more(300)
                skews.append(await ground.value(_SKEW))
        await ground.until_accounted()
    arrivals = ground.witness.arrivals()
    found = await ground.reckoning()
    good = [arrival.at for arrival in arrivals if arrival.path == "/acme"]
    failing = [arrival for arrival in arrivals if arrival.path == "/failing"]
    figures.say("jumps of an hour or two", len(hours))
    figures.reckon(found, duplicates_at_most=0)
    figures.say("requests before their time", len(failing) - len({one.event_id for one in failing}), at_most=0)
    figures.say("leases that changed hands", await ground.value(_CHANGES), at_most=0)
    figures.time("longest pause of deliveries", max(b - a for a, b in pairwise(good)), within=2)
    assert max(skews) > HOUR_SECONDS - 60, "the daemon's clock went forward"
    assert min(skews) < 60 - HOUR_SECONDS, "and back"
    figures.hold()


_CHANGES = "SELECT max(epoch) - 1 FROM hookledger.lease"
# By how much the daemon's clock, which dates the beginning of a request, is ahead of PostgreSQL's, which dates the row.
_SKEW = """
SELECT extract(epoch FROM started_at - at)::float8 FROM hookledger.attempt ORDER BY at DESC LIMIT 1
"""
