"""SIGKILL of all of PostgreSQL while the daemon stays: acknowledged events survive, and the daemon resumes by itself."""

from __future__ import annotations

import asyncio
import random
import time

from tests.support.faults.report import FaultReport
from tests.support.faults.system_under_test import SystemUnderTest
from tests.support.postgres.cluster import Cluster
from tests.support.until import until

RESUME_SECONDS = 5


async def test_a_database_killed_under_load(
    server: Cluster, system_on_own_server: SystemUnderTest, report: FaultReport, dice: random.Random, is_long: bool
) -> None:
    system, kills = system_on_own_server, 10 if is_long else 1
    resumed: list[float] = []
    health: list[int | None] = []
    async with system.daemon():
        for tenant in ("acme", "bella"):
            await system.route(f"/{tenant}", tenant=tenant)
        system.producer.tenants = ("acme", "bella")
        async with system.producer.load(per_second=300):
            for _ in range(kills):
                await system.until_more(dice.randint(20, 300))
                server.kill()
                await _until_unready(system)
                health.append(await system.status("/healthz"))
                before = len(system.producer.refusals())
                await until(lambda before=before: len(system.producer.refusals()) > before, seconds=30)  # type: ignore[misc] # mypy cannot infer a default
                server.start()
                back_at = time.monotonic()
                resumed.append((await system.until_more()).at - back_at)
        await system.until_settled()
        assert await system.status("/readyz") == 200
    report.add("kills", kills)
    report.add_check(await system.check_deliveries())
    report.add("events stored twice", await system.events_stored_twice(), at_most=0)
    report.add_duration("deliveries resume after", max(resumed), within=RESUME_SECONDS)
    report.add("healthz other than 200", sum(status != 200 for status in health), at_most=0)
    report.verify()


async def _until_unready(system: SystemUnderTest) -> None:
    async with asyncio.timeout(30):
        while await system.status("/readyz") != 503:
            await asyncio.sleep(0.02)
