"""Outcomes with their MACs: those of a period, day by day, and those of one delivery."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import asyncpg

from eventstore.postgres.connect import Database
from eventstore.progress.rows import AttemptRow

PAGE_ROWS = 500

# A day of ten million takes a quarter of an hour.
_SECONDS = 4 * 3600.0
_PAGE_SECONDS = 60.0

_DAYS = """
SELECT to_date(right(c.relname, 8), 'YYYYMMDD') AS day
  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
 WHERE i.inhparent = 'hookledger.attempt'::regclass AND NOT i.inhdetachpending AND c.relname ~ '_[0-9]{8}$' ORDER BY 1
"""
_SIGNED = f"SELECT mac, txid, seal, {', '.join(AttemptRow._fields)} FROM hookledger.attempt"
_OF_DAY = f"""{_SIGNED}
 WHERE at >= $1 AND at < $2 AND ($3::text IS NULL OR tenant = $3)
"""
# $1 route, $2 seq, $3 the event time; the day allows for clocks that are set back.
_OF_DELIVERY = f"""{_SIGNED}
 WHERE route_id = $1 AND seq = $2 AND at >= $3::timestamptz - interval '1 day' ORDER BY at, number
"""


class SignedOutcome(NamedTuple):
    """An outcome with its MAC, the transaction that wrote it, and its seal if it came here by a restore."""

    mac: bytes | None
    txid: int
    seal: int | None
    row: AttemptRow


async def outcomes(
    database: Database, start: datetime, end: datetime, *, tenant: str | None
) -> AsyncIterator[list[SignedOutcome]]:
    """Those recorded in [start, end), of one tenant if it is given, in pages. Each day is read in one transaction."""
    async with database.connection() as connection:
        days = [row["day"] for row in await connection.fetch(_DAYS)]
    for day in days:
        begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
        since, until = max(begin, start), min(begin + timedelta(days=1), end)
        if since < until:
            async with database.connection(seconds=_SECONDS) as connection, connection.transaction():
                await connection.execute("SET LOCAL idle_in_transaction_session_timeout = '60s'")
                async for page in _pages(connection, since, until, tenant):
                    yield page


async def of_delivery(database: Database, route_id: UUID, seq: int, *, event_time: datetime) -> list[SignedOutcome]:
    """Those of one delivery, in the order in which they were recorded."""
    async with database.connection(seconds=10) as connection:
        return [_signed(*row) for row in await connection.fetch(_OF_DELIVERY, route_id, seq, event_time)]


async def _pages(
    connection: asyncpg.pool.PoolConnectionProxy, since: datetime, until: datetime, tenant: str | None
) -> AsyncIterator[list[SignedOutcome]]:
    cursor = await connection.cursor(_OF_DAY, since, until, tenant)
    while rows := await cursor.fetch(PAGE_ROWS, timeout=_PAGE_SECONDS):
        yield [_signed(*row) for row in rows]


def _signed(mac: bytes | None, txid: int, seal: int | None, *fields: object) -> SignedOutcome:
    return SignedOutcome(mac, txid, seal, AttemptRow._make(fields))
