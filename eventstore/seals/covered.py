"""The rows that seals cover: events and ticks by tick, secrets by the route log, the others by snapshot.

A run of seals is read at once, in pages, each row with the number of its seal. Within a seal events are sorted by seq,
outcomes by seq, route, number and time: that is the order of the leaves. Reading takes memory for a page and for the
snapshots of the run, whatever it covers.

By snapshot are outcomes, manual retries, replays, once when they began and once when they ended, what was lost, and API
tokens, once when they were made and once when they were revoked. The transaction that wrote it tells the seal.

The transaction ids of a restored dump mean nothing. Then columns tell what covers a row: `seal`, and of an event
`sealed_tick`, or `tick` where that is null (eventstore/postgres/lineage.py).

A cursor lives in a transaction, so all of a run is read within one.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import date, datetime
from enum import Enum
from typing import NamedTuple
from uuid import UUID

import asyncpg

from eventstore.domain_events.tail import difference
from eventstore.domain_events.ticks import EMPTY_SNAP
from eventstore.postgres.connect import Database
from eventstore.route_log.sealed_secrets import Table
from eventstore.seals.snapshots import SnapshotRow
from eventstore.seals.stored import SealMark

# So many rows are decoded at once, and then hashed at once, on the event loop: each takes about half a millisecond.
PAGE_ROWS = 100
# For a run. That of the first seal of an old log is all outcomes that are kept, and a page of it waits for their sort.
RUN_SECONDS = 6 * 3600.0
PAGE_SECONDS = 600.0

# A column of a row. A payload is there by its SHA-256 in hex, a UUID as a text.
CoveredValue = int | str | datetime | None


class CoveredTick(NamedTuple):
    """A tick with the snapshot that it had when it was sealed. `is_restored`: it means nothing in this cluster."""

    tick: int
    snap: str
    at: datetime
    route_pos: int
    closed_upto: datetime
    touched: int | None
    is_restored: bool


class ReadTicks:
    """The ticks of a run of seals, in order: which of them read an event, and up to when it closed its time."""

    def __init__(self) -> None:
        self._shown = SnapshotRow()
        self._closed_upto: dict[int, datetime] = {}

    def add(self, tick: CoveredTick) -> None:
        """Appends the next one."""
        self._closed_upto[tick.tick] = tick.closed_upto
        if not tick.is_restored:
            self._shown.add(tick.tick, tick.snap)

    def first_to_show(self, txid: int) -> int | None:
        """The first tick that shows the transaction, None if none does."""
        return self._shown.first_to_show(txid)

    def closed_upto(self, tick: int) -> datetime | None:
        """None if the tick is not there."""
        return self._closed_upto.get(tick)


class CoveredRun(NamedTuple):
    """Rows one behind the other that one seal covers, of one UTC day of their partitions. A page is nearly always one:
    a tuple of seal, time and values for each row, to be grouped afterwards, took half as long as to hash them.
    """

    seal: int
    day: date
    rows: list[tuple[CoveredValue, ...]]


class _Runs:
    """The runs of a page, as its rows come."""

    __slots__ = ("_day", "_rows", "_seal", "found")

    def __init__(self) -> None:
        self.found: list[CoveredRun] = []
        self._seal = 0
        self._day = date.min
        self._rows: list[tuple[CoveredValue, ...]] = []

    def add(self, seal: int, day: date, values: tuple[CoveredValue, ...]) -> None:
        if seal != self._seal or day != self._day:
            self._seal, self._day, self._rows = seal, day, []
            self.found.append(CoveredRun(seal, day, self._rows))
        self._rows.append(values)


class NamedSecret(NamedTuple):
    """A secret that the route log names. `created_at` is None if it is not there."""

    pos: int
    table: Table
    route_id: UUID
    item: str
    created_at: datetime | None


_TICKS = """
SELECT tick, coalesce(sealed_snap, snap::text) AS snap, at, route_pos, closed_upto, touched,
       sealed_snap IS NOT NULL AS is_restored
  FROM hookledger.tick WHERE tick > $1 AND tick <= $2 ORDER BY tick
"""

# Which message of a source an event was, null for none. A row that has part of a place, or that of a partition that
# does not exist, has a text too, and so another leaf.
_MESSAGE = """
CASE WHEN source_partition IS NOT NULL OR source_offset IS NOT NULL THEN format('%s/%s', (
     SELECT format('%s/%s/%s', source, topic, partition) FROM hookledger.source_partition p
      WHERE p.id = source_partition), source_offset) END
"""
# In front is what covers a row, behind it the columns of its leaf. Digests and UUIDs are texts, as they are hashed: for
# anything else the driver and orjson take longer. They are sorted as bytes, which is the order of the UUIDs.
_EVENT_COVER, _MESSAGE_PLACE, _RECORDED_AT_PLACE = 3, 2, 4
_EVENT = f"""
SELECT txid, coalesce(sealed_tick, tick) AS in_tick, {_MESSAGE} AS message,
       seq, recorded_at, tenant, id, type, occurred_at, encode(sha256(data), 'hex') AS data,
       encode(sha256(context), 'hex') AS context, encode(sha256(snapshot), 'hex') AS snapshot, backfill,
       test_route::text, hops
  FROM hookledger.domain_event
"""

# $1 and $2 the ticks; $3 to $6 the difference: lower, upper, unfinished, late.
_EVENTS = f"""
SELECT * FROM (
    {_EVENT} WHERE txid >= $3::xid8 AND txid < $4::xid8 AND txid <> ALL ($5::xid8[])
               AND tick IS NULL AND sealed_tick IS NULL
     UNION ALL
    {_EVENT} WHERE txid = ANY ($6::xid8[]) AND tick IS NULL AND sealed_tick IS NULL
     UNION ALL
    {_EVENT} WHERE tick > $1 AND tick <= $2 AND sealed_tick IS NULL
     UNION ALL
    {_EVENT} WHERE sealed_tick > $1 AND sealed_tick <= $2) e
 ORDER BY seq, recorded_at
"""

# An outcome has no sealed_tick unless it was sealed before a restore: else the tick that it was sealed with would not
# be the one by which it is judged.
_COVER, _AT_PLACE = 2, 5
_ATTEMPT = """
SELECT txid, seal, seq, route_id::text COLLATE "C" AS route_id, number, at,
       CASE WHEN sealed_tick IS NULL THEN tick WHEN seal IS NOT NULL THEN sealed_tick END AS tick,
       event_time, started_at, shard, status_code, duration_ms, route_version, is_test, outcome, error, tenant,
       event_id, event_type, key_ids, encode(sha256(convert_to(response_head, 'UTF8')), 'hex') AS response_head,
       encode(sha256(response_body), 'hex') AS response_body, delivery_key
  FROM hookledger.attempt
"""


class _BySnapshot:
    """Rows that are covered by the transaction that wrote them. `row` selects that, the seal if a dump was restored
    since, and what is hashed, of which the value at `day_place` tells the day. `txid` and `seal` are the names of the
    first two, `form` is the first form of seals that covers them.
    """

    def __init__(
        self, row: str, *, order: str, day_place: int, form: int, txid: str = "txid", seal: str = "seal"
    ) -> None:
        self.day_place = day_place
        self.form = form
        # $1 to $4 the difference.
        self.present = f"""
            SELECT * FROM (
                {row} WHERE {seal} IS NULL AND {txid} >= $1 AND {txid} < $2 AND {txid} <> ALL ($3::bigint[])
                 UNION ALL
                {row} WHERE {seal} IS NULL AND {txid} = ANY ($4::bigint[])) a
             ORDER BY {order}"""
        # $1 the seal before, $2 the last one.
        self.restored = f"{row} WHERE {seal} > $1 AND {seal} <= $2 ORDER BY {order}"


class ByTransaction(Enum):
    """The tables of which a seal covers what its snapshot shows."""

    ATTEMPT = _BySnapshot(_ATTEMPT, order="seq, route_id, number, at, started_at", day_place=_AT_PLACE, form=1)
    RESEND = _BySnapshot(
        """SELECT txid, seal, id, at, route_id::text, seq, actor, origin, reason, request_id, causation_id
             FROM hookledger.resend""",
        order="id",
        day_place=3,
        form=2,
    )
    REPLAY = _BySnapshot(
        """SELECT txid, seal, id::text COLLATE "C" AS id, created_at, route_id::text, tenant, wanted, since, until,
                  sendable_from, actor, origin, reason, request_id, causation_id, total
             FROM hookledger.replay""",
        order="created_at, id",
        day_place=3,
        form=2,
    )
    # By the day on which it began, since retention deletes replays by that (eventstore/progress/replays.py).
    REPLAY_END = _BySnapshot(
        """SELECT ended_txid, ended_seal, id::text COLLATE "C" AS id, created_at, ended_at, state, detail, scheduled,
                  withdrawn
             FROM hookledger.replay""",
        order="created_at, id",
        day_place=3,
        form=2,
        txid="ended_txid",
        seal="ended_seal",
    )
    LOSS = _BySnapshot(
        """SELECT txid, seal, timeline, first_tick, last_tick, first_pos, last_pos, since, until, found_by
             FROM hookledger.lost_log""",
        order="until, timeline, first_tick, first_pos, last_tick, last_pos",
        day_place=8,
        form=2,
    )
    TOKEN = _BySnapshot(
        """SELECT txid, seal, id COLLATE "C" AS id, created_at, kind, tenant, name, encode(hash, 'hex') AS hash,
                  created_by, expires_at
             FROM hookledger.api_token""",
        order="created_at, id",
        day_place=3,
        form=2,
    )
    TOKEN_END = _BySnapshot(
        """SELECT revoked_txid, revoked_seal, id COLLATE "C" AS id, revoked_at FROM hookledger.api_token""",
        order="revoked_at, id",
        day_place=3,
        form=2,
        txid="revoked_txid",
        seal="revoked_seal",
    )


# OFFSET 0: otherwise each body is parsed for each time that an id is mentioned.
_SECRETS = """
SELECT e.pos, e.route_id, e.key_id, k.created_at AS key_created_at, e.headers_id, h.created_at AS headers_created_at
  FROM (SELECT pos, route_id, body::json #>> '{key,id}' AS key_id, body::json #>> '{config,headers_id}' AS headers_id
          FROM hookledger.route_event
         WHERE pos > $1 AND pos <= $2 AND type IN ('created', 'edited', 'key_rotated') OFFSET 0) e
  LEFT JOIN hookledger.route_key k ON k.route_id = e.route_id AND k.key_id = e.key_id
  LEFT JOIN hookledger.route_headers h ON h.route_id = e.route_id AND h.headers_id = e.headers_id
 ORDER BY e.pos
"""

_SIGNED_BEFORE = "SELECT count(*) FROM hookledger.route_event_signature WHERE pos <= $1"
_SIGNED = "SELECT pos FROM hookledger.route_event_signature WHERE pos > $1 AND pos <= $2 ORDER BY pos"


class CoveredRows:
    """Reads what seals cover, over a connection within a transaction."""

    def __init__(self, connection: asyncpg.pool.PoolConnectionProxy) -> None:
        self._connection = connection

    async def ticks(self, *, after: int, upto: int) -> AsyncIterator[list[CoveredTick]]:
        """The ticks after one up to another."""
        async for page in self._pages(_TICKS, after, upto):
            yield [CoveredTick(*row.values()) for row in page]

    async def events(
        self,
        *,
        before: SealMark,
        marks: Sequence[SealMark],
        ticks: ReadTicks,
        restored: int,
    ) -> AsyncIterator[list[CoveredRun]]:
        """The events of a run of seals. `before` is the seal before the run, `ticks` are its ticks, `restored` is the
        number of the last seal of an earlier lineage, 0 if there is none.
        """
        last = marks[-1]
        lower = before.tick_snap if before.n > restored else EMPTY_SNAP
        upper = last.tick_snap if last.n > restored else EMPTY_SNAP
        cut = difference(lower, upper)
        ends = [mark.tick for mark in marks]
        rows = self._pages(_EVENTS, before.tick, last.tick, cut.lower, cut.upper, cut.unfinished, cut.late)
        cover: tuple[int, int | None] | None = None
        seal, tick, closed_upto = last.n, None, None
        async for page in rows:
            runs = _Runs()
            for row in page:
                if row[:2] != cover:  # a transaction publishes many
                    cover = txid, in_tick = row[:2]
                    tick = in_tick or ticks.first_to_show(txid)
                    # If its tick is gone, the root differs, whichever seal it is counted to.
                    place = len(ends) - 1 if tick is None else min(bisect_left(ends, tick), len(ends) - 1)
                    seal, closed_upto = marks[place].n, None if tick is None else ticks.closed_upto(tick)
                values = (*row[_EVENT_COVER:], tick, closed_upto)
                if tick is not None and row[_MESSAGE_PLACE] is not None:
                    values = (*values, row[_MESSAGE_PLACE])
                runs.add(seal, row[_RECORDED_AT_PLACE].date(), values)
            yield runs.found

    async def by_transaction(
        self, table: ByTransaction, *, before: SealMark, marks: Sequence[SealMark], restored: int
    ) -> AsyncIterator[list[CoveredRun]]:
        """The rows of a table that a run of seals covers. The seals are of one form, and all of the present lineage or
        all of earlier ones, of which `restored` is the number of the last seal.
        """
        last, rows_of = marks[-1], table.value
        if last.form < rows_of.form:
            return
        if last.n > restored:
            # What no seal before has covered is covered by the first that can.
            is_continued = before.n > restored and before.form >= rows_of.form
            cut = difference(before.snap if is_continued else EMPTY_SNAP, last.snap)
            rows = self._pages(rows_of.present, cut.lower, cut.upper, cut.unfinished, cut.late)
        else:
            rows = self._pages(rows_of.restored, before.n, last.n)
        shown = SnapshotRow((mark.n, mark.snap) for mark in marks)
        cover: tuple[int, int | None] | None = None
        seal, day_place = last.n, rows_of.day_place
        async for page in rows:
            runs = _Runs()
            for row in page:
                if row[:_COVER] != cover:  # a flush writes many
                    cover = txid, of_restored = row[:_COVER]
                    seal = of_restored or shown.first_to_show(txid) or last.n
                runs.add(seal, _day_of(row[day_place]), row[_COVER:])
            yield runs.found

    async def secrets(self, *, after: int, upto: int) -> AsyncIterator[list[NamedSecret]]:
        """The secrets that the route log names between two positions, in its order."""
        async for page in self._pages(_SECRETS, after, upto):
            found = []
            for pos, route_id, key_id, key_created_at, headers_id, headers_created_at in page:
                if key_id is not None:
                    found.append(NamedSecret(pos, Table.KEYS, route_id, key_id, key_created_at))
                if headers_id is not None:
                    found.append(NamedSecret(pos, Table.HEADERS, route_id, headers_id, headers_created_at))
            yield found

    async def signatures(self, *, after: int, upto: int) -> tuple[int, list[int]]:
        """How many events of the route log up to a position are signed, and which are after it, up to another."""
        before = int(await self._connection.fetchval(_SIGNED_BEFORE, after))
        return before, [row["pos"] for row in await self._connection.fetch(_SIGNED, after, upto)]

    async def _pages(self, statement: str, *arguments: object) -> AsyncIterator[list[asyncpg.Record]]:
        cursor = await self._connection.cursor(statement, *arguments)
        while True:
            async with asyncio.timeout(PAGE_SECONDS):
                rows = await cursor.fetch(PAGE_ROWS)
            if not rows:
                return
            yield rows


def _day_of(at: datetime | None) -> date:
    """The first day of all for a row of no time, which we never write."""
    return date.min if at is None else at.date()


@asynccontextmanager
async def reading(database: Database, *, seconds: float = RUN_SECONDS) -> AsyncIterator[CoveredRows]:
    """A transaction to read what a run of seals covers, for at most `seconds`."""
    async with database.connection(seconds=seconds) as connection, connection.transaction():
        await allow(connection, seconds)
        yield CoveredRows(connection)


async def allow(connection: asyncpg.pool.PoolConnectionProxy, seconds: float) -> None:
    """Lets a transaction take so long, and wait between two pages while they are hashed. What a run covers differs by
    orders of magnitude, and no plan fits all.
    """
    await connection.execute(
        f"SET LOCAL statement_timeout = '{seconds:.0f}s'; SET LOCAL idle_in_transaction_session_timeout = '60s'; "
        "SET LOCAL plan_cache_mode = force_custom_plan"
    )
