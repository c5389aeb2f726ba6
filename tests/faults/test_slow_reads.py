"""Reads that take long, or never end, keep no delivery, publish or command waiting, and are answered.

A lock on the counts of routes makes reads of metrics wait as if they were slow: nothing that delivers reads them.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import aiohttp
import asyncpg

from tests.support.faults.report import FaultReport
from tests.support.faults.system_under_test import SystemUnderTest

READERS = 24
EVENTS = 200


async def test_slow_reads_stop_no_delivery(system: SystemUnderTest, report: FaultReport, database_url: str) -> None:
    async with system.daemon(HOOKLEDGER_DATABASE__POOL_SIZE="8"):
        routes = [await system.route(f"/{tenant}", tenant=tenant) for tenant in ("acme", "beta")]
        locking = await asyncpg.connect(database_url)
        await locking.execute("BEGIN; LOCK TABLE hookledger.route_metric IN ACCESS EXCLUSIVE MODE")
        answers: list[int] = []

        async def read(number: int) -> None:
            route = routes[number % len(routes)]
            while True:
                with suppress(aiohttp.ClientError):
                    async with system.session.get(
                        f"{system.url}/v1/tenants/{route.tenant}/routes/{route.id}/metrics"
                    ) as answer:
                        answers.append(answer.status)

        async with asyncio.TaskGroup() as group:
            readers = [group.create_task(read(number)) for number in range(READERS)]
            await system.until_row(
                "SELECT count(*) >= 4 FROM pg_locks WHERE NOT granted AND relation = 'hookledger.route_metric'::regclass"
            )
            await system.producer.publish(EVENTS)
            await system.until_arrived(EVENTS)
            await system.ask("PATCH", f"/v1/tenants/acme/routes/{routes[0].id}", {"name": "still takes commands"})
            await system.until_accounted()
            assert await system.status("/readyz") == 200
            async with asyncio.timeout(20):
                while len(answers) < READERS:
                    await asyncio.sleep(0.1)
            for reader in readers:
                reader.cancel()
        await locking.execute("ROLLBACK")
        await locking.close()
        report.add_check(await system.check_deliveries(), duplicates_at_most=0)
    assert set(answers) == {503}
    report.verify()
