"""What an audit compares: a page of events, and all that is recorded or waits for them, read in one snapshot.

In one snapshot, because a delivery moves while it is looked at: from a range to a row, from a row to an outcome. The
routes that an event concerns are found by the caller, between the two reads, so that no row of another route is read.
Payloads are left out; few events need theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from eventstore.domain_events.events import StoredEvent
from eventstore.domain_events.ticks import LogPosition
from eventstore.postgres.connect import Database
from eventstore.postgres.snapshot import Snapshot
from eventstore.progress.steady_time import AHEAD, STATEMENT_TIME

# A statement looks at so many numbers of the sequence at most, however few of them are a tenant's.
WINDOW_SEQS = 50_000

# A snapshot of a page, or a statement.
SECONDS = 60.0
# An outcome is recorded after its event; the day allows for clocks that are set back.
_CLOCK_STEP = timedelta(days=1)


class AuditedAttempt(NamedTuple):
    """A row of `attempt`, without the answer."""

    route_id: UUID
    seq: int
    tick: int
    event_time: datetime
    shard: int
    is_test: bool
    tenant: str
    event_id: str
    event_type: str
    at: datetime
    started_at: datetime
    number: int
    outcome: str
    status_code: int | None
    error: str | None
    duration_ms: int
    route_version: int
    key_ids: str | None
    delivery_key: int | None


class AuditedRetry(NamedTuple):
    """A row of `retry`. `due_in` is how long it still waits, in steady time, below zero if it is due; `due_at` is when
    that is by the clock. `ahead` is by how much the two differ, since the clock was set. `has_replay` is False if
    `replay` is none of this route and time.
    """

    route_id: UUID
    seq: int
    tick: int
    event_time: datetime
    recorded_at: datetime
    shard: int
    tenant: str
    failures: int
    due_in: timedelta
    due_at: datetime
    ahead: timedelta
    holder: str | None
    replay: UUID | None
    has_replay: bool


class AuditedParked(NamedTuple):
    """A delivery in a packed row."""

    route_id: UUID
    seq: int
    tick: int
    event_time: datetime
    recorded_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedEvents:
    """A page of events, each with the tick that read it and an empty payload. `payload_bytes` has the size of each.

    `upto` is the seq up to which nothing is left out.
    """

    events: list[StoredEvent]
    payload_bytes: list[int]
    upto: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedRecord:
    """All that is recorded of a page of events and some routes, or waits: the attempts in the order of recording."""

    attempts: list[AuditedAttempt]
    retries: list[AuditedRetry]
    parked: list[AuditedParked]
    ranges: dict[UUID, LogPosition]


# LATERAL looks up the tick of each transaction. With a plain join the planner reads all ticks.
_EVENTS = """
WITH page AS MATERIALIZED (
    SELECT seq, recorded_at, shard, tenant, id, type, occurred_at, backfill, test_route, tick, txid,
           octet_length(data) + coalesce(octet_length(snapshot), 0) + coalesce(octet_length(context), 0)
               AS payload_bytes
      FROM hookledger.domain_event
     WHERE seq > $1 AND seq <= $2 AND recorded_at >= $3 AND recorded_at < $4 {whose}
     ORDER BY seq LIMIT $5
), cut AS MATERIALIZED (
    SELECT x.txid, x.own, n.tick, k.closed_upto
      FROM (SELECT DISTINCT txid, coalesce(tick, 0) AS own FROM page) x
     CROSS JOIN LATERAL (
           SELECT coalesce(nullif(x.own, 0), (SELECT t.tick FROM hookledger.tick t
                    WHERE t.snap_xmax > x.txid AND pg_visible_in_snapshot(x.txid, t.snap)
                    ORDER BY t.snap_xmax, t.tick LIMIT 1)) AS tick) n
      LEFT JOIN LATERAL (SELECT t.closed_upto FROM hookledger.tick t WHERE t.tick = n.tick LIMIT 1) k ON true
)
SELECT p.seq, p.recorded_at, p.shard, p.tenant, p.id, p.type, p.occurred_at, ''::bytea, NULL, NULL, p.backfill,
       p.test_route, NULL, CASE WHEN c.closed_upto IS NOT NULL THEN c.tick END, c.closed_upto, p.payload_bytes
  FROM page p JOIN cut c ON c.txid = p.txid AND c.own = coalesce(p.tick, 0)
 ORDER BY p.seq
"""
_EVENTS_OF = {False: _EVENTS.format(whose=""), True: _EVENTS.format(whose="AND tenant = $6")}

_NAMES = ", ".join(AuditedAttempt._fields)
_ATTEMPTS = f"""
SELECT {_NAMES} FROM hookledger.attempt
 WHERE route_id = ANY ($1::uuid[]) AND seq >= $2 AND seq <= $3 AND at >= $4
 ORDER BY at, number
"""
_RETRIES = f"""
SELECT route_id, seq, tick, event_time, recorded_at, shard, tenant, failures, due_at - {STATEMENT_TIME},
       due_at - {AHEAD}, {AHEAD}, holder, replay,
       EXISTS (SELECT FROM hookledger.replay p WHERE p.id = r.replay AND p.route_id = r.route_id
                  AND p.sendable_from <= r.event_time AND r.event_time < p.until AND p.state <> 'done')
  FROM hookledger.retry r WHERE route_id = ANY ($1::uuid[]) AND seq >= $2 AND seq <= $3
"""
# Tick and time exclude most packed rows of other pages, without reading their arrays.
_PARKED = """
SELECT p.route_id, u.seq, u.tick, u.event_time, u.recorded_at
  FROM hookledger.parked p,
       unnest(p.seqs, p.ticks, p.event_times, p.recorded_ats) AS u (seq, tick, event_time, recorded_at)
 WHERE p.route_id = ANY ($1::uuid[]) AND u.seq >= $2 AND u.seq <= $3 AND p.last_tick >= $4 AND p.first_time <= $5
"""
_RANGES = "SELECT route_id, from_tick, from_seq FROM hookledger.parked_range WHERE route_id = ANY ($1::uuid[])"


async def bounds(database: Database) -> tuple[int, int]:
    """The seq before that of the first event, and that of the last one; both 0 if there is none."""
    async with database.connection(seconds=SECONDS) as connection:
        (row,) = await connection.fetch(_BOUNDS)
    return row["first"] - 1, row["last"]


_BOUNDS = "SELECT coalesce(min(seq), 1) AS first, coalesce(max(seq), 0) AS last FROM hookledger.domain_event"


_NEXT = "SELECT coalesce(min(seq), $2::bigint + 1) FROM hookledger.domain_event WHERE seq > $1"


async def events(
    connection: Snapshot,
    start: datetime,
    end: datetime,
    *,
    tenant: str | None,
    after: int,
    upto: int,
    limit: int,
) -> AuditedEvents:
    """A page of the events recorded in [start, end) with seq in (after, upto], sorted by seq."""
    last = min(upto, after + WINDOW_SEQS)
    bound = [] if tenant is None else [tenant]
    rows = await connection.fetch(_EVENTS_OF[tenant is not None], after, last, start, end, limit, *bound)
    if not rows and last < upto:  # numbers may have been left out, and more of them than an audit could walk over
        last = min(upto, await connection.fetchval(_NEXT, last, upto) - 1)
    found = [StoredEvent(*tuple(row)[:-1]) for row in rows]
    return AuditedEvents(
        events=found,
        payload_bytes=[row["payload_bytes"] for row in rows],
        upto=found[-1].seq if len(found) == limit else last,
    )


async def record(connection: Snapshot, routes: Sequence[UUID], events: Sequence[StoredEvent]) -> AuditedRecord:
    """What is recorded of these routes and the events between the first and the last of these, or waits for them."""
    first, last = events[0].seq, events[-1].seq
    since = min(event.recorded_at for event in events) - _CLOCK_STEP
    first_tick = min((event.tick for event in events if event.tick is not None), default=0)
    until = max(event.event_time for event in events) + _CLOCK_STEP
    attempts = await connection.fetch(_ATTEMPTS, routes, first, last, since)
    retries = await connection.fetch(_RETRIES, routes, first, last)
    parked = await connection.fetch(_PARKED, routes, first, last, first_tick, until)
    ranges = await connection.fetch(_RANGES, routes)
    return AuditedRecord(
        attempts=[AuditedAttempt(*row) for row in attempts],
        retries=[AuditedRetry(*row) for row in retries],
        parked=[AuditedParked(*row) for row in parked],
        ranges={row["route_id"]: (row["from_tick"], row["from_seq"]) for row in ranges},
    )
