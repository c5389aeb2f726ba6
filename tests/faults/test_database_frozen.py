"""SIGSTOP of PostgreSQL: it accepts and never answers. Producers get 503 in time, and the daemon resumes by itself."""

from __future__ import annotations

import asyncio
import time

from tests.support.faults.report import FaultReport
from tests.support.faults.system_under_test import SystemUnderTest
from tests.support.postgres.cluster import Cluster

ANSWER_SECONDS = 3
RESUME_SECONDS = 5


async def test_a_database_frozen_under_load(
    server: Cluster, system_on_own_server: SystemUnderTest, report: FaultReport, is_long: bool
) -> None:
    system, frozen_seconds = system_on_own_server, 30 if is_long else 4
    async with system.daemon():
        await system.route("/acme")
        async with system.producer.load(per_second=200):
            await system.until_more(100)
            server.freeze()
            frozen_at = time.monotonic()
            try:
                await asyncio.sleep(frozen_seconds)  # this waits for nothing: it is the duration of the fault
                ready, alive = await system.status("/readyz"), await system.status("/healthz")
            finally:
                server.thaw()
            thawed_at = time.monotonic()
            resumed = (await system.until_more()).at - thawed_at
        await system.until_settled()
    answers = [each for each in system.producer.answers if frozen_at < each.at < thawed_at and each.seconds > 1]
    report.add("frozen for", frozen_seconds, "s")
    report.add_check(await system.check_deliveries())
    report.add("refused meanwhile", len(answers), at_least=1)
    report.add("answers other than 503", sum(each.status != 503 for each in answers), at_most=0)
    report.add_duration("slowest 503", max(each.seconds for each in answers), within=ANSWER_SECONDS)
    report.add_duration("deliveries resume after", resumed, within=RESUME_SECONDS)
    report.add("events stored twice", await system.events_stored_twice(), at_most=0)
    assert (ready, alive) == (503, 200)
    report.verify()
