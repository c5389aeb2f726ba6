"""The status of the whole installation: live processes, owners of shards, lag, and waiting deliveries.

Reading it must be cheap: it is read every few seconds, and most of all when the installation is in trouble. The packed
rows of `parked` are counted and not unpacked. How long the oldest delivery waits is taken from the first packed row of
each shard, by tick.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from eventstore.domain_events import lost_log
from eventstore.domain_events.lost_log import LostLog
from eventstore.leases.lease import TTL
from eventstore.postgres.connect import Database
from eventstore.sources import standing
from eventstore.sources.standing import NO_SOURCES, SourcesStatus

READ_SECONDS = 10.0
# How long the status tells of a loss.
TOLD = timedelta(days=7)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessState:
    """A daemon process. `is_alive` is True if it was seen within the TTL of a lease."""

    owner: str
    host: str
    pid: int
    version: str
    started_at: datetime
    seen_at: datetime
    is_alive: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardStatus:
    """A shard. `owner` is None if no lease on it is valid. `lag_seconds` is the age of the oldest tick above its
    checkpoint, 0 if there is none.
    """

    shard: int
    owner: str | None
    epoch: int
    expires_at: datetime | None
    checkpoint: int
    lag_seconds: float
    retrying: int
    parked: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LogState:
    """The newest tick, 0 if there is none, and the last position of the route log. `is_unread` is True if an event was
    published that no tick shows. `at` is the database's clock.
    """

    at: datetime
    tick: int
    tick_at: datetime | None
    tick_route_pos: int | None
    route_pos: int
    is_unread: bool
    oldest_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerState:
    """What PostgreSQL says of itself. `dead_rows` are those of a small table that is written with each flush; if they
    are many, somebody keeps them from being removed. After `transactions_left` more of them it takes no writes, unless
    it is vacuumed before. With `sorts_otherwise` text is ordered otherwise than when its indexes were made.
    """

    dead_rows: int
    transactions_left: int
    sorts_otherwise: bool


UNEXAMINED = ServerState(dead_rows=0, transactions_left=1 << 31, sorts_otherwise=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallationStatus:
    """`lost` is what a promoted standby never received, oldest first, of the last days."""

    processes: tuple[ProcessState, ...]
    shards: tuple[ShardStatus, ...]
    log: LogState
    lost: tuple[LostLog, ...] = ()
    sources: SourcesStatus = NO_SOURCES
    server: ServerState = UNEXAMINED

    @property
    def retrying(self) -> int:
        return sum(shard.retrying for shard in self.shards)

    @property
    def parked(self) -> int:
        return sum(shard.parked for shard in self.shards)

    @property
    def lag_seconds(self) -> float:
        return max((shard.lag_seconds for shard in self.shards), default=0.0)

    @property
    def oldest_seconds(self) -> float:
        """How long ago the event of the oldest delivery that waits was recorded; 0 if none waits."""
        return self.log.oldest_seconds


_PROCESSES = """
SELECT owner, host, pid, version, started_at, seen_at, seen_at > clock_timestamp() - $1::interval AS is_alive
  FROM hookledger.process ORDER BY started_at, owner
"""

_SHARDS = """
WITH retrying AS MATERIALIZED (
    SELECT shard, count(*) AS pairs FROM hookledger.retry GROUP BY shard
), packed AS MATERIALIZED (
    SELECT shard, sum(pairs) AS pairs FROM hookledger.parked GROUP BY shard
), ranged AS MATERIALIZED (
    SELECT shard, sum(pairs) AS pairs FROM hookledger.parked_range GROUP BY shard
)
SELECT l.shard, CASE WHEN l.expires_at > clock_timestamp() THEN l.owner END AS owner, l.epoch,
       nullif(l.expires_at, '-infinity') AS expires_at, c.tick AS checkpoint,
       coalesce(extract(epoch FROM clock_timestamp() - (SELECT t.at FROM hookledger.tick t WHERE t.tick > c.tick
                                                         ORDER BY t.tick LIMIT 1)), 0)::float8 AS lag_seconds,
       coalesce((SELECT r.pairs FROM retrying r WHERE r.shard = l.shard), 0)::bigint AS retrying,
       (coalesce((SELECT p.pairs FROM packed p WHERE p.shard = l.shard), 0)
        + coalesce((SELECT r.pairs FROM ranged r WHERE r.shard = l.shard), 0))::bigint AS parked
  FROM hookledger.lease l JOIN hookledger.checkpoint c USING (shard) ORDER BY l.shard
"""

_LOG = """
SELECT clock_timestamp() AS at, coalesce(t.tick, 0) AS tick, t.at AS tick_at, t.route_pos AS tick_route_pos,
       coalesce((SELECT e.pos FROM hookledger.route_event e ORDER BY e.pos DESC LIMIT 1), 0) AS route_pos,
       hookledger.has_news(coalesce(t.snap, '1:1:'::pg_snapshot)) AS is_unread,
       greatest(0, coalesce(extract(epoch FROM clock_timestamp() - least(
           (SELECT min(recorded_at) FROM hookledger.retry),
           (SELECT min(first.recorded_at) FROM hookledger.lease l, LATERAL (
               SELECT p.recorded_ats[1] AS recorded_at FROM hookledger.parked p
                WHERE p.shard = l.shard ORDER BY p.last_tick LIMIT 1) first),
           (SELECT k.at FROM hookledger.tick k
             WHERE k.tick >= (SELECT min(from_tick) FROM hookledger.parked_range)
             ORDER BY k.tick LIMIT 1))), 0))::float8 AS oldest_seconds
  FROM (SELECT) nothing LEFT JOIN LATERAL (
       SELECT tick, snap, at, route_pos FROM hookledger.tick ORDER BY tick DESC LIMIT 1) t ON true
"""


# Each of these tables has 16 rows, and what a flush leaves behind is removed by the next one that comes by, unless a
# snapshot may see it. Anybody may read these counts, but only a superuser whose snapshot it is. PostgreSQL keeps the
# last three millions of transaction ids for its repair.
_SERVER = """
SELECT greatest(pg_stat_get_dead_tuples('hookledger.lease'::regclass),
                pg_stat_get_dead_tuples('hookledger.checkpoint'::regclass)) AS dead_rows,
       (1::bigint << 31) - 3000000
           - (SELECT max(greatest(age(datfrozenxid), mxid_age(datminmxid))) FROM pg_database) AS transactions_left,
       (SELECT coalesce(datcollversion <> pg_database_collation_actual_version(oid), false) FROM pg_database
         WHERE datname = current_database()) AS sorts_otherwise
"""


async def read(database: Database) -> InstallationStatus:
    """The status now, by the database's clock."""
    async with database.connection(seconds=READ_SECONDS) as connection:
        processes = await connection.fetch(_PROCESSES, TTL)
        shards = await connection.fetch(_SHARDS)
        (log,) = await connection.fetch(_LOG)
        (server,) = await connection.fetch(_SERVER)
    return InstallationStatus(
        processes=tuple(ProcessState(**row) for row in processes),
        shards=tuple(ShardStatus(**row) for row in shards),
        log=LogState(**log),
        lost=tuple(await lost_log.read(database, within=TOLD)),
        sources=await standing.read(database),
        server=ServerState(**server),
    )
