"""SIGSTOP of PostgreSQL: it accepts and never answers. Producers are told so in time, and all goes on by itself."""

from __future__ import annotations

import asyncio
import time

from tests.support.cluster import Cluster
from tests.support.figures import Figures
from tests.support.stage import Stage

ANSWER_SECONDS = 3
RESUME_SECONDS = 5


async def test_a_database_frozen_under_load(
    server: Cluster, shaky_ground: Stage, figures: Figures, is_long: bool
) -> None:
    ground, frozen_seconds = shaky_ground, 30 if is_long else 4
    async with ground.daemon():
        await ground.route("/acme")
        async with ground.producer.load(per_second=200):
            await ground.until_more(100)
            server.freeze()
            frozen_at = time.monotonic()
            try:
                await asyncio.sleep(frozen_seconds)  # not to wait for anything: the fault lasts so long
                ready, alive = await ground.status("/readyz"), await ground.status("/healthz")
            finally:
                server.thaw()
            thawed_at = time.monotonic()
            resumed = (await ground.until_more()).at - thawed_at
        await ground.until_settled()
    answers = [each for each in ground.producer.answers if frozen_at < each.at < thawed_at and each.seconds > 1]
    figures.say("frozen for", frozen_seconds, "s")
    figures.reckon(await ground.reckoning())
    figures.say("refused meanwhile", len(answers), at_least=1)
    figures.say("answers other than 503", sum(each.status != 503 for each in answers), at_most=0)
    figures.time("slowest 503", max(each.seconds for each in answers), within=ANSWER_SECONDS)
    figures.time("deliveries resume after", resumed, within=RESUME_SECONDS)
    figures.say("events stored twice", await ground.events_stored_twice(), at_most=0)
    assert (ready, alive) == (503, 200)
    figures.hold()
