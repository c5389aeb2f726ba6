"""What those routes get that nothing was done to: their latency under a steady load, their throughput of a backlog.

Latency is from asking to publish until arrival, so it contains everything that a producer and a receiver can notice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from tests.benchmarks.verdicts import percentile
from tests.support.producer import Publication
from tests.support.reckoning import Pair
from tests.support.stage import Stage

MAX_QUEUED_SECONDS = 60
BATCH = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """`events` at so many `per_second`, then a `backlog` as fast as it goes; over all routes, good or bad."""

    events: int
    per_second: int
    backlog: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    p99_seconds: float
    per_second: float


async def measure(ground: Stage, load: Load, good: Sequence[str]) -> Measured:
    """A steady load, then a backlog; of the routes with the paths `good`."""
    at_first = ground.witness.arrivals()
    async with ground.producer.load(per_second=load.per_second):
        await ground.until_arrived(len(at_first) + load.events, seconds=MAX_QUEUED_SECONDS)
    await until_taken(ground, good)
    arrived = [one for one in ground.witness.arrivals()[len(at_first) :] if one.path in good]
    p99 = percentile([one.at - ground.producer.log[one.event_id].asked_at for one in arrived], 0.99)
    known = ground.witness.count
    await asyncio.gather(*(ground.producer.insist(ground.producer.made(BATCH)) for _ in range(load.backlog // BATCH)))
    await until_taken(ground, good)
    times = [one.at for one in ground.witness.arrivals()[known:] if one.path in good]
    return Measured(p99_seconds=p99, per_second=(len(times) - 1) / (max(times) - min(times)))


async def until_taken(ground: Stage, good: Sequence[str]) -> None:
    """Waits until all that was published for these routes has been answered with 2xx or will be."""
    wanted = _wanted(ground, good)
    async with asyncio.timeout(MAX_QUEUED_SECONDS):
        while wanted - {(one.path, one.event_id) for one in ground.witness.arrivals() if one.path in good}:
            await asyncio.sleep(0.05)


def _wanted(ground: Stage, good: Sequence[str]) -> set[Pair]:
    routes = [route for route in ground.routes if route.path in good]
    by_type: dict[str, list[Publication]] = {}
    for event in ground.producer.log.values():
        by_type.setdefault(event.type, []).append(event)
    return {(route.path, event.id) for route in routes for event in by_type.get(route.types[0], ())}
