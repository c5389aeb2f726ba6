"""One route dead and one slow among many: the others do not notice.

Latency is from asking to publish until arrival, throughput that of a backlog; both are compared with those of the same
routes, in the same daemon, just before two receivers went bad. Machines are noisy, above all those that others use too:
exact ratios are the business of `python -m tests.benchmarks isolation`, here a held-up route must show.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from tests.support.figures import Figures
from tests.support.measuring import Load, measure, until_taken
from tests.support.stage import Stage
from tests.support.witness import DEAD, slow

NOISE_SECONDS = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    routes: int
    slow_seconds: float
    load: Load


QUICK = Scene(routes=20, slow_seconds=3, load=Load(events=400, per_second=200, backlog=1_000))
LONG = Scene(routes=100, slow_seconds=14, load=Load(events=9_000, per_second=300, backlog=20_000))


async def test_one_dead_and_one_slow_route_among_many(ground: Stage, figures: Figures, is_long: bool) -> None:
    scene = LONG if is_long else QUICK
    paths = [f"/{number}" for number in range(scene.routes)]
    bad, good = paths[:2], paths[2:]
    async with ground.daemon():
        await asyncio.gather(*(ground.route(path, f"load.r{path[1:]}") for path in paths))
        ground.producer.types = [f"load.r{path[1:]}" for path in paths]
        await ground.producer.publish(scene.routes * 3)  # keys, connections and code paths, all for the first time
        await until_taken(ground, good)
        before = await measure(ground, scene.load, good)
        ground.witness.behave(bad[0], DEAD)
        ground.witness.behave(bad[1], slow(scene.slow_seconds))
        beside = await measure(ground, scene.load, good)
        found = await ground.reckoning(good)
    figures.say("routes", scene.routes)
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
