"""Two hundred routes whose names are never resolved: those whose names are do not wait for them.

The daemon's own resolver asks a name server on loopback, which keeps silent about the tar pits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from daemon.pipeline.sending.egress_guard import system_resolver
from tests.benchmarks.verdicts import percentile
from tests.support.figures import Figures
from tests.support.house import House, house
from tests.support.names import TAR_PIT, Entry, NameServer
from tests.support.until import until
from tests.support.witness import Witness, witness

ZONE = {"shop.com": Entry(addresses=("127.0.0.1",)), "pit.com": TAR_PIT}
GOOD_TYPE, PIT_TYPE = "load.good", "load.pit"
PITS = 200
CONCURRENCY = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """So many events for the good route, a `pause_seconds` apart; every `pit_every`th time one for all pits too. Half as
    many before, without.
    """

    events: int
    pause_seconds: float
    pit_every: int


QUICK = Load(events=100, pause_seconds=0.015, pit_every=20)
LONG = Load(events=3000, pause_seconds=0.02, pit_every=25)
WARM_UP_EVENTS = 10


async def test_two_hundred_names_that_are_tar_pits(
    database_url: str, figures: Figures, is_long: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = LONG if is_long else QUICK
    if not is_long:
        monkeypatch.setattr(
            "daemon.pipeline.sending.egress_guard.DNS_DEADLINE_SECONDS", 1.5
        )  # they are still found slow before
    with witness() as there:
        port = urlsplit(there.url).port
        async with NameServer(dict(ZONE)) as server:
            resolver = system_resolver([server.address])
            async with house(database_url, concurrency=CONCURRENCY, timeout_seconds=15, resolver=resolver) as it:
                await it.route(f"http://hooks.shop.com:{port}/good", GOOD_TYPE)
                for number in range(PITS):
                    await it.route(f"http://n{number}.pit.com:{port}/pit", PIT_TYPE)
                await _latencies(it, there, load, [GOOD_TYPE], WARM_UP_EVENTS)  # everything for the first time
                before = await _latencies(it, there, load, [GOOD_TYPE], load.events // 2)
                beside = await _latencies(it, there, load, [GOOD_TYPE, PIT_TYPE], load.events)
                await it.until_row("SELECT count(*) > 0 FROM hookledger.attempt WHERE error = 'dns_error'")
                arrived = there.arrivals()
                found = await it.rows("SELECT DISTINCT error FROM hookledger.attempt WHERE error IS NOT NULL")
    before_p99, beside_p99 = percentile(before, 0.99), percentile(beside, 0.99)
    figures.say("tar pits asked for", sum(name.endswith("pit.com") for name in server.asked), at_least=PITS)
    figures.say("other errors than dns_error", len(found) - 1, at_most=0)
    figures.say("requests to a tar pit", sum(one.path == "/pit" for one in arrived), at_most=0)
    figures.say("p99 of the other before", before_p99 * 1000, "ms")
    figures.say("p99 of the other, more by", (beside_p99 - before_p99) * 1000, "ms", at_most=100, forgiven=1500)
    figures.hold()


async def _latencies(it: House, there: Witness, load: Load, types: Sequence[str], events: int) -> list[float]:
    """From asking to publish until arrival, in seconds."""
    asked: dict[str, float] = {}
    known = there.count
    for number in range(events):
        if len(types) > 1 and number % load.pit_every == 0:
            await it.publish(PIT_TYPE)
        asked_at = time.monotonic()
        (event_id,) = await it.publish(GOOD_TYPE)
        asked[event_id] = asked_at
        await asyncio.sleep(load.pause_seconds)
    await until(lambda: there.count >= known + events, seconds=60)
    return [one.at - asked[one.event_id] for one in there.arrivals() if one.event_id in asked]
