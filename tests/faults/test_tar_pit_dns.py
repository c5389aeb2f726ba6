"""Two hundred routes have names that never resolve: the route whose name resolves does not wait for them.

The daemon's own resolver asks a name server on loopback, which never answers queries for the tar pits.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from daemon.pipeline.http_client.resolver import SystemResolver
from tests.benchmarks.results import percentile
from tests.support.faults.report import FaultReport
from tests.support.pipeline.process import PipelineProcess, pipeline_process
from tests.support.receivers.dns import TAR_PIT, DnsEntry, NameServer
from tests.support.receivers.recording_receiver import RecordingReceiver, recording_receiver
from tests.support.until import until

ZONE = {"shop.com": DnsEntry(addresses=("127.0.0.1",)), "pit.com": TAR_PIT}
GOOD_TYPE, PIT_TYPE = "load.good", "load.pit"
PITS = 200
CONCURRENCY = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """`events` for the good route, `pause_seconds` apart; every `pit_every`th comes with one for all tar pits. The baseline
    has half as many, without tar pits.
    """

    events: int
    pause_seconds: float
    pit_every: int


QUICK = Load(events=100, pause_seconds=0.015, pit_every=20)
LONG = Load(events=3000, pause_seconds=0.02, pit_every=25)
WARM_UP_EVENTS = 10


async def test_two_hundred_names_that_are_tar_pits(
    database_url: str, report: FaultReport, is_long: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = LONG if is_long else QUICK
    if not is_long:
        monkeypatch.setattr(
            "daemon.pipeline.http_client.resolver.DNS_DEADLINE_SECONDS", 4.0
        )  # still longer than the time after which a receiver counts as slow
    with recording_receiver() as there:
        port = urlsplit(there.url).port
        async with NameServer(dict(ZONE)) as server:
            resolver = SystemResolver([server.address])
            async with pipeline_process(
                database_url, concurrency=CONCURRENCY, timeout_seconds=15, resolver=resolver
            ) as it:
                await it.route(f"http://hooks.shop.com:{port}/good", GOOD_TYPE)
                for number in range(PITS):
                    await it.route(f"http://n{number}.pit.com:{port}/pit", PIT_TYPE)
                await _latencies(it, there, load, [GOOD_TYPE], WARM_UP_EVENTS)  # warms up
                before = await _latencies(it, there, load, [GOOD_TYPE], load.events // 2)
                beside = await _latencies(it, there, load, [GOOD_TYPE, PIT_TYPE], load.events)
                await it.until_row("SELECT count(*) > 0 FROM hookledger.attempt WHERE error = 'dns_error'")
                arrived = there.arrivals()
                found = await it.rows("SELECT DISTINCT error FROM hookledger.attempt WHERE error IS NOT NULL")
    before_p99, beside_p99 = percentile(before, 0.99), percentile(beside, 0.99)
    report.add("tar pits asked for", sum(name.endswith("pit.com") for name in server.asked), at_least=PITS)
    report.add("other errors than dns_error", len(found) - 1, at_most=0)
    report.add("requests to a tar pit", sum(one.path == "/pit" for one in arrived), at_most=0)
    report.add("p99 of the other before", before_p99 * 1000, "ms")
    report.add("p99 of the other, more by", (beside_p99 - before_p99) * 1000, "ms", at_most=100, tolerated=3500)
    report.verify()


async def _latencies(
    it: PipelineProcess, there: RecordingReceiver, load: Load, types: Sequence[str], events: int
) -> list[float]:
    """Seconds from the call of publish until arrival."""
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
