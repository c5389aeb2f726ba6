"""SIGTERM under load: what is under way is finished and recorded, so nothing is lost and nothing comes twice.

In each life of the daemon a route is disabled and enabled again: what happened in between must not arrive, ever.
"""

from __future__ import annotations

import random
import time
from contextlib import AsyncExitStack

from tests.support.figures import Figures
from tests.support.stage import Stage

TIMEOUT_SECONDS = 5
TENANTS = ("acme", "bella", "cyan", "dove")


async def test_a_daemon_stopped_under_load(ground: Stage, figures: Figures, dice: random.Random, is_long: bool) -> None:
    stops = 20 if is_long else 2
    codes: list[int] = []
    took: list[float] = []
    ground.producer.tenants = TENANTS
    async with AsyncExitStack() as load:
        for number in range(stops + 1):
            async with ground.daemon(HOOKLEDGER_DELIVERY__TIMEOUT_SECONDS=str(TIMEOUT_SECONDS)) as daemon:
                if number == 0:
                    for tenant in TENANTS:
                        await ground.route(f"/{tenant}", tenant=tenant)
                    await load.enter_async_context(ground.producer.load(per_second=400))
                if number == stops:
                    await load.aclose()
                    await ground.until_settled()
                    await ground.learn_windows()
                    break
                await ground.close_and_open(ground.routes[number % len(TENANTS)])
                await ground.until_more(dice.randint(50, 400))
                began = time.monotonic()
                codes.append(await daemon.stop())
                took.append(time.monotonic() - began)
    figures.say("stops", stops)
    figures.reckon(await ground.reckoning(), duplicates_at_most=0)
    figures.say("exit codes other than 0", sum(code != 0 for code in codes), at_most=0)
    figures.time("slowest stop", max(took), within=TIMEOUT_SECONDS + 5)
    figures.hold()
