"""Rows with their MACs: those of a period, and those of one delivery."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import asyncpg

from eventstore.postgres.connect import Database
from eventstore.progress.log_macs import COVERED, LogMacs, RequestTable
from eventstore.progress.rows import AttemptRow
from eventstore.queries.auditing import log_marks

PAGE_ROWS = 500

# A day of ten million outcomes takes a quarter of an hour.
_SECONDS = 4 * 3600.0
_PAGE_SECONDS = 60.0

_OUTCOME = f"SELECT mac, txid, seal, {', '.join(AttemptRow._fields)} FROM hookledger.attempt"
_OUTCOMES = f"{_OUTCOME} WHERE at >= $1 AND at < $2"
# $1 route, $2 seq, $3 the event time; the day allows for clocks that are set back.
_OUTCOMES_OF_DELIVERY = f"""{_OUTCOME}
 WHERE route_id = $1 AND seq = $2 AND at >= $3::timestamptz - interval '1 day' ORDER BY at, number
"""
_REQUEST = {
    table: f"SELECT mac, txid, seal, {', '.join(columns)} FROM hookledger.{table}" for table, columns in COVERED.items()
}
_REQUESTS = {
    RequestTable.RESEND: f"{_REQUEST[RequestTable.RESEND]} WHERE at >= $1 AND at < $2 ORDER BY id",
    RequestTable.REPLAY: f"{_REQUEST[RequestTable.REPLAY]} WHERE created_at >= $1 AND created_at < $2 ORDER BY id",
}
_RETRIES_OF_DELIVERY = f"{_REQUEST[RequestTable.RESEND]} WHERE route_id = $1 AND seq = $2 ORDER BY id"


class SignedOutcome(NamedTuple):
    """An outcome with its MAC, the transaction that wrote it, and its seal if it came here by a restore."""

    mac: bytes | None
    txid: int
    seal: int | None
    row: AttemptRow

    def mac_by(self, macs: LogMacs) -> bytes:
        """The MAC that it ought to have."""
        return macs.of_outcome(self.row)


class SignedRequest(NamedTuple):
    """The same of a manual retry or a replay. `values` are those of its COVERED columns."""

    mac: bytes | None
    txid: int
    seal: int | None
    table: RequestTable
    values: tuple[object, ...]

    def mac_by(self, macs: LogMacs) -> bytes:
        """The MAC that it ought to have."""
        return macs.of_request(self.table, self.values)

    def value(self, column: str) -> object:
        """That of a column."""
        return self.values[COVERED[self.table].index(column)]


async def outcomes(
    database: Database, start: datetime, end: datetime, *, tenant: str | None
) -> AsyncIterator[list[SignedOutcome]]:
    """Those recorded in [start, end), of one tenant if it is given, in pages. Each day is read in one transaction."""
    of_tenant, tenants = ("", []) if tenant is None else (" AND tenant = $3", [tenant])
    for day in await log_marks.days(database, "attempt"):
        begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
        since, until = max(begin, start), min(begin + timedelta(days=1), end)
        if since < until:
            async for page in _pages(database, _OUTCOMES + of_tenant, since, until, *tenants):
                yield [_outcome(*row) for row in page]


async def requests(database: Database, start: datetime, end: datetime) -> AsyncIterator[list[SignedRequest]]:
    """The manual retries and replays of [start, end), in pages."""
    for table, statement in _REQUESTS.items():
        async for page in _pages(database, statement, start, end):
            yield [_request(table, *row) for row in page]


async def of_delivery(
    database: Database, route_id: UUID, seq: int, *, event_time: datetime
) -> Sequence[SignedOutcome | SignedRequest]:
    """The outcomes of one delivery in the order in which they were recorded, and its manual retries."""
    async with database.connection(seconds=10) as connection:
        found = await connection.fetch(_OUTCOMES_OF_DELIVERY, route_id, seq, event_time)
        retries = await connection.fetch(_RETRIES_OF_DELIVERY, route_id, seq)
    return [*(_outcome(*row) for row in found), *(_request(RequestTable.RESEND, *row) for row in retries)]


def _outcome(mac: bytes | None, txid: int, seal: int | None, *fields: object) -> SignedOutcome:
    return SignedOutcome(mac, txid, seal, AttemptRow._make(fields))


def _request(table: RequestTable, mac: bytes | None, txid: int, seal: int | None, *values: object) -> SignedRequest:
    return SignedRequest(mac, txid, seal, table, values)


async def _pages(database: Database, statement: str, *arguments: object) -> AsyncIterator[list[asyncpg.Record]]:
    async with database.connection(seconds=_SECONDS) as connection, connection.transaction():
        await connection.execute("SET LOCAL idle_in_transaction_session_timeout = '60s'")
        cursor = await connection.cursor(statement, *arguments)
        while rows := await cursor.fetch(PAGE_ROWS, timeout=_PAGE_SECONDS):
            yield rows
