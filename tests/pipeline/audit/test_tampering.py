"""An audit finds single changes by somebody who may write to the database, and names what is wrong first.

One history stands for all of them: each change is made with the triggers off, found, and taken back.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio

from daemon import audit
from daemon.audit import AuditFinding, AuditReport
from daemon.keys import Vault
from eventstore.postgres.connect import Database
from tests.support.audited_history import SCHEDULE, audited_history
from tests.support.databases import of_database, temporary_database

pytestmark = pytest.mark.asyncio(loop_scope="session")


@dataclass
class Tampered:
    url: str
    database: Database
    sql: asyncpg.Connection
    routes: dict[str, UUID]

    async def report(self) -> AuditReport:
        return await audit.audit(
            self.database,
            start=datetime(1970, 1, 1, tzinfo=UTC),
            end=datetime(9999, 1, 1, tzinfo=UTC),
            schedule=SCHEDULE,
            vault=Vault([b"k" * 32]),
        )


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def it(postgres_url: str, administrator: asyncpg.Connection, template_database: str) -> AsyncIterator[Tampered]:
    async with temporary_database(administrator, "history", template=template_database) as name:
        url = of_database(postgres_url, name)
        routes = await audited_history(url)
        database, sql = Database(url, pool_size=4), await asyncpg.connect(url)
        await database.open()
        await sql.execute("SET session_replication_role = replica; SET search_path = hookledger; CREATE SCHEMA saved")
        yield Tampered(url, database, sql, routes)
        await sql.close()
        await database.close()


async def test_an_untouched_history_has_no_finding_and_no_gap(it: Tampered) -> None:
    report = await it.report()
    for t in ("attempt", "retry", "parked", "parked_range"):
        for r in await it.sql.fetch(f"SELECT * FROM {t}"):
            print(t, dict(r))
    assert (report.findings, report.gaps) == ([], [])
    assert report.deliveries > 30
