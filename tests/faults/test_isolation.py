"""One route is dead and one is slow among many: the others stay fast.

Latency is from the publish request until arrival; throughput is that of a backlog. Both are compared with the same
routes in the same daemon just before two receivers went bad. Shared machines are noisy, so this test finds only a
route that is held up; `python -m tests.benchmarks isolation` measures exact ratios.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from tests.support.faults.measuring import Load, measure, until_accepted
from tests.support.faults.report import FaultReport
from tests.support.faults.system_under_test import SystemUnderTest
from tests.support.receivers.recording_receiver import DEAD, slow

# Beside other work the quick version finds only a route that waits for the slow one, which answers after 3 s.
NOISE_SECONDS = 2.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    routes: int
    slow_seconds: float
    load: Load


QUICK = Plan(routes=20, slow_seconds=3, load=Load(events=400, per_second=200, backlog=1_000))
LONG = Plan(routes=100, slow_seconds=14, load=Load(events=9_000, per_second=300, backlog=20_000))


async def test_one_dead_and_one_slow_route_among_many(
    system: SystemUnderTest, report: FaultReport, is_long: bool
) -> None:
    plan = LONG if is_long else QUICK
    paths = [f"/{number}" for number in range(plan.routes)]
    bad, good = paths[:2], paths[2:]
    async with system.daemon():
        await asyncio.gather(*(system.route(path, f"load.r{path[1:]}") for path in paths))
        system.producer.types = [f"load.r{path[1:]}" for path in paths]
        await system.producer.publish(plan.routes * 3)  # warms up keys, connections and code paths
        await until_accepted(system, good)
        before = await measure(system, plan.load, good)
        system.receiver.behave(bad[0], DEAD)
        system.receiver.behave(bad[1], slow(plan.slow_seconds))
        beside = await measure(system, plan.load, good)
        found = await system.check_deliveries(good)
    report.add("routes", plan.routes)
    report.add_check(found, duplicates_at_most=0)
    report.add("p99 of the others before", before.p99_seconds * 1000, "ms")
    report.add("p99 of the others beside", beside.p99_seconds * 1000, "ms")
    report.add(
        "p99, as a multiple",
        beside.p99_seconds / before.p99_seconds,
        "x",
        at_most=2,
        tolerated=5 + NOISE_SECONDS / before.p99_seconds,
    )
    report.add("throughput before", before.per_second, "/s")
    report.add(
        "throughput beside", beside.per_second / before.per_second, "x", at_least=0.95, tolerated=0.1
    )  # fmt: skip
    report.verify()
