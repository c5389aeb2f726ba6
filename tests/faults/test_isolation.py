"""One route dead and one slow among many: the others do not notice.

Latency is from asking to publish until arrival, throughput that of a backlog; both are compared with those of the same
routes, in the same daemon, just before two receivers went bad. Machines are noisy, above all those that others use too:
exact ratios are the business of `python -m tests.benchmarks isolation`, here a held-up route must show.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from tests.benchmarks.verdicts import percentile
from tests.support.figures import Figures
from tests.support.producer import Publication
from tests.support.reckoning import Pair
from tests.support.stage import Stage
from tests.support.witness import DEAD, slow

NOISE_SECONDS = 0.25
PATIENCE_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    routes: int
    slow_seconds: float
    events: int
    per_second: int
    backlog: int


QUICK = Load(routes=20, slow_seconds=3, events=400, per_second=200, backlog=1_000)
LONG = Load(routes=100, slow_seconds=14, events=9_000, per_second=300, backlog=20_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    p99_seconds: float
    per_second: float


async def test_one_dead_and_one_slow_route_among_many(ground: Stage, figures: Figures, is_long: bool) -> None:
    load = LONG if is_long else QUICK
    paths = [f"/{number}" for number in range(load.routes)]
    bad, good = paths[:2], paths[2:]
    async with ground.daemon():
        await asyncio.gather(*(ground.route(path, f"load.r{path[1:]}") for path in paths))
        ground.producer.types = [f"load.r{path[1:]}" for path in paths]
        await ground.producer.publish(load.routes * 3)  # keys, connections and code paths, all for the first time
        await _until_taken(ground, good, _wanted(ground, good))
        before = await _measure(ground, load, good)
        ground.witness.behave(bad[0], DEAD)
        ground.witness.behave(bad[1], slow(load.slow_seconds))
        beside = await _measure(ground, load, good)
        found = await ground.reckoning(good)
    figures.say("routes", load.routes)
    figures.reckon(found, duplicates_at_most=0)
    figures.say("p99 of the others before", before.p99_seconds * 1000, "ms")
    figures.say("p99 of the others beside", beside.p99_seconds * 1000, "ms")
    figures.say(
        "p99, as a multiple",
        beside.p99_seconds / before.p99_seconds,
        "x",
        at_most=2,
        forgiven=5 + NOISE_SECONDS / before.p99_seconds,
    )
    figures.say("throughput before", before.per_second, "/s")
    figures.say(
        "throughput beside", beside.per_second / before.per_second, "x", at_least=0.95, forgiven=0.4
    )  # fmt: skip
    figures.hold()


async def _measure(ground: Stage, load: Load, good: list[str]) -> Measured:
    """A steady load, then a backlog."""
    at_first = ground.witness.arrivals()
    async with ground.producer.load(per_second=load.per_second):
        await ground.until_arrived(len(at_first) + load.events, seconds=PATIENCE_SECONDS)
    await _until_taken(ground, good, _wanted(ground, good))
    arrived = [one for one in ground.witness.arrivals()[len(at_first) :] if one.path in good]
    p99 = percentile([one.at - ground.producer.log[one.event_id].asked_at for one in arrived], 0.99)
    known = ground.witness.count
    await asyncio.gather(*(ground.producer.insist(ground.producer.made(1000)) for _ in range(load.backlog // 1000)))
    await _until_taken(ground, good, _wanted(ground, good))
    times = [one.at for one in ground.witness.arrivals()[known:] if one.path in good]
    return Measured(p99_seconds=p99, per_second=(len(times) - 1) / (max(times) - min(times)))


def _wanted(ground: Stage, good: list[str]) -> set[Pair]:
    routes = [route for route in ground.routes if route.path in good]
    by_type: dict[str, list[Publication]] = {}
    for event in ground.producer.log.values():
        by_type.setdefault(event.type, []).append(event)
    return {(route.path, event.id) for route in routes for event in by_type.get(route.types[0], ())}


async def _until_taken(ground: Stage, good: list[str], wanted: set[Pair]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while wanted - {(one.path, one.event_id) for one in ground.witness.arrivals() if one.path in good}:
            await asyncio.sleep(0.05)
