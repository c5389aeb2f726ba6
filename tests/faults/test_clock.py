"""The wall clock of the daemon's machine jumps by an hour, in both directions, while the daemon runs.

Leases use PostgreSQL's clock and the monotonic clock, retries use PostgreSQL's. So nothing is lost, nothing is sent
twice, and no retry comes before it is due.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from tests.support.cli import HERE
from tests.support.clock import WallClock
from tests.support.fault_report import FaultReport
from tests.support.recording_receiver import FAILING
from tests.support.system_under_test import SystemUnderTest

HOUR_SECONDS = 3600
RETRY_SECONDS = 600


async def test_a_wall_clock_that_jumps_by_an_hour(
    system: SystemUnderTest, report: FaultReport, tmp_path: Path, is_long: bool
) -> None:
    clock, hours = WallClock(tmp_path / "clock", path=str(HERE)), (1, -1, 0) * (5 if is_long else 1)
    skews: list[float] = []
    retry = {
        "HOOKLEDGER_DELIVERY__RETRY_FIRST_SECONDS": str(RETRY_SECONDS),
        "HOOKLEDGER_DELIVERY__RETRY_CAP_SECONDS": str(RETRY_SECONDS),
    }
    async with system.daemon(**clock.environment, **retry):
        await system.route("/acme", "order.create")
        await system.route("/failing", "order.cancel")
        system.receiver.behave("/failing", FAILING)
        system.producer.types = ["order.create"] * 9 + ["order.cancel"]
        async with system.producer.load(per_second=400):
            await system.until_more(100)
            for hour in hours:
                clock.shift(hour * HOUR_SECONDS)
                await system.until_more(300)
                skews.append(await system.value(_SKEW))
        await system.until_accounted()
    arrivals = system.receiver.arrivals()
    found = await system.check_deliveries()
    good = [arrival.at for arrival in arrivals if arrival.path == "/acme"]
    failing = [arrival for arrival in arrivals if arrival.path == "/failing"]
    report.add("jumps of an hour or two", len(hours))
    report.add_check(found, duplicates_at_most=0)
    report.add("requests before their time", len(failing) - len({one.event_id for one in failing}), at_most=0)
    report.add("leases that changed hands", await system.value(_CHANGES), at_most=0)
    report.add_duration("longest pause of deliveries", max(b - a for a, b in pairwise(good)), within=2)
    assert max(skews) > HOUR_SECONDS - 60, "the daemon's clock went forward"
    assert min(skews) < 60 - HOUR_SECONDS, "and back"
    report.verify()


_CHANGES = "SELECT max(epoch) - 1 FROM hookledger.lease"
# By how many seconds the daemon's clock (the request's start) is ahead of PostgreSQL's clock (the row).
_SKEW = """
SELECT extract(epoch FROM started_at - at)::float8 FROM hookledger.attempt ORDER BY at DESC LIMIT 1
"""
