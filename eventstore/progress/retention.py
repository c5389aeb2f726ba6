"""Retention: day partitions that are old enough are detached and dropped, and what that orphans is recorded first.

Nobody waits for it. DETACH ... CONCURRENTLY does not queue for a lock that publishing would queue behind: it marks the
partition, waits for the transactions that may still use it, and detaches it then. If one of them stays open for longer
than our patience, the partition stays marked, out of every new plan, and a later sweep finishes the work.

What may go, oldest first, up to the first that may not:

    domain_event    nothing in it is above the floor, nobody is writing into it, and no delivery waits for an event in
                    it: those expire first (eventstore/progress/expiry.py)
    attempt         nothing in it is above the floor, and nothing that waits is older than its end: what of a packed row
                    is done is known by its attempts
    tick            below the floor, and before the first that an event can have been read in

The floor is the tick below which nobody reads any more: the oldest checkpoint, or what stands before the oldest range
of parked deliveries.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import asyncpg

from eventstore.domain_events.ticks import EMPTY_SNAP
from eventstore.postgres.connect import Database
from eventstore.progress import expiry, manual_retry

# 'hklr': one daemon sweeps, the others have nothing to do.
_SWEEP_LOCK = 1751870578

# A sweep that is cut off goes on an hour later.
_SWEEP_SECONDS = 3000.0
# How long a detach waits for transactions that use the partition, holding up nobody.
LOCK_TIMEOUT = timedelta(seconds=20)

_TICK_BATCH = 10_000

_DAYS = """
SELECT c.relname AS name, to_date(right(c.relname, 8), 'YYYYMMDD') AS day,
       i.inhrelid IS NOT NULL AS is_attached, coalesce(i.inhdetachpending, false) AS is_pending
  FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
 WHERE c.relnamespace = 'hookledger'::regnamespace AND c.relkind = 'r' AND c.relname ~ ('^' || $1 || '_[0-9]{8}$')
 ORDER BY c.relname
"""

_FLOOR = """
SELECT min(c.tick) AS checkpoint, least(min(c.tick), (SELECT min(from_tick) - 1 FROM hookledger.parked_range)) AS floor
  FROM hookledger.checkpoint c
"""

# $1 a snapshot, $2 its tick. As in has_news, and of restored events by their number.
_ABOVE = """
SELECT EXISTS (SELECT FROM {part} WHERE txid >= pg_snapshot_xmax($1::text::pg_snapshot))
    OR EXISTS (SELECT FROM {part} WHERE txid = ANY (ARRAY(SELECT pg_snapshot_xip($1::text::pg_snapshot))))
    OR EXISTS (SELECT FROM {part} WHERE tick > $2)
"""

_WRITTEN = """
SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'relation' AND relation = $1::text::regclass
                  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
                  AND mode = 'RowExclusiveLock')
"""

# $1 the floor. No event was read before the first tick that can show the lowest transaction id of all events.
_FIRST_NEEDED = """
SELECT least(
    $1::bigint,
    (SELECT t.tick FROM hookledger.tick t
      WHERE t.snap_xmax > (SELECT e.txid FROM hookledger.domain_event e
                            WHERE e.txid > '0'::xid8 ORDER BY e.txid LIMIT 1)
      ORDER BY t.snap_xmax, t.tick LIMIT 1),
    (SELECT e.tick FROM hookledger.domain_event e WHERE e.tick IS NOT NULL ORDER BY e.tick LIMIT 1))
"""

_KEPT_FROM = """
INSERT INTO hookledger.meta AS m (key, value) VALUES ($1, $2)
    ON CONFLICT (key) DO UPDATE SET value = greatest(m.value, excluded.value)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """For how long events and attempts are kept; whole days, so up to one day longer."""

    events: timedelta = timedelta(days=30)
    attempts: timedelta = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A partition that is old and stays: `unread`, `ranged`, `written`, `waited_for`, or `in_use` by a transaction."""

    partition: str
    reason: str


@dataclass(slots=True, kw_only=True)
class Swept:
    """What a sweep did."""

    dropped: list[str] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    expired: int = 0
    ticks: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizon:
    """The beginnings of what is kept; None if nothing was dropped yet."""

    events: datetime | None
    attempts: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Day:
    name: str
    day: date
    is_attached: bool
    is_pending: bool

    @property
    def end(self) -> datetime:
        return datetime(self.day.year, self.day.month, self.day.day, tzinfo=UTC) + timedelta(days=1)


async def horizon(database: Database) -> Horizon:
    """Since when events and attempts are kept."""
    async with database.connection() as connection:
        rows = await connection.fetch("SELECT key, value FROM hookledger.meta WHERE key LIKE '%\\_kept\\_from'")
    found = {row["key"]: datetime.fromisoformat(row["value"]) for row in rows}
    return Horizon(events=found.get("events_kept_from"), attempts=found.get("attempts_kept_from"))


async def sweep(database: Database, keep: Keep = Keep()) -> Swept | None:
    """Drops what is too old; None if another daemon is at it."""
    async with _session(database) as connection:
        if not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _SWEEP_LOCK):
            return None
        now = await connection.fetchval("SELECT clock_timestamp()")
        swept = Swept()
        await _sweep_events(connection, now - keep.events, swept)
        await _sweep_attempts(connection, now - keep.attempts, swept)
        swept.ticks = await _sweep_ticks(connection)
        await manual_retry.forget(connection, before=now - keep.attempts)
    return swept


@asynccontextmanager
async def _session(database: Database) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy]:
    """A connection apart from the pool: what it locks and sets ends with it, and nobody waits for it."""
    single = Database(database.url, pool_size=1, application_name="hookledger retention")
    await single.open()
    try:
        async with single.connection(seconds=_SWEEP_SECONDS) as connection:
            patience = f"{LOCK_TIMEOUT // timedelta(milliseconds=1)}ms"
            await connection.execute("SELECT set_config('lock_timeout', $1, false)", patience)
            await connection.execute("SET statement_timeout = '10min'")
            yield connection
    finally:
        await single.close()


async def _sweep_events(connection: asyncpg.pool.PoolConnectionProxy, limit: datetime, swept: Swept) -> None:
    for day in await _days(connection, "domain_event", limit):
        if day.is_attached and not day.is_pending:
            reason = await _reason_to_keep_events(connection, day)
            if reason is None:
                swept.expired += await expiry.expire(connection, day.end)
                reason = "waited_for" if await expiry.is_waiting(connection, day.end) else None
            if reason is not None:
                swept.held.append(Held(partition=day.name, reason=reason))
                return
        if not await _drop(connection, "domain_event", "events_kept_from", day, swept):
            return


async def _sweep_attempts(connection: asyncpg.pool.PoolConnectionProxy, limit: datetime, swept: Swept) -> None:
    for day in await _days(connection, "attempt", limit):
        if day.is_attached and not day.is_pending:
            (marks,) = await connection.fetch(_FLOOR)
            above = f"SELECT EXISTS (SELECT FROM hookledger.{day.name} WHERE tick > $1)"
            reason = None
            if await expiry.is_waiting(connection, day.end):
                reason = "waited_for"
            elif await connection.fetchval(above, marks["checkpoint"]):
                reason = "unread"
            elif await connection.fetchval(above, marks["floor"]):
                reason = "ranged"
            if reason is not None:
                swept.held.append(Held(partition=day.name, reason=reason))
                return
        if not await _drop(connection, "attempt", "attempts_kept_from", day, swept):
            return


async def _days(connection: asyncpg.pool.PoolConnectionProxy, parent: str, limit: datetime) -> list[_Day]:
    """The partitions wholly before `limit`, oldest first; those too that an earlier sweep detached and did not drop."""
    days = [_Day(**row) for row in await connection.fetch(_DAYS, parent)]
    return [day for day in days if day.end <= limit or day.is_pending]


async def _reason_to_keep_events(connection: asyncpg.pool.PoolConnectionProxy, day: _Day) -> str | None:
    part = f"hookledger.{day.name}"
    if await connection.fetchval(_WRITTEN, part):
        return "written"
    (marks,) = await connection.fetch(_FLOOR)
    for reason, tick in (("unread", marks["checkpoint"]), ("ranged", marks["floor"])):
        snap = await connection.fetchval("SELECT snap::text FROM hookledger.tick WHERE tick = $1", tick) or EMPTY_SNAP
        if await connection.fetchval(_ABOVE.format(part=part), snap, tick):
            return reason
    return None


async def _drop(connection: asyncpg.pool.PoolConnectionProxy, parent: str, mark: str, day: _Day, swept: Swept) -> bool:
    """Detaches and drops a partition, from wherever an earlier sweep got to; False if somebody uses it for too long."""
    # First of all, so that no reader takes for missing what is being dropped.
    await connection.execute(_KEPT_FROM, mark, day.end.isoformat())
    try:
        if day.is_attached:
            way = "FINALIZE" if day.is_pending else "CONCURRENTLY"
            await connection.execute(f"ALTER TABLE hookledger.{parent} DETACH PARTITION hookledger.{day.name} {way}")
        await connection.execute(f"DROP TABLE hookledger.{day.name}")
    except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError, asyncpg.QueryCanceledError):
        swept.held.append(Held(partition=day.name, reason="in_use"))
        return False
    swept.dropped.append(day.name)
    return True


async def _sweep_ticks(connection: asyncpg.pool.PoolConnectionProxy) -> int:
    """Deletes the ticks that nothing needs, in batches; how many those were."""
    (marks,) = await connection.fetch(_FLOOR)
    first_needed = await connection.fetchval(_FIRST_NEEDED, marks["floor"])
    first = await connection.fetchval("SELECT min(tick) FROM hookledger.tick")
    if first is None:
        return 0
    deleted = 0
    for start in range(first, first_needed, _TICK_BATCH):
        end = min(start + _TICK_BATCH, first_needed)
        done = await connection.execute("DELETE FROM hookledger.tick WHERE tick >= $1 AND tick < $2", start, end)
        deleted += int(done.split()[-1])
    return deleted
