"""SIGTERM under load: requests in flight are finished and recorded, so nothing is lost and nothing is sent twice.

In each run of the daemon a route is disabled and enabled again: events that happened in between must never arrive.
"""

from __future__ import annotations

import random
import time
from contextlib import AsyncExitStack

from tests.support.faults.report import FaultReport
from tests.support.faults.system_under_test import SystemUnderTest

TIMEOUT_SECONDS = 5
TENANTS = ("acme", "bella", "cyan", "dove")


async def test_a_daemon_stopped_under_load(
    system: SystemUnderTest, report: FaultReport, dice: random.Random, is_long: bool
) -> None:
    stops = 20 if is_long else 2
    codes: list[int] = []
    took: list[float] = []
    system.producer.tenants = TENANTS
    async with AsyncExitStack() as load:
        for number in range(stops + 1):
            async with system.daemon(HOOKLEDGER_DELIVERY__TIMEOUT_SECONDS=str(TIMEOUT_SECONDS)) as daemon:
                if number == 0:
                    for tenant in TENANTS:
                        await system.route(f"/{tenant}", tenant=tenant)
                    await load.enter_async_context(system.producer.load(per_second=400))
                if number == stops:
                    await load.aclose()
                    await system.until_settled()
                    await system.learn_windows()
                    break
                await system.close_and_open(system.routes[number % len(TENANTS)])
                await system.until_more(dice.randint(50, 400))
                began = time.monotonic()
                codes.append(await daemon.stop())
                took.append(time.monotonic() - began)
    report.add("stops", stops)
    report.add_check(await system.check_deliveries(), duplicates_at_most=0)
    report.add("exit codes other than 0", sum(code != 0 for code in codes), at_most=0)
    report.add_duration("slowest stop", max(took), within=TIMEOUT_SECONDS + 5)
    report.verify()
