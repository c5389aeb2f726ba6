"""The tail: reads the events of one cut, which are the rows visible in its snapshot and not in the one before.

It does not read `seq > last`: a sequence number is drawn before the commit that makes its row visible, so a slower
transaction with a lower number would be skipped. It does not wait for an xmin horizon either: that waits for the
longest transaction of the cluster. The difference of two snapshots loses nothing, repeats nothing and waits for no
transaction. It is PgQ's method; eventstore/README.md has the measurements.

A cut of a few events is read in one question. One of at most a page is measured, and read by transaction id. A larger
cut, after an outage or an import, is walked along the primary key once it is measured, so that reading it costs its
length and not its length times its pages. A long transaction may have left a few rows far below the others, among many
rows of other cuts. Those are read by transaction id.

A reader that needs no payloads, and stops within a cut to go on later, uses a `LeanCut`.

The cuts from before a dump was restored cannot be found by their snapshots (eventstore/postgres/lineage.py). Their
snapshots are blank, and each of their events has the number of the tick that had read it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import asyncpg

from eventstore.domain_events.events import EVENT_COLUMNS, PAYLOAD_SIZE, StoredEvent
from eventstore.domain_events.ticks import EMPTY_SNAP, Tick
from eventstore.postgres.connect import Database

PAGE_ROWS = 1000
PAGE_BYTES = 8 * 1024 * 1024
# Nearly every cut has fewer events than this. So many are read without knowing their size, but for the payloads of
# those that are larger than the API takes by default. If there is one of these, the cut is measured.
FEW_ROWS = 32
_SMALL_BYTES = PAGE_BYTES // FEW_ROWS
# A read ahead that nobody needs any more may end within this time.
_LAST_READ_SECONDS = 1.0

# A walk may skip this many rows for each row it returns.
_SPARSE = 100
# The page of a cut from before a restore, which is not measured first: as many rows as fit into memory if all are
# large.
_RESTORED_ROWS = 100


_Bound = tuple[Sequence[int], int, int, list[int], list[int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotDifference:
    """The transactions visible in one snapshot and not in the one before: those in [lower, upper) except `unfinished`,
    and the `late` ones, which were in progress in the snapshot before.
    """

    lower: int
    upper: int
    unfinished: list[int]
    late: list[int]


def difference(before: str, snap: str) -> SnapshotDifference:
    """The difference of two snapshots in text form, `xmin:xmax:xip,…`; `before` was taken before `snap`."""
    _, lower, open_before = _parsed(before)
    xmin, upper, open_now = _parsed(snap)
    return SnapshotDifference(
        lower=lower,
        upper=upper,
        unfinished=sorted(xid for xid in open_now if xid >= lower),
        late=sorted(xid for xid in open_before if xid < xmin or xid not in open_now),
    )


def _parsed(snap: str) -> tuple[int, int, frozenset[int]]:
    xmin, xmax, under_way = snap.split(":")
    return int(xmin), int(xmax), frozenset(map(int, under_way.split(","))) if under_way else frozenset()


# $1 shards; $2, $3, $4 and $5 the difference: lower, upper, unfinished, late.
_CUT = """
    SELECT {columns} FROM hookledger.domain_event
     WHERE shard = ANY ($1::smallint[]) AND txid >= $2::xid8 AND txid < $3::xid8 AND txid <> ALL ($4::xid8[])
     UNION ALL
    SELECT {columns} FROM hookledger.domain_event
     WHERE shard = ANY ($1::smallint[]) AND txid = ANY ($5::xid8[])
"""

_MEASURE = f"""
SELECT count(*) AS rows, coalesce(sum(size), 0)::bigint AS bytes, min(seq) AS first, max(seq) AS last,
       min(seq) FILTER (WHERE txid >= $2::xid8) AS first_timely,
       count(*) FILTER (WHERE txid < $2::xid8) AS late
  FROM ({_CUT.format(columns=f"seq, txid, {PAYLOAD_SIZE} AS size")}) cut
"""

_IF_SMALL = ", ".join(
    f"CASE WHEN {PAYLOAD_SIZE} <= {_SMALL_BYTES} THEN {name} END AS {name}" for name in ("data", "context", "snapshot")
)

# At most $6 rows, whichever are found first: if there are fewer, they are the cut. The inner limit ends the search; to
# sort before it would be to read the whole cut. `data` is null in a large one.
_FEW_ROWS_OF = "SELECT * FROM ({cut} LIMIT $6) cut ORDER BY seq"
_FEW = _FEW_ROWS_OF.format(
    cut=_CUT.format(columns=EVENT_COLUMNS.replace("data, context, snapshot", _IF_SMALL)),
)

_WHOLE = f"SELECT * FROM ({_CUT.format(columns=EVENT_COLUMNS)}) cut ORDER BY seq LIMIT $6"

# Walks the primary key from $6 to $7 and skips rows of other cuts and other shards.
_WALK = f"""
SELECT {EVENT_COLUMNS} FROM hookledger.domain_event
 WHERE seq >= $6 AND seq <= $7 AND shard = ANY ($1::smallint[])
   AND (txid >= $2::xid8 AND txid < $3::xid8 AND txid <> ALL ($4::xid8[]) OR txid = ANY ($5::xid8[]))
 ORDER BY seq LIMIT $8
"""

# Finds rows by transaction id and sorts them. OFFSET 0 keeps the planner from walking the primary key.
_PICK = f"""
SELECT * FROM ({_CUT.format(columns=EVENT_COLUMNS)} OFFSET 0) cut
 WHERE seq >= $6 AND seq <= $7 ORDER BY seq LIMIT $8
"""


# A cut from before a dump was restored: $2 the number of its tick, $3 the seq to begin after.
_RESTORED = f"""
SELECT {EVENT_COLUMNS} FROM hookledger.domain_event
 WHERE tick = $2 AND seq > $3 AND shard = ANY ($1::smallint[])
 ORDER BY seq LIMIT $4
"""


@cache
def _without(statement: str) -> str:
    """The same without the events of the tenants in one more parameter."""
    count = max(int(number) for number in re.findall(r"\$(\d+)", statement))
    shards = "shard = ANY ($1::smallint[])"
    return statement.replace(shards, f"{shards} AND tenant <> ALL (${count + 1}::text[])")


# The same without payloads, which may be of any size.
_LEAN_COLUMNS = EVENT_COLUMNS.replace(
    "data, context, snapshot", "''::bytea AS data, NULL::bytea AS context, NULL::bytea AS snapshot"
)
_LEAN_FEW = _FEW_ROWS_OF.format(cut=_CUT.format(columns=_LEAN_COLUMNS))
_LEAN_WALK, _LEAN_PICK, _LEAN_RESTORED = (
    statement.replace(EVENT_COLUMNS, _LEAN_COLUMNS) for statement in (_WALK, _PICK, _RESTORED)
)


class LeanPage(NamedTuple):
    """Events in order of their seqs, and whether the cut has none behind them."""

    events: list[StoredEvent]
    is_last: bool


class LeanCut:
    """Reads a cut without its payloads, page by page, from any seq on: `data` is empty, context and snapshot are None.

    Between two pages it keeps how large the cut is, and no row. To measure a large cut again takes its length.
    """

    def __init__(self, database: Database, *, before: str, tick: Tick, shards: Sequence[int]) -> None:
        self._database = database
        self._tick = tick
        self._shards = shards
        cut = difference(before, tick.snap)
        self._bound: _Bound = (shards, cut.lower, cut.upper, cut.unfinished, cut.late)
        self._seq_ranges: list[tuple[str, int, int]] | None = None

    async def page(self, from_seq: int) -> LeanPage:
        """At most PAGE_ROWS events from that seq on."""
        if self._tick.snap == EMPTY_SNAP:
            rows = await self._fetch(_LEAN_RESTORED, self._shards, self._tick.tick, from_seq - 1, PAGE_ROWS)
            return LeanPage(_events(rows, self._tick), len(rows) < PAGE_ROWS)
        if self._seq_ranges is None:
            few = min(FEW_ROWS, PAGE_ROWS)
            rows = await self._fetch(_LEAN_FEW, *self._bound, few)
            if len(rows) < few:
                return LeanPage(_events([row for row in rows if row["seq"] >= from_seq], self._tick), is_last=True)
            (size,) = await self._fetch(_MEASURE, *self._bound)
            self._seq_ranges = _lean_ranges(size)
        for statement, first, last in self._seq_ranges:
            if from_seq <= last:
                rows = await self._fetch(statement, *self._bound, max(first, from_seq), last, PAGE_ROWS)
                if rows:
                    is_last = len(rows) < PAGE_ROWS and last == self._seq_ranges[-1][2]
                    return LeanPage(_events(rows, self._tick), is_last)
        return LeanPage([], is_last=True)

    async def _fetch(self, statement: str, *arguments: object) -> list[asyncpg.Record]:
        async with self._database.connection(seconds=30) as connection:
            rows: list[asyncpg.Record] = await connection.fetch(statement, *arguments)
        return rows


async def read_cut(
    database: Database,
    *,
    before: str,
    tick: Tick,
    shards: Sequence[int],
    from_seq: int = 0,
    without: Sequence[str] = (),
    page_bytes: int | None = None,
) -> AsyncGenerator[list[StoredEvent], None]:
    """The events of `tick` in the given shards, in pages sorted by seq. `before` is the snapshot of the tick before.
    With `from_seq` only those from that seq on; those of the tenants in `without` are left out. A page has `page_bytes`
    at most, PAGE_BYTES by default, or one event; or as few events as are read without knowing their size.

    The next page of a large cut is read while the consumer works on one. No connection is held beyond that, so a slow
    consumer costs the database nothing.
    """
    if tick.snap == EMPTY_SNAP:
        async for page in _restored(database, tick, shards, after=from_seq - 1, without=without):
            yield page
        return
    cut = difference(before, tick.snap)
    bound = (shards, cut.lower, cut.upper, cut.unfinished, cut.late)
    few, size, most_bytes = min(FEW_ROWS, PAGE_ROWS), None, page_bytes or PAGE_BYTES
    async with database.connection(seconds=30) as connection:
        rows = await _fetch(connection, without, _FEW, *bound, few)
        if len(rows) == few or any(row["data"] is None for row in rows):
            (size,) = await _fetch(connection, without, _MEASURE, *bound)
            if size["rows"] <= PAGE_ROWS and size["bytes"] <= most_bytes:
                rows, size = await _fetch(connection, without, _WHOLE, *bound, PAGE_ROWS), None
    if size is None:
        if rows := [row for row in rows if row["seq"] >= from_seq]:
            yield _events(rows, tick)
        return
    del rows  # lest they take memory while the pages are read
    async with aclosing(_read_ahead(_pages(database, size, bound, from_seq, without, most_bytes))) as pages:
        async for rows in pages:
            yield _events(rows, tick)


async def _fetch(
    connection: asyncpg.pool.PoolConnectionProxy, without: Sequence[str], statement: str, *arguments: object
) -> list[asyncpg.Record]:
    rows: list[asyncpg.Record] = (
        await connection.fetch(_without(statement), *arguments, without)
        if without
        else await connection.fetch(statement, *arguments)
    )
    return rows


async def _pages(
    database: Database,
    size: asyncpg.Record,
    bound: _Bound,
    from_seq: int,
    without: Sequence[str],
    most_bytes: int,
) -> AsyncGenerator[list[asyncpg.Record], None]:
    limit = max(1, min(PAGE_ROWS, most_bytes * size["rows"] // max(1, size["bytes"])))
    for statement, first, last in _seq_ranges(size):
        next_seq = max(first, from_seq)
        while next_seq <= last:
            async with database.connection(seconds=30) as connection:
                rows = await _fetch(connection, without, statement, *bound, next_seq, last, limit)
            if not rows:
                break
            yield rows
            next_seq = rows[-1]["seq"] + 1


async def _read_ahead(
    pages: AsyncGenerator[list[asyncpg.Record], None],
) -> AsyncGenerator[list[asyncpg.Record], None]:
    """The same pages, each read while the consumer works on the one before: else it runs dry while a page is read."""
    next_page = asyncio.ensure_future(anext(pages, None))
    try:
        while (page := await next_page) is not None:
            next_page = asyncio.ensure_future(anext(pages, None))
            yield page
    except GeneratorExit:
        # The consumer wants no more. To cancel a read that is under way would cost its connection.
        await asyncio.wait([next_page], timeout=_LAST_READ_SECONDS)
        raise
    finally:
        next_page.cancel()
        await asyncio.gather(next_page, return_exceptions=True)
        await pages.aclose()


async def _restored(
    database: Database, tick: Tick, shards: Sequence[int], *, after: int, without: Sequence[str]
) -> AsyncIterator[list[StoredEvent]]:
    while True:
        async with database.connection(seconds=30) as connection:
            rows = await _fetch(connection, without, _RESTORED, shards, tick.tick, after, _RESTORED_ROWS)
        if not rows:
            return
        yield _events(rows, tick)
        after = rows[-1]["seq"]


def _seq_ranges(size: asyncpg.Record) -> list[tuple[str, int, int]]:
    """How to read a large cut: statement, first and last seq of each range."""
    first, last, timely = size["first"], size["last"], size["first_timely"]
    end = last + 1 if timely is None else timely
    if end - first <= size["late"] * _SPARSE:
        return [(_WALK, first, last)]
    return [(_PICK, first, end - 1), (_WALK, end, last)]


def _lean_ranges(size: asyncpg.Record) -> list[tuple[str, int, int]]:
    """The same without payloads."""
    if size["rows"] <= PAGE_ROWS:
        return [(_LEAN_PICK, size["first"], size["last"])]
    lean = {_WALK: _LEAN_WALK, _PICK: _LEAN_PICK}
    return [(lean[statement], first, last) for statement, first, last in _seq_ranges(size)]


def _events(rows: Sequence[asyncpg.Record], tick: Tick) -> list[StoredEvent]:
    return [StoredEvent(*(*row.values(), tick.tick, tick.closed_upto)) for row in rows]
