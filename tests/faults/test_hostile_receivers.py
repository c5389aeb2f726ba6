"""A tenth of the receivers is hostile in every way: the other routes stay fast, and the daemon's memory stays bounded.

Each hostile receiver misbehaves differently on every connection (tests/data/hostile_responses.json). Some of these
answers count as success, so breakers do not stop the requests.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.benchmarks.meter import rss_bytes
from tests.support.faults.measuring import Load, measure, until_accepted
from tests.support.faults.report import FaultReport
from tests.support.faults.system_under_test import SystemUnderTest
from tests.support.receivers.hostile_process import hostile_receivers

MIB = 1024 * 1024
NOISE_SECONDS = 0.25
LAG_LIMIT = "0.05"
WATCH_SECONDS = 0.05
_KINDS = "count(DISTINCT split_part(error, '_', 1))"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    routes: int
    timeout_seconds: float
    load: Load


QUICK = Plan(routes=20, timeout_seconds=2, load=Load(events=400, per_second=260, backlog=1_000))
"""Each hostile receiver gets 70 requests, more than there are kinds of misbehaviour."""
LONG = Plan(routes=100, timeout_seconds=15, load=Load(events=20_000, per_second=300, backlog=20_000))


async def test_a_tenth_of_the_receivers_is_hostile(system: SystemUnderTest, report: FaultReport, is_long: bool) -> None:
    plan = LONG if is_long else QUICK
    paths = [f"/{number}" for number in range(plan.routes)]
    bad, good = paths[: plan.routes // 10], paths[plan.routes // 10 :]
    settings = {"HOOKLEDGER_DELIVERY__TIMEOUT_SECONDS": str(plan.timeout_seconds)}
    with hostile_receivers(len(bad)) as urls:
        async with system.daemon(**settings) as daemon:
            await asyncio.gather(*(system.route(path, f"load.r{path[1:]}") for path in paths))
            system.producer.types = [f"load.r{path[1:]}" for path in paths]
            await system.producer.publish(plan.routes * 3)  # warms up keys, connections and code paths
            await until_accepted(system, good)
            before = await measure(system, plan.load, good)
            for route, url in zip((each for each in system.routes if each.path in bad), urls, strict=True):
                await system.ask("PATCH", f"/v1/tenants/{route.tenant}/routes/{route.id}", {"target_url": url})
            lag, memory = await _late(system), rss_bytes(daemon.process.pid)
            async with _highest(daemon.process.pid) as highest:
                beside = await measure(system, plan.load, good)
            await system.until_row(f"SELECT {_KINDS} >= 5 FROM hookledger.attempt")
            lag = [now - then for now, then in zip(await _late(system), lag, strict=True)]
        found = await system.check_deliveries(good)
    report.add_check(found, duplicates_at_most=0)
    report.add("kinds of failures", await system.value(f"SELECT {_KINDS} FROM hookledger.attempt"), at_least=5)
    report.add("memory, more by at most", max(0, max(highest) - memory) / MIB, "MiB", at_most=50)
    report.add("loop lag above 50 ms", 100 * lag[1] / lag[0], "%", at_most=1, tolerated=50)
    report.add("p99 of the others before", before.p99_seconds * 1000, "ms")
    report.add("p99 of the others beside", beside.p99_seconds * 1000, "ms")
    report.add(
        "p99, as a multiple",
        beside.p99_seconds / before.p99_seconds,
        "x",
        at_most=2,
        tolerated=5 + NOISE_SECONDS / before.p99_seconds,
    )
    report.add("throughput beside", beside.per_second / before.per_second, "x", at_least=0.9, tolerated=0.3)
    report.verify()


async def _late(system: SystemUnderTest) -> list[float]:
    """How often the daemon has measured the lag of its event loop, and how often that was more than 50 ms."""
    async with system.session.get(system.url + "/metrics") as response:
        text = await response.text()
    name = "hookledger_event_loop_lag_seconds"
    counts = [
        float(re.search(rf"^{name}_{sample} (\S+)$", text, re.MULTILINE)[1])  # type: ignore[index]  # the metric exists
        for sample in ("count", rf'bucket\{{le="{LAG_LIMIT}"\}}')
    ]
    return [counts[0], counts[0] - counts[1]]


@asynccontextmanager
async def _highest(pid: int) -> AsyncIterator[list[int]]:
    """Samples the memory of the process in bytes until the end of the block."""
    seen = [rss_bytes(pid)]

    async def watch() -> None:
        while True:
            seen.append(rss_bytes(pid))
            await asyncio.sleep(WATCH_SECONDS)

    async with asyncio.TaskGroup() as group:
        watching = group.create_task(watch())
        try:
            yield seen
        finally:
            watching.cancel()
