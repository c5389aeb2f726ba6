"""SIGKILL of all PostgreSQL while the daemon stays: what was acknowledged is there again, and all goes on by itself."""

from __future__ import annotations

import asyncio
import random
import time

from tests.support.cluster import Cluster
from tests.support.figures import Figures
from tests.support.stage import Stage
from tests.support.until import until

RESUME_SECONDS = 5


async def test_a_database_killed_under_load(
    server: Cluster, shaky_ground: Stage, figures: Figures, dice: random.Random, is_long: bool
) -> None:
    ground, kills = shaky_ground, 10 if is_long else 1
    resumed: list[float] = []
    health: list[int | None] = []
    async with ground.daemon():
        for tenant in ("acme", "bella"):
            await ground.route(f"/{tenant}", tenant=tenant)
        ground.producer.tenants = ("acme", "bella")
        async with ground.producer.load(per_second=300):
            for _ in range(kills):
                await ground.until_more(dice.randint(20, 300))
                server.kill()
                await _until_unready(ground)
                health.append(await ground.status("/healthz"))
                before = len(ground.producer.refusals())
                await until(lambda before=before: len(ground.producer.refusals()) > before, seconds=30)  # type: ignore[misc] # mypy cannot infer a default
                server.start()
                back_at = time.monotonic()
                resumed.append((await ground.until_more()).at - back_at)
        await ground.until_settled()
        assert await ground.status("/readyz") == 200
    figures.say("kills", kills)
    figures.reckon(await ground.reckoning())
    figures.say("events stored twice", await ground.events_stored_twice(), at_most=0)
    figures.time("deliveries resume after", max(resumed), within=RESUME_SECONDS)
    figures.say("healthz other than 200", sum(status != 200 for status in health), at_most=0)
    figures.hold()


async def _until_unready(ground: Stage) -> None:
    async with asyncio.timeout(30):
        while await ground.status("/readyz") != 503:
            await asyncio.sleep(0.02)
