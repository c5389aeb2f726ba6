"""A tenth of the receivers is hostile, in every way at once: the others do not notice, nor does the daemon's memory.

Each hostile receiver misbehaves differently on every connection (tests/data/hostile_responses.json), and some of that
passes for success: so breakers do not put an end to it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.benchmarks.meter import rss_bytes
from tests.support.figures import Figures
from tests.support.hostile_farm import farm
from tests.support.measuring import Load, measure, until_taken
from tests.support.stage import Stage

MIB = 1024 * 1024
NOISE_SECONDS = 0.25
LAG_LIMIT = "0.05"
WATCH_SECONDS = 0.05
_KINDS = "count(DISTINCT split_part(error, '_', 1))"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    routes: int
    timeout_seconds: float
    load: Load


QUICK = Scene(routes=20, timeout_seconds=2, load=Load(events=400, per_second=260, backlog=1_000))
"""Each hostile receiver gets 70 requests, more than there are ways to misbehave."""
LONG = Scene(routes=100, timeout_seconds=15, load=Load(events=20_000, per_second=300, backlog=20_000))


async def test_a_tenth_of_the_receivers_is_hostile(ground: Stage, figures: Figures, is_long: bool) -> None:
    scene = LONG if is_long else QUICK
    paths = [f"/{number}" for number in range(scene.routes)]
    bad, good = paths[: scene.routes // 10], paths[scene.routes // 10 :]
    settings = {"HOOKLEDGER_DELIVERY__TIMEOUT_SECONDS": str(scene.timeout_seconds)}
    with farm(len(bad)) as urls:
        async with ground.daemon(**settings) as daemon:
            await asyncio.gather(*(ground.route(path, f"load.r{path[1:]}") for path in paths))
            ground.producer.types = [f"load.r{path[1:]}" for path in paths]
            await ground.producer.publish(scene.routes * 3)  # keys, connections and code paths, all for the first time
            await until_taken(ground, good)
            before = await measure(ground, scene.load, good)
            for route, url in zip((each for each in ground.routes if each.path in bad), urls, strict=True):
                await ground.ask("PATCH", f"/v1/tenants/{route.tenant}/routes/{route.id}", {"target_url": url})
            lag, memory = await _late(ground), rss_bytes(daemon.process.pid)
            async with _highest(daemon.process.pid) as highest:
                beside = await measure(ground, scene.load, good)
            await ground.until_row(f"SELECT {_KINDS} >= 5 FROM hookledger.attempt")
            lag = [now - then for now, then in zip(await _late(ground), lag, strict=True)]
        found = await ground.reckoning(good)
    figures.reckon(found, duplicates_at_most=0)
    figures.say("kinds of failures", await ground.value(f"SELECT {_KINDS} FROM hookledger.attempt"), at_least=5)
    figures.say("memory, more by at most", max(0, max(highest) - memory) / MIB, "MiB", at_most=50)
    figures.say("loop lag above 50 ms", 100 * lag[1] / lag[0], "%", at_most=1, forgiven=50)
    figures.say("p99 of the others before", before.p99_seconds * 1000, "ms")
    figures.say("p99 of the others beside", beside.p99_seconds * 1000, "ms")
    figures.say(
        "p99, as a multiple",
        beside.p99_seconds / before.p99_seconds,
        "x",
        at_most=2,
        forgiven=5 + NOISE_SECONDS / before.p99_seconds,
    )
    figures.say("throughput beside", beside.per_second / before.per_second, "x", at_least=0.9, forgiven=0.3)
    figures.hold()


async def _late(ground: Stage) -> list[float]:
    """How often the daemon has looked how late its loop runs, and how often that was more than 50 ms."""
    async with ground.session.get(ground.url + "/metrics") as response:
        text = await response.text()
    name = "hookledger_event_loop_lag_seconds"
    counts = [
        float(re.search(rf"^{name}_{sample} (\S+)$", text, re.MULTILINE)[1])  # type: ignore[index]  # it is there
        for sample in ("count", rf'bucket\{{le="{LAG_LIMIT}"\}}')
    ]
    return [counts[0], counts[0] - counts[1]]


@asynccontextmanager
async def _highest(pid: int) -> AsyncIterator[list[int]]:
    """What the process's memory was, one moment after the other."""
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
