"""What well-behaved tenants see: the time of a publish request and the time until arrival, before and beside a trouble.

Both are measured in one run of the same daemon, since the machine's own noise is larger than what is looked for.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from tests.benchmarks.results import percentile
from tests.support.faults.report import FaultReport
from tests.support.faults.system_under_test import SystemUnderTest
from tests.support.until import until

PER_SECOND = 100
# Below this a ratio says nothing on a shared machine.
NOISE_SECONDS = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    publish_p99_seconds: float
    delivery_p99_seconds: float


async def seen_by_others(system: SystemUnderTest, events: int) -> Seen:
    """Publishes events of the others at a steady rate until they have arrived."""
    known, answered = len(system.receiver.arrivals()), len(system.producer.answers)
    mine = set(system.producer.log)
    async with system.producer.load(per_second=PER_SECOND, batch=2):
        await until(lambda: len(system.producer.log) >= len(mine) + events, seconds=120)
    published = set(system.producer.log) - mine
    deadline = time.monotonic() + 60
    while published - {one.event_id for one in system.receiver.arrivals()[known:]}:
        assert time.monotonic() < deadline, "an event of another tenant did not arrive within 60 s"
        await asyncio.sleep(0.05)
    arrived = [one for one in system.receiver.arrivals()[known:] if one.event_id in published]
    return Seen(
        publish_p99_seconds=percentile([each.seconds for each in system.producer.answers[answered:]], 0.99),
        delivery_p99_seconds=percentile([a.at - system.producer.log[a.event_id].asked_at for a in arrived], 0.99),
    )


def compare(report: FaultReport, before: Seen, beside: Seen) -> None:
    """Adds both to the table; the times beside the trouble may be twice those before."""
    for name, first, second in (
        ("publish p99", before.publish_p99_seconds, beside.publish_p99_seconds),
        ("delivery p99", before.delivery_p99_seconds, beside.delivery_p99_seconds),
    ):
        report.add(f"{name} of the others before", first * 1000, "ms")
        report.add(f"{name} of the others beside", second * 1000, "ms")
        report.add(f"{name}, as a multiple", second / first, "x", at_most=2, tolerated=5 + NOISE_SECONDS / first)
