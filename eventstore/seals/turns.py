"""The right to make the next seal, and what the logs hold at that moment.

A turn is a transaction with the lock of the table `seal_lock`, which only the owner of the schema can take: one daemon
at a time seals, and the others see that it does. The snapshot of the seal is taken in one statement with the newest
tick and the end of the route log; whatever the seal covers was committed by then.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from eventstore.domain_events.tail import difference
from eventstore.postgres.connect import Database
from eventstore.seals import stored
from eventstore.seals.covered import RUN_SECONDS, CoveredRows, allow
from eventstore.seals.stored import SealRow

# So many ticks and events of the route log are covered by one seal. After an outage, or in a log that was never sealed,
# several are made in a row.
MAX_TICKS = 10_000
MAX_ROUTE_EVENTS = 10_000

_LOCK = "LOCK TABLE hookledger.seal_lock IN SHARE UPDATE EXCLUSIVE MODE NOWAIT"

ORIGIN = """
(SELECT 'hookledger/' || (SELECT value FROM hookledger.meta WHERE key = 'log_id') || '/'
     || (SELECT value FROM hookledger.meta WHERE key = 'system_identifier'))
"""

# $1 the tick of the seal before, $2 how many more it may be; $3 the position of the route log that the seal before has
# come to, $4 how many more it may be
_STATE = f"""
SELECT pg_current_snapshot()::text AS snap, clock_timestamp() AS at, {ORIGIN} AS origin,
       coalesce(t.tick, $1) AS tick, t.snap::text AS tick_snap,
       coalesce(e.pos, 0) AS route_pos, coalesce(e.hash, ''::bytea) AS route_hash,
       (SELECT array_agg(tick ORDER BY shard) FROM hookledger.checkpoint) AS checkpoints,
       (SELECT value FROM hookledger.meta WHERE key = 'events_kept_from')::timestamptz AS events_kept_from,
       (SELECT value FROM hookledger.meta WHERE key = 'attempts_kept_from')::timestamptz AS attempts_kept_from,
       coalesce((SELECT max(tick) FROM hookledger.tick), 0) AS newest_tick,
       coalesce((SELECT max(pos) FROM hookledger.route_event), 0) AS newest_pos
  FROM (SELECT) nothing
  LEFT JOIN LATERAL (
       SELECT tick, snap FROM (
              SELECT tick, snap FROM hookledger.tick WHERE tick > $1 ORDER BY tick LIMIT $2) next
        ORDER BY tick DESC LIMIT 1) t ON true
  LEFT JOIN LATERAL (
       SELECT pos, hash FROM hookledger.route_event WHERE pos <= $3::bigint + $4::bigint
        ORDER BY pos DESC LIMIT 1) e ON true
"""

# $1 to $4 the difference of the last seal's snapshot and this one's.
_NEW = """
   EXISTS (SELECT FROM hookledger.{table}
            WHERE {seal} IS NULL AND {txid} >= $1 AND {txid} < $2 AND {txid} <> ALL ($3::bigint[]))
OR EXISTS (SELECT FROM hookledger.{table} WHERE {seal} IS NULL AND {txid} = ANY ($4::bigint[]))
"""
_NEW_ATTEMPTS = "SELECT" + _NEW.format(table="attempt", txid="txid", seal="seal")
_NEW_REQUESTS = "SELECT" + "OR".join(
    _NEW.format(table=table, txid=txid, seal=seal)
    for table, txid, seal in (
        ("resend", "txid", "seal"),
        ("replay", "txid", "seal"),
        ("replay", "ended_txid", "ended_seal"),
        ("lost_log", "txid", "seal"),
        ("api_token", "txid", "seal"),
        ("api_token", "revoked_txid", "revoked_seal"),
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LogExtent:
    """What the logs hold when a seal is made. `tick` is the last tick that it covers, with `tick_snap`, None if that is
    the tick of the seal before; `route_pos` is the last position of the route log that it covers. `newest_tick` and
    `newest_pos` are the newest that there are.
    """

    snap: str
    at: datetime
    origin: str
    tick: int
    tick_snap: str | None
    route_pos: int
    route_hash: bytes
    checkpoints: list[int]
    events_kept_from: datetime | None
    attempts_kept_from: datetime | None
    newest_tick: int
    newest_pos: int

    @property
    def is_more(self) -> bool:
        """True if a seal of this leaves something for the next one."""
        return self.tick < self.newest_tick or self.route_pos < self.newest_pos


class SealTurn:
    """The right to make the next seal, until its transaction ends. `rows` reads what seals cover."""

    def __init__(self, connection: asyncpg.pool.PoolConnectionProxy) -> None:
        self._connection = connection
        self.rows = CoveredRows(connection)

    async def newest(self) -> SealRow | None:
        """The newest seal, None if there is none."""
        return await stored.newest_of(self._connection)

    async def hashes(self, *, after: int, upto: int) -> list[bytes]:
        """The hashes of the seals after a number up to another."""
        return await stored.hashes_of(self._connection, after=after, upto=upto)

    async def state(self, *, after_tick: int, after_pos: int) -> LogExtent:
        """What the logs hold now, with at most MAX_TICKS ticks after `after_tick`, and at most MAX_ROUTE_EVENTS events
        of the route log after `after_pos`.
        """
        (row,) = await self._connection.fetch(_STATE, after_tick, MAX_TICKS, after_pos, MAX_ROUTE_EVENTS)
        return LogExtent(**row)

    async def has_new_attempts(self, *, before: str, snap: str) -> bool:
        """True if an outcome is visible in `snap` and not in `before`."""
        return await self._shows(_NEW_ATTEMPTS, before, snap)

    async def has_new_requests(self, *, before: str, snap: str) -> bool:
        """The same for a manual retry, the beginning or the end of a replay or a token, or something that was lost."""
        return await self._shows(_NEW_REQUESTS, before, snap)

    async def append(self, row: SealRow) -> None:
        """Appends the seal. It is there when the turn has ended without an error."""
        await stored.append(self._connection, row)

    async def _shows(self, statement: str, before: str, snap: str) -> bool:
        cut = difference(before, snap)
        return bool(await self._connection.fetchval(statement, cut.lower, cut.upper, cut.unfinished, cut.late))


@asynccontextmanager
async def turn(database: Database) -> AsyncIterator[SealTurn | None]:
    """The right to make the next seal, None if another process has it. What it appends is committed at the end."""
    async with database.connection(seconds=RUN_SECONDS) as connection, connection.transaction():
        await allow(connection, RUN_SECONDS)
        try:
            async with connection.transaction():
                await connection.execute(_LOCK)
        except asyncpg.LockNotAvailableError:
            yield None
            return
        yield SealTurn(connection)


async def origin(database: Database) -> str:
    """The name of the log, with its present lineage."""
    async with database.connection() as connection:
        return str(await connection.fetchval(f"SELECT {ORIGIN}"))
