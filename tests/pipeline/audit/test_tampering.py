"""An audit finds single changes by somebody who may write to the database, and names what is wrong first.

One history stands for all of them: each change is made with the triggers off, found, and taken back.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest
import pytest_asyncio

from daemon import audit
from daemon.audit import AuditReport
from daemon.credentials.keys import Vault
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import StoreError
from eventstore.retention.retention import Keep
from tests.support.audit.history import SCHEDULE, audited_history
from tests.support.audit.tamperings import TAMPERINGS, Tampering
from tests.support.postgres.databases import of_database, temporary_database

pytestmark = pytest.mark.asyncio(loop_scope="session")

_TABLES = re.compile(r"(?:UPDATE|DELETE FROM|INSERT INTO) (\w+)")
_COLUMNS = """
SELECT string_agg(quote_ident(column_name), ', ') FROM information_schema.columns
 WHERE table_schema = 'hookledger' AND table_name = $1 AND is_generated = 'NEVER'
"""


@dataclass
class Audited:
    """A history in a database, and a connection for which no trigger fires."""

    database: Database
    sql: asyncpg.Connection
    _sequence = "SELECT setval('domain_event_seq', (SELECT max(seq) FROM domain_event))"

    async def report(self) -> AuditReport:
        return await audit.audit(
            self.database,
            start=datetime(1970, 1, 1, tzinfo=UTC),
            end=datetime(9999, 1, 1, tzinfo=UTC),
            schedule=SCHEDULE,
            vault=Vault([b"k" * 32]),
        )

    async def keep(self, tampering: Tampering) -> None:
        for table in set(_TABLES.findall(tampering.sql)):
            await self.sql.execute(f"CREATE TABLE saved.{table} AS SELECT * FROM {table}")

    async def change(self, tampering: Tampering) -> None:
        for statement in tampering.sql.split(";"):
            if (await self.sql.execute(statement)).endswith(" 0"):
                pytest.fail(f"changed nothing: {statement}")

    async def take_back(self, tampering: Tampering) -> None:
        for table in set(_TABLES.findall(tampering.sql)):
            columns = await self.sql.fetchval(_COLUMNS, table)
            await self.sql.execute(f"DELETE FROM {table}")
            await self.sql.execute(
                f"INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM saved.{table}"
            )
            await self.sql.execute(f"DROP TABLE saved.{table}")
        await self.sql.execute(self._sequence)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def it(
    postgres_url: str, administrator: asyncpg.Connection, small_template_database: str
) -> AsyncIterator[Audited]:
    async with temporary_database(administrator, "history", template=small_template_database) as name:
        url = of_database(postgres_url, name)
        await audited_history(url)
        database, sql = Database(url, pool_size=4), await asyncpg.connect(url)
        await database.open()
        await sql.execute("SET session_replication_role = replica; SET search_path = hookledger; CREATE SCHEMA saved")
        yield Audited(database, sql)
        await sql.close()
        await database.close()


async def test_an_untouched_history_has_no_finding_and_no_gap(it: Audited) -> None:
    report = await it.report()
    assert (report.findings, report.gaps) == ([], [])
    assert report.deliveries > 30


@pytest.mark.parametrize("tampering", TAMPERINGS, ids=lambda each: each.name)
async def test_a_change_is_found_and_named(it: Audited, tampering: Tampering) -> None:
    await it.keep(tampering)
    try:
        await it.change(tampering)
        report = await it.report()
        told = [f"{each.kind} {each.table} ({each.key}): {each.detail}" for each in report.findings] or report.gaps
    except StoreError as error:
        told = [f"error: {error}"]
    finally:
        await it.take_back(tampering)
    assert any(re.search(tampering.told, each) for each in told), told


NOTHING = Keep(events=timedelta(0), attempts=timedelta(0))
EARLY = (
    "INSERT INTO meta SELECT key, to_char(now(), 'YYYY-MM-DD') || 'T00:00:00+00:00' FROM unnest($1::text[]) AS k (key)"
)


async def test_what_was_dropped_earlier_than_is_configured_is_a_gap(it: Audited) -> None:
    """Somebody who moves the mark of retention would else hide what they have dropped before it."""
    await it.sql.execute(EARLY, ["events_kept_from", "attempts_kept_from"])
    try:
        asked = [
            await audit.audit(it.database, start=start, end=audit.END, keep=keep)
            for start in (audit.BEGINNING, datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0))
            for keep in (Keep(), Keep(events=timedelta(days=1), attempts=timedelta(days=30)), NOTHING, None)
        ]
    finally:
        await it.sql.execute("DELETE FROM meta WHERE key LIKE '%kept_from'")
    told = [[gap.partition(" from before")[0] for gap in report.gaps] for report in asked]
    assert told == [["events", "attempts"], ["attempts"], [], [], [], [], [], []]
    assert "retention.events_days is 30: if it was not lower until lately, somebody has dropped" in asked[0].gaps[0]


async def test_at_the_end_the_history_is_as_before(it: Audited) -> None:
    report = await it.report()
    assert (report.findings, report.gaps) == ([], [])
