"""Retention: detaches and drops old day partitions, after the deliveries that wait for their events were ended.

No other transaction waits for it. DETACH ... CONCURRENTLY does not request a lock that would block publishing: it marks
the partition, waits for the transactions that may still use it, and then detaches it. If one of them stays open for
longer than LOCK_TIMEOUT, the partition stays marked and no new plan reads it. A later sweep finishes the work. It knows
such a partition by its end, which is noted before the detach: one that somebody else detaches, or has detached, is not
dropped, for it may hold what nobody has read, or be somebody's archive.

Partitions and ticks are dropped oldest first, up to the first one that must stay. The conditions for dropping:

    domain_event    no event in it is above the floor, no transaction writes into it, and no delivery waits for an event
                    in it: such deliveries expire first (eventstore/retention/expiry.py)
    attempt         no outcome in it is above the floor, and no waiting delivery is older than its end: the attempts
                    tell which deliveries of a packed row are done
    manual retry    the outcomes of its day were dropped: it explains why something came after a final outcome
    replay          it ended so long ago that all outcomes of its requests were dropped, for the same reason, and so did
                    all others that began on its day or before: a seal covers the replays of a day together
    tick            it is below the floor, and before the first tick that can have read an event that is kept
    refusals        as old as events: of sources, the messages that became none
    key, headers    the route was deleted so long ago that no request with them can be shown any more: of its requests
                    either all events or all outcomes were dropped

The floor is the tick up to which nothing is read any more: the oldest checkpoint, or the tick before the oldest range
of parked deliveries.

A clock that is a month ahead, at the start of a machine say, would drop everything. So each sweep notes its time, and
if none was noted for more than a day, nothing is dropped for another day: the daemons were off, or the clock is wrong
and somebody has time to set it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import asyncpg

from eventstore.domain_events.ticks import EMPTY_SNAP
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import StoreError
from eventstore.progress import manual_retry, replays
from eventstore.progress.log_macs import LogMacs
from eventstore.retention import expiry
from eventstore.route_log import sealed_secrets
from eventstore.sources import refusals

# A sweep that is cut off continues with the next one, an hour later.
_SWEEP_SECONDS = 3000.0

# One daemon sweeps at a time, and the others skip the sweep. The transaction that holds the lock is idle while another
# connection sweeps, since partitions are detached outside of transactions. The server ends it if the daemon does not:
# one that was frozen in the middle of a sweep would keep all others from sweeping.
_SWEEP_LOCK = f"""
SET LOCAL idle_in_transaction_session_timeout = '{_SWEEP_SECONDS:.0f}s';
LOCK TABLE hookledger.sweep_lock IN SHARE UPDATE EXCLUSIVE MODE NOWAIT
"""

# How long a detach waits for transactions that use the partition. It blocks nothing meanwhile.
LOCK_TIMEOUT = timedelta(seconds=20)

# How long nobody swept before the clock is doubted, and how long it is doubted.
UNSWEPT = timedelta(days=1)
DOUBTED = timedelta(days=1)

_TICK_BATCH = 10_000

_MARKS = ("events_kept_from", "attempts_kept_from")
# An outcome may be recorded after its route was deleted, or its replay cancelled: the request was under way, or
# PostgreSQL was away.
_AFTER_END = timedelta(days=1)

# $1 the table; whether something keeps PostgreSQL from detaching a partition of it concurrently, $2 being the one.
_HINDRANCES = """
SELECT EXISTS (SELECT FROM pg_partitioned_table WHERE partrelid = $1::text::regclass AND partdefid <> 0) AS has_default,
       EXISTS (SELECT FROM pg_inherits WHERE inhparent = $1::text::regclass AND inhdetachpending
                  AND inhrelid <> $2::text::regclass) AS is_detaching
"""

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

# $1 a snapshot, $2 its tick. The conditions of hookledger.has_news, and the tick number for restored events.
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

# $1 the floor. No event was read before the first tick whose snapshot can show the lowest transaction id of all events.
_FIRST_NEEDED = """
SELECT least(
    $1::bigint,
    (SELECT t.tick FROM hookledger.tick t
      WHERE t.snap_xmax > (SELECT e.txid FROM hookledger.domain_event e
                            WHERE e.txid > '0'::xid8 ORDER BY e.txid LIMIT 1)
      ORDER BY t.snap_xmax, t.tick LIMIT 1),
    (SELECT e.tick FROM hookledger.domain_event e WHERE e.tick IS NOT NULL ORDER BY e.tick LIMIT 1))
"""

_CLOCK = """
SELECT clock_timestamp() AS now, (SELECT at FROM hookledger.tick ORDER BY tick DESC LIMIT 1) AS newest_tick_at,
       (SELECT value FROM hookledger.meta WHERE key = 'swept_at') AS swept_at,
       (SELECT value FROM hookledger.meta WHERE key = 'clock_doubted_at') AS doubted_at
"""
_NOTE = """
INSERT INTO hookledger.meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = excluded.value
"""
_FORGET = "DELETE FROM hookledger.meta WHERE key = $1"

_KEPT_FROM = """
INSERT INTO hookledger.meta AS m (key, value) VALUES ($1, $2)
    ON CONFLICT (key) DO UPDATE SET value = greatest(m.value, excluded.value)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """How long events and attempts are kept. Whole days are dropped, so they are kept up to a day longer."""

    events: timedelta = timedelta(days=30)
    attempts: timedelta = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """An old partition that stays, and its `reason`.

    unread       an event or outcome in it is above a checkpoint
    ranged       an event or outcome in it belongs to a range of parked deliveries
    written      a transaction writes into it
    waited_for   a delivery waits for an event in it
    in_use       a transaction uses it for longer than LOCK_TIMEOUT
    detaching    somebody began to detach it, or another one, and did not finish it: DETACH PARTITION … FINALIZE
    default      somebody has made a default partition, beside which none can be detached without holding up everybody
    clock        all of them stay: the clock is doubted
    """

    partition: str
    reason: str


@dataclass(slots=True, kw_only=True)
class Swept:
    """The result of a sweep: partitions dropped and kept, deliveries expired, ticks and secrets deleted."""

    dropped: list[str] = field(default_factory=list)
    held: list[Held] = field(default_factory=list)
    expired: int = 0
    ticks: int = 0
    secrets: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Horizon:
    """The time from which on events and attempts are kept; None if nothing was dropped yet."""

    events: datetime | None
    attempts: datetime | None

    @property
    def replays(self) -> datetime | None:
        """The same of replays, by the time at which they began."""
        return None if self.attempts is None else self.attempts - _AFTER_END


@dataclass(frozen=True, slots=True, kw_only=True)
class _Day:
    name: str
    day: date
    is_attached: bool
    is_pending: bool

    @property
    def is_begun(self) -> bool:
        """True if its detach has begun, or is done."""
        return self.is_pending or not self.is_attached

    @property
    def end(self) -> datetime:
        return datetime(self.day.year, self.day.month, self.day.day, tzinfo=UTC) + timedelta(days=1)


async def horizon(database: Database) -> Horizon:
    """The time from which on events and attempts are kept. Raises StoreError if somebody has put nonsense there."""
    async with database.connection() as connection:
        rows = await connection.fetch("SELECT key, value FROM hookledger.meta WHERE key LIKE '%\\_kept\\_from'")
    try:
        found = {row["key"]: moment_of(row["value"]) for row in rows}
    except ValueError as error:
        raise StoreError(f"hookledger.meta does not say from when on things are kept: {error}") from error
    return Horizon(events=found.get("events_kept_from"), attempts=found.get("attempts_kept_from"))


def moment_of(text: str) -> datetime:
    """The moment in a mark of retention. Raises ValueError if it is none, or none of a known zone."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is None:
            raise ValueError(f"{text!r} has no zone")
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{text!r} is no time") from error


async def sweep(database: Database, keep: Keep = Keep(), *, macs: LogMacs) -> Swept | None:
    """Drops what is older than `keep`, and ends what waits for it. None if another daemon is sweeping."""
    async with _session(database) as connection:
        if connection is None:
            return None
        swept = Swept()
        now = await _trusted_time(connection)
        if now is None:
            swept.held.append(Held(partition="all", reason="clock"))
            return swept
        await _sweep_events(connection, now - keep.events, swept, macs)
        await _sweep_attempts(connection, now - keep.attempts, swept)
        swept.ticks = await _sweep_ticks(connection)
        await _sweep_resends(connection)
        swept.secrets = await _sweep_secrets(connection)
        await refusals.forget_old(connection, now - keep.events)
    return swept


async def _trusted_time(connection: asyncpg.pool.PoolConnectionProxy) -> datetime | None:
    """The database's time, None while it is doubted."""
    (row,) = await connection.fetch(_CLOCK)
    now: datetime = row["now"]
    last, doubted_at = _noted(row["swept_at"]) or row["newest_tick_at"], _noted(row["doubted_at"])
    if last is not None and now - last > UNSWEPT:
        doubted_for = None if doubted_at is None else now - doubted_at
        if doubted_for is None or not timedelta(0) <= doubted_for <= 2 * DOUBTED:  # a doubt of another time
            await connection.execute(_NOTE, "clock_doubted_at", now.isoformat())
            return None
        if doubted_for < DOUBTED:
            return None
    await connection.execute(_NOTE, "swept_at", now.isoformat())
    await connection.execute(_FORGET, "clock_doubted_at")
    return now


def _noted(text: str | None) -> datetime | None:
    try:
        return None if text is None else moment_of(text)
    except ValueError:
        return None


@asynccontextmanager
async def _session(database: Database) -> AsyncIterator[asyncpg.pool.PoolConnectionProxy | None]:
    """A connection outside the pool, under the lock: its settings end with it, and no other statement waits for it.

    None if another daemon has the lock.
    """
    own = Database(database.url, pool_size=2, application_name="hookledger retention")
    await own.open()
    try:
        async with own.transaction(seconds=_SWEEP_SECONDS) as holder:
            try:
                await holder.execute(_SWEEP_LOCK)
            except asyncpg.LockNotAvailableError:
                yield None
                return
            async with own.connection(seconds=_SWEEP_SECONDS) as connection:
                timeout = f"{LOCK_TIMEOUT // timedelta(milliseconds=1)}ms"
                await connection.execute("SELECT set_config('lock_timeout', $1, false)", timeout)
                await connection.execute("SET statement_timeout = '10min'")
                yield connection
    finally:
        await own.close()


async def _sweep_events(
    connection: asyncpg.pool.PoolConnectionProxy, limit: datetime, swept: Swept, macs: LogMacs
) -> None:
    for day in await _days(connection, "domain_event", "events_kept_from", limit):
        if not day.is_begun:
            reason = await _hindrance(connection, "domain_event", day) or await _reason_to_keep_events(connection, day)
            if reason is None:
                swept.expired += await expiry.expire(connection, day.end, macs)
                reason = "waited_for" if await expiry.is_waiting(connection, day.end) else None
            if reason is not None:
                swept.held.append(Held(partition=day.name, reason=reason))
                return
        if not await _drop(connection, "domain_event", "events_kept_from", day, swept):
            return


async def _sweep_attempts(connection: asyncpg.pool.PoolConnectionProxy, limit: datetime, swept: Swept) -> None:
    for day in await _days(connection, "attempt", "attempts_kept_from", limit):
        if not day.is_begun:
            reason = await _hindrance(connection, "attempt", day) or await _reason_to_keep_attempts(connection, day)
            if reason is not None:
                swept.held.append(Held(partition=day.name, reason=reason))
                return
        if not await _drop(connection, "attempt", "attempts_kept_from", day, swept):
            return


async def _days(connection: asyncpg.pool.PoolConnectionProxy, parent: str, mark: str, limit: datetime) -> list[_Day]:
    """The partitions wholly before `limit`, oldest first, and the one that an earlier sweep has begun to detach, or
    only detached. Those of which somebody else did so are left out.
    """
    noted = _noted(await connection.fetchval("SELECT value FROM hookledger.meta WHERE key = $1", mark))
    days = [_Day(**row) for row in await connection.fetch(_DAYS, parent)]
    return [day for day in days if (day.end == noted if day.is_begun else day.end <= limit)]


async def _hindrance(connection: asyncpg.pool.PoolConnectionProxy, parent: str, day: _Day) -> str | None:
    """Why a partition cannot be detached now, whatever is in it."""
    (found,) = await connection.fetch(_HINDRANCES, f"hookledger.{parent}", f"hookledger.{day.name}")
    if found["has_default"]:
        return "default"
    return "detaching" if found["is_detaching"] else None


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


async def _reason_to_keep_attempts(connection: asyncpg.pool.PoolConnectionProxy, day: _Day) -> str | None:
    if await expiry.is_waiting(connection, day.end):
        return "waited_for"
    (marks,) = await connection.fetch(_FLOOR)
    above = f"SELECT EXISTS (SELECT FROM hookledger.{day.name} WHERE tick > $1)"
    for reason, tick in (("unread", marks["checkpoint"]), ("ranged", marks["floor"])):
        if await connection.fetchval(above, tick):
            return reason
    return None


async def _drop(connection: asyncpg.pool.PoolConnectionProxy, parent: str, mark: str, day: _Day, swept: Swept) -> bool:
    """Detaches and drops a partition, continuing an earlier sweep if there was one. False if a transaction uses it for
    too long.
    """
    # This comes first, so that no reader reports rows as missing while they are being dropped.
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


async def _sweep_resends(connection: asyncpg.pool.PoolConnectionProxy) -> None:
    """Deletes the records of manual retries and replays whose outcomes were dropped. The others explain outcomes that
    are kept.
    """
    dropped_to = await connection.fetchval("SELECT value FROM hookledger.meta WHERE key = 'attempts_kept_from'")
    if dropped_to is not None:
        await manual_retry.forget(connection, before=datetime.fromisoformat(dropped_to))
        await replays.forget(connection, before=datetime.fromisoformat(dropped_to) - _AFTER_END)


async def _sweep_ticks(connection: asyncpg.pool.PoolConnectionProxy) -> int:
    """Deletes the ticks that are no longer needed, in batches. Returns how many."""
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


async def _sweep_secrets(connection: asyncpg.pool.PoolConnectionProxy) -> int:
    """Deletes the keys and headers of deleted routes that nothing kept was sent with. Returns how many."""
    kept_from = await connection.fetch("SELECT value FROM hookledger.meta WHERE key = ANY ($1::text[])", _MARKS)
    if not kept_from:
        return 0
    newest = max(datetime.fromisoformat(row["value"]) for row in kept_from)
    return await sealed_secrets.forget_deleted(connection, before=newest - _AFTER_END)
