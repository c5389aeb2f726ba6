"""Measures the routes that no fault affects: their latency under a steady load, their throughput of a backlog.

Latency is from the publish request until arrival, so it contains all delays between producer and receiver.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from tests.benchmarks.results import percentile
from tests.support.faults.delivery_check import PathAndEvent
from tests.support.faults.producer import Publication
from tests.support.faults.system_under_test import SystemUnderTest

MAX_QUEUED_SECONDS = 60
BATCH = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """First `events` at `per_second`, then `backlog` events as fast as possible. All routes share them."""

    events: int
    per_second: int
    backlog: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    p99_seconds: float
    per_second: float


async def measure(system: SystemUnderTest, load: Load, good: Sequence[str]) -> Measured:
    """Runs a steady load and then a backlog. Measures the routes with the paths `good`."""
    at_first = system.receiver.arrivals()
    async with system.producer.load(per_second=load.per_second):
        await system.until_arrived(len(at_first) + load.events, seconds=MAX_QUEUED_SECONDS)
    await until_accepted(system, good)
    arrived = [one for one in system.receiver.arrivals()[len(at_first) :] if one.path in good]
    p99 = percentile([one.at - system.producer.log[one.event_id].asked_at for one in arrived], 0.99)
    known = system.receiver.count
    await asyncio.gather(
        *(
            system.producer.publish_until_answered(system.producer.new_events(BATCH))
            for _ in range(load.backlog // BATCH)
        )
    )
    await until_accepted(system, good)
    times = [one.at for one in system.receiver.arrivals()[known:] if one.path in good]
    return Measured(p99_seconds=p99, per_second=(len(times) - 1) / (max(times) - min(times)))


async def until_accepted(system: SystemUnderTest, good: Sequence[str]) -> None:
    """Waits until every event for these routes has arrived and been accepted."""
    wanted = _wanted(system, good)
    async with asyncio.timeout(MAX_QUEUED_SECONDS):
        while wanted - {(one.path, one.event_id) for one in system.receiver.arrivals() if one.path in good}:
            await asyncio.sleep(0.05)


def _wanted(system: SystemUnderTest, good: Sequence[str]) -> set[PathAndEvent]:
    routes = [route for route in system.routes if route.path in good]
    by_type: dict[str, list[Publication]] = {}
    for event in system.producer.log.values():
        by_type.setdefault(event.type, []).append(event)
    return {(route.path, event.id) for route in routes for event in by_type.get(route.types[0], ())}
