"""What audits check besides deliveries: ticks, checkpoints, what is kept, and rows that stand for many deliveries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from eventstore.postgres.connect import Database
from eventstore.postgres.snapshot import Snapshot

PAGE_TICKS = 20_000

_SECONDS = 60.0


class WrongTick(NamedTuple):
    """A tick that does not follow from the one before it, or from the route log. Fields of the tick before are None if
    there is none, those of lifecycle events if there is no such position.
    """

    tick: int
    at: datetime
    route_pos: int
    closed_upto: datetime
    is_blank: bool
    previous: int | None
    previous_route_pos: int | None
    previous_closed_upto: datetime | None
    is_behind: bool
    changed_at: datetime | None
    next_change_at: datetime | None


class AuditedRange(NamedTuple):
    """A row of `parked_range`."""

    route_id: UUID
    shard: int
    from_tick: int
    from_seq: int
    pairs: int


class WrongPacked(NamedTuple):
    """A packed row of which something is wrong. `is_even` if its arrays have one length, `highest_tick` is the highest
    of its ticks, `route_tenant` is None if there is no such route.
    """

    route_id: UUID
    shard: int
    epoch: int
    flush: int
    tenant: str
    last_tick: int
    highest_tick: int | None
    is_even: bool
    route_tenant: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LogMarks:
    """The marks of one moment. `kept_from` has the texts in `meta`, `oldest_days` the oldest partition of each log,
    `steady_clock` its rows, which is one. `given_seq` is the last number that was given to an event, `newest_seq` the
    highest that one has.
    """

    now: datetime
    newest_tick: int
    checkpoints: dict[int, int]
    kept_from: dict[str, str]
    oldest_days: dict[str, date]
    steady_clock: list[int]
    given_seq: int
    newest_seq: int
    ranges: list[AuditedRange]
    wrong_packed: list[WrongPacked]


# What a tick must be, by hookledger.make_tick: $1 the tick to begin after, $2 the last one, $3 how many.
_WRONG_TICKS = """
WITH page AS MATERIALIZED (
    SELECT tick, snap, at, route_pos, closed_upto FROM hookledger.tick
     WHERE tick >= $1 AND tick <= $2 ORDER BY tick LIMIT $3::integer + 1
), followed AS (
    SELECT t.tick, t.at, t.route_pos, t.closed_upto, t.snap::text = '1:1:' AS is_blank,
           lag(t.tick) OVER w AS previous, lag(t.route_pos) OVER w AS previous_route_pos,
           lag(t.closed_upto) OVER w AS previous_closed_upto,
           coalesce(pg_snapshot_xmax(t.snap) < pg_snapshot_xmax(lag(t.snap) OVER w)
                    OR pg_snapshot_xmin(t.snap) < pg_snapshot_xmin(lag(t.snap) OVER w), false) AS is_behind,
           e.effective_at AS changed_at, n.effective_at AS next_change_at
      FROM page t
      LEFT JOIN hookledger.route_event e ON e.pos = t.route_pos
      LEFT JOIN hookledger.route_event n ON n.pos = t.route_pos + 1
    WINDOW w AS (ORDER BY t.tick)
)
SELECT *, (SELECT max(tick) FROM page) AS upto FROM followed
 WHERE tick > $1 AND (
       previous IS NOT NULL AND previous <> tick - 1
    OR is_behind
    OR route_pos < previous_route_pos
    OR route_pos > 0 AND changed_at IS NULL
    OR closed_upto <> greatest(at, changed_at, previous_closed_upto) AND previous IS NOT NULL
    OR closed_upto < greatest(at, changed_at)
    OR next_change_at <= closed_upto)
 UNION ALL
SELECT NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, (SELECT max(tick) FROM page)
"""

# $1 how long ago a day must have begun, if that matters.
_DAYS = {
    log: f"""
SELECT to_date(right(c.relname, 8), 'YYYYMMDD') AS day
  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
 WHERE i.inhparent = 'hookledger.{log}'::regclass AND NOT i.inhdetachpending AND c.relname ~ '_[0-9]{{8}}$'
"""
    for log in ("domain_event", "attempt")
}
_OLDER = " AND to_date(right(c.relname, 8), 'YYYYMMDD') < clock_timestamp() - $1::interval"

_OLDEST_DAYS = """
SELECT p.relname AS log, min(to_date(right(c.relname, 8), 'YYYYMMDD')) AS day
  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent
 WHERE i.inhparent IN ('hookledger.domain_event'::regclass, 'hookledger.attempt'::regclass) AND NOT i.inhdetachpending
   AND c.relname ~ '_[0-9]{8}$'
 GROUP BY p.relname
"""

# Only those of which something is wrong: there may be a hundred thousand others.
_WRONG_PACKED = """
SELECT route_id, shard, epoch, flush, tenant, last_tick, highest_tick, is_even, route_tenant
  FROM (SELECT p.route_id, p.shard, p.epoch, p.flush, p.tenant, p.last_tick, e.tenant AS route_tenant,
               (SELECT max(t) FROM unnest(p.ticks) t) AS highest_tick,
               cardinality(p.ticks) = cardinality(p.seqs) AND cardinality(p.recorded_ats) = cardinality(p.seqs)
                   AND cardinality(p.event_times) = cardinality(p.seqs)
                   AND greatest(array_ndims(p.seqs), array_ndims(p.ticks), array_ndims(p.recorded_ats),
                                array_ndims(p.event_times)) = 1 AS is_even
          FROM hookledger.parked p
          LEFT JOIN hookledger.route_event e ON e.route_id = p.route_id AND e.version = 1) packed
 WHERE route_tenant IS NULL OR NOT is_even OR last_tick IS DISTINCT FROM highest_tick OR tenant <> route_tenant
    OR shard <> hookledger.shard_of(route_tenant)
"""

_STEADY_CLOCK = "SELECT ahead_microseconds FROM hookledger.steady_clock"
_RANGES = "SELECT route_id, shard, from_tick, from_seq, pairs FROM hookledger.parked_range"


_SEQS = """
SELECT (SELECT coalesce(max(seq), 0) FROM hookledger.domain_event) AS newest, last_value AS given
  FROM hookledger.domain_event_seq
"""


async def marks(connection: Snapshot) -> LogMarks:
    """The marks, in the snapshot of the connection."""
    (seqs,) = await connection.fetch(_SEQS)
    oldest = await connection.fetch(_OLDEST_DAYS)
    kept_from = await connection.fetch("SELECT key, value FROM hookledger.meta WHERE key LIKE '%\\_kept\\_from'")
    return LogMarks(
        now=await connection.fetchval("SELECT clock_timestamp()"),
        newest_tick=await connection.fetchval("SELECT coalesce(max(tick), 0) FROM hookledger.tick"),
        checkpoints=await checkpoints(connection),
        kept_from={row["key"]: row["value"] for row in kept_from},
        oldest_days={row["log"]: row["day"] for row in oldest},
        steady_clock=[row["ahead_microseconds"] for row in await connection.fetch(_STEADY_CLOCK)],
        given_seq=seqs["given"],
        newest_seq=seqs["newest"],
        ranges=[AuditedRange(*row) for row in await connection.fetch(_RANGES)],
        wrong_packed=[WrongPacked(*row) for row in await connection.fetch(_WRONG_PACKED)],
    )


async def wrong_ticks(database: Database, *, after: int, upto: int) -> tuple[list[WrongTick], int]:
    """The wrong ones of the next PAGE_TICKS ticks after a number, and how far that is; `upto` if there are no more.

    Also compares the first of them with the tick `after`, if there is one.
    """
    async with database.connection(seconds=_SECONDS) as connection:
        rows = await connection.fetch(_WRONG_TICKS, after, upto, PAGE_TICKS)
    last = rows[-1]["upto"]
    return [WrongTick(*tuple(row)[:-1]) for row in rows[:-1]], upto if last is None or last <= after else last


async def last_tick_before(database: Database, at: datetime) -> int:
    """The number of the last tick that cannot have read what was recorded from a moment on, 0 if there is none."""
    async with database.connection(seconds=_SECONDS) as connection:
        return int(await connection.fetchval(_LAST_TICK, at))


# Without an index on closed_upto, which rises with the ticks: by halving, in as many steps as a number has bits.
_LAST_TICK = """
WITH RECURSIVE halved AS (
    SELECT coalesce(min(tick), 1) - 1 AS low, coalesce(max(tick), 0) AS high FROM hookledger.tick
     UNION ALL
    SELECT CASE WHEN m.is_before THEN m.middle ELSE h.low END, CASE WHEN m.is_before THEN h.high ELSE m.middle - 1 END
      FROM halved h
     CROSS JOIN LATERAL (
           SELECT (h.low + h.high + 1) / 2 AS middle,
                  (SELECT t.closed_upto < $1 FROM hookledger.tick t
                    WHERE t.tick >= (h.low + h.high + 1) / 2 ORDER BY t.tick LIMIT 1) AS is_before) m
     WHERE h.low < h.high
)
SELECT low FROM halved WHERE low >= high LIMIT 1
"""


async def checkpoints(connection: Snapshot) -> dict[int, int]:
    """Shard → the last tick that is completely accounted for."""
    rows = await connection.fetch("SELECT shard, tick FROM hookledger.checkpoint")
    return {row["shard"]: row["tick"] for row in rows}


async def ranges(database: Database) -> list[AuditedRange]:
    """The ranges of all routes."""
    async with database.connection(seconds=_SECONDS) as connection:
        return [AuditedRange(*row) for row in await connection.fetch(_RANGES)]


async def resends(
    database: Database, pairs: Sequence[tuple[UUID, int, datetime]]
) -> dict[tuple[UUID, int], list[datetime]]:
    """When somebody had a delivery sent again, by (route, seq): by hand, and by a replay of its route and time.

    Deliveries are given as route, seq and event time. The times of each are in order.
    """
    columns = [list(column) for column in zip(*pairs, strict=True)]
    async with database.connection(seconds=_SECONDS) as connection:
        rows = await connection.fetch(_RESENDS, *columns)
    return {(row["route_id"], row["seq"]): row["times"] for row in rows}


_RESENDS = """
WITH pairs AS MATERIALIZED (
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::timestamptz[]) AS p (route_id, seq, event_time)
), resends AS (
    SELECT r.route_id, r.seq, r.at FROM hookledger.resend r
     WHERE (r.route_id, r.seq) IN (SELECT route_id, seq FROM pairs)
     UNION ALL
    SELECT p.route_id, p.seq, r.created_at FROM pairs p JOIN hookledger.replay r
        ON r.route_id = p.route_id AND r.sendable_from <= p.event_time AND p.event_time < r.until
)
SELECT route_id, seq, array_agg(at ORDER BY at) AS times FROM resends GROUP BY route_id, seq
"""


async def days(database: Database, log: str, *, older_than: timedelta | None = None) -> list[date]:
    """The UTC days of which `log`, domain_event or attempt, has a partition, oldest first; with `older_than` only those
    that began so long ago.
    """
    async with database.connection(seconds=_SECONDS) as connection:
        if older_than is None:
            rows = await connection.fetch(_DAYS[log])
        else:
            rows = await connection.fetch(_DAYS[log] + _OLDER, older_than)
    return sorted(row["day"] for row in rows)
