"""Reads the attempts and the state of single deliveries: for explanations, and for the pages of a delivery."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg

from eventstore.domain_events.ticks import LogPosition
from eventstore.postgres.connect import Database
from eventstore.progress.steady_time import AHEAD

# A delivery may be sent again for ever: its newest attempts are read, and no more of them.
MAX_ATTEMPTS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedAttempt:
    """A row of `attempt`, without the response."""

    at: datetime
    seq: int
    route_id: UUID
    number: int
    started_at: datetime
    duration_ms: int
    outcome: str
    status_code: int | None
    error: str | None
    route_version: int
    key_ids: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedExchange(RecordedAttempt):
    """A row of `attempt` with the response: `response_head` is its headers as a JSON list of names and values,
    `response_body` the beginning of its body.
    """

    event_type: str
    is_test: bool
    response_head: str | None
    response_body: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptSummary:
    """The state of a delivery by its attempts. `requests` is how many were made; the fields `last_…` belong to the last
    one. `end_outcome` is the final outcome, `delivered` before any other, with the number of its request.
    `retry_failures` and `due_at` belong to its row in `retry`, None if it has none.
    """

    requests: int
    last_at: datetime | None
    last_status_code: int | None
    last_error: str | None
    last_duration_ms: int | None
    was_delivered: bool
    end_outcome: str | None
    end_number: int | None
    retry_failures: int | None
    due_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventAndRoute:
    """The event and the route that make up a delivery."""

    seq: int
    route_id: UUID
    event_id: str
    event_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class DroppedOutcome:
    """How a delivery of an event ended that is no longer kept."""

    outcome: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingState:
    """A delivery that waits: `state` is "retrying", with the time of its next attempt, or "parked"."""

    seq: int
    route_id: UUID
    state: str
    failures: int
    due_at: datetime | None


# The newest $4 attempts of each delivery, and the one that delivered.
_ATTEMPTS = """
SELECT at, seq, route_id, number, started_at, duration_ms, outcome, status_code, error, route_version, key_ids
  FROM (SELECT *, row_number() OVER (PARTITION BY route_id, seq ORDER BY at DESC, number DESC) AS nth,
               row_number() OVER (PARTITION BY route_id, seq ORDER BY outcome <> 'delivered', at, number) AS nth_end
          FROM hookledger.attempt
         WHERE route_id = ANY ($1::uuid[]) AND seq >= $2 AND seq <= $3) found
 WHERE nth <= $4 OR (nth_end = 1 AND outcome = 'delivered')
 ORDER BY at, number
"""

# $2 the seq of an event, $3 its event time. Few packed rows span that time.
_WAITING = f"""
SELECT seq, route_id, 'retrying' AS state, failures, due_at - {AHEAD} AS due_at FROM hookledger.retry
 WHERE route_id = ANY ($1::uuid[]) AND seq = $2
 UNION ALL
SELECT DISTINCT $2::bigint, route_id, 'parked', 0, NULL::timestamptz FROM hookledger.parked
 WHERE route_id = ANY ($1::uuid[]) AND $2::bigint = ANY (seqs)
   AND tstzrange(first_time, last_time, '[]') @> $3::timestamptz
"""

_RANGES = "SELECT route_id, from_tick, from_seq FROM hookledger.parked_range WHERE route_id = ANY ($1::uuid[])"

# $1 route, $2 seq, $3 the event time, $4 the most rows. An outcome is recorded after its event; the day allows for
# clocks that are set back.
_EXCHANGES = """
SELECT at, seq, route_id, number, started_at, duration_ms, outcome, status_code, error, route_version, key_ids,
       event_type, is_test, response_head, response_body
  FROM hookledger.attempt
 WHERE route_id = $1 AND seq = $2 AND at >= $3::timestamptz - interval '1 day'
 ORDER BY at DESC, number DESC LIMIT $4
"""

# The newest outcomes of a tenant's events from before $3, by the indexes of its lists: no more than so many of each are
# looked at. $1 tenant, $2 event id
_OF_DROPPED = " UNION ALL ".join(
    f"""
SELECT outcome, at FROM (
       SELECT event_id, outcome, at FROM hookledger.attempt
        WHERE tenant = $1 AND event_time < $3 AND {condition}
        ORDER BY {order}event_time DESC, seq DESC LIMIT 20000) old
 WHERE event_id = $2"""
    for condition, order in (
        ("outcome = 'delivered'", ""),
        *((f"outcome = '{outcome}'", "outcome DESC, ") for outcome in ("failed", "suppressed", "expired")),
    )
)

# $1 tenant, $2 the first four bytes of a delivery id
_BY_KEY = """
SELECT DISTINCT seq, route_id, event_id, event_time FROM hookledger.attempt
 WHERE delivery_key = $2 AND number <= 1 AND tenant = $1
 ORDER BY seq DESC
"""
_BY_KEY_ANY_TENANT = """
SELECT DISTINCT seq, route_id, event_id, event_time FROM hookledger.attempt
 WHERE delivery_key = $1 AND number <= 1
 ORDER BY seq DESC
"""

# $1 routes, $2 seqs, $3 event times. `retry` is read before `attempt`: a waiting delivery becomes an outcome. Only a
# manual retry or a replay turns an outcome into a waiting delivery, and then the outcome remains.
_RETRIES = f"""
SELECT r.route_id, r.seq, r.failures, r.due_at - {AHEAD} AS due_at
  FROM unnest($1::uuid[], $2::bigint[]) AS p (route_id, seq)
  JOIN hookledger.retry r ON r.route_id = p.route_id AND r.seq = p.seq
"""
# The last request of each delivery and its final outcome, which may be one row. An outcome may be in any partition from
# that of its event on, so both are found in one walk of them.
_SUMMARIES = """
SELECT p.route_id, p.seq, a.*
  FROM unnest($1::uuid[], $2::bigint[], $3::timestamptz[]) AS p (route_id, seq, event_time)
  JOIN LATERAL (
       SELECT number, started_at, status_code, error, duration_ms, outcome,
              row_number() OVER (ORDER BY number DESC, at DESC) = 1 AND number > 0 AS is_last,
              row_number() OVER (ORDER BY outcome = 'delivered' DESC, outcome <> 'retrying' DESC, at DESC) = 1
              AND outcome <> 'retrying' AS is_end
         FROM hookledger.attempt
        WHERE route_id = p.route_id AND seq = p.seq AND at >= p.event_time - interval '1 day') a
    ON a.is_last OR a.is_end
"""


async def attempts(database: Database, routes: Sequence[UUID], *, first: int, last: int) -> list[RecordedAttempt]:
    """The attempts of these routes and the events with seq in [first, last], in the order of recording: of each
    delivery the newest MAX_ATTEMPTS, and in any case the one that delivered.
    """
    async with database.connection(seconds=30) as connection:
        rows = await connection.fetch(_ATTEMPTS, routes, first, last, MAX_ATTEMPTS)
    return [RecordedAttempt(**row) for row in rows]


async def waiting(database: Database, routes: Sequence[UUID], *, seq: int, event_time: datetime) -> list[WaitingState]:
    """The deliveries of one event to these routes that wait in `retry` or `parked`."""
    async with database.connection(seconds=10) as connection:
        rows = await connection.fetch(_WAITING, routes, seq, event_time)
    return [WaitingState(**row) for row in rows]


async def ranges(database: Database, routes: Sequence[UUID]) -> dict[UUID, LogPosition]:
    """Where the range begins of those of these routes that have one: all their deliveries from there on are parked.

    A waiting delivery moves from a range to a row, and from a row to an outcome. So read this first, then `waiting`,
    then `attempts`: in that order none is missed.
    """
    async with database.connection(seconds=30) as connection:
        rows = await connection.fetch(_RANGES, routes)
    return {row["route_id"]: (row["from_tick"], row["from_seq"]) for row in rows}


async def exchanges(database: Database, route_id: UUID, seq: int, *, event_time: datetime) -> list[RecordedExchange]:
    """The newest MAX_ATTEMPTS attempts of one delivery with their responses, in the order of recording."""
    async with database.connection(seconds=10) as connection:
        rows = await connection.fetch(_EXCHANGES, route_id, seq, event_time, MAX_ATTEMPTS)
    return [RecordedExchange(**row) for row in reversed(rows)]


async def of_dropped_event(
    database: Database, tenant: str, event_id: str, *, before: datetime
) -> DroppedOutcome | None:
    """How a delivery of a tenant's event from before a moment ended; None if none of its outcomes is kept."""
    async with database.connection(seconds=10) as connection:
        rows = await connection.fetch(_OF_DROPPED, tenant, event_id, before)
    return DroppedOutcome(**rows[0]) if rows else None


async def by_key(database: Database, tenant: str | None, key: int) -> list[EventAndRoute]:
    """The deliveries of a tenant, or of any, whose id begins with `key` and that have an attempt, the newest event
    first.

    `key` is the first four bytes of the delivery id as an integer (`attempt.delivery_key`).
    """
    async with database.connection() as connection:
        if tenant is None:
            rows = await connection.fetch(_BY_KEY_ANY_TENANT, key)
        else:
            rows = await connection.fetch(_BY_KEY, tenant, key)
    return [EventAndRoute(**row) for row in rows]


async def summaries(
    database: Database, pairs: Sequence[tuple[UUID, int, datetime]]
) -> dict[tuple[UUID, int], AttemptSummary]:
    """(route, seq) → summary, for deliveries given as route, seq and event time."""
    if not pairs:
        return {}
    columns = [list(column) for column in zip(*pairs, strict=True)]
    async with database.connection(seconds=10) as connection:
        retries = {(row["route_id"], row["seq"]): row for row in await connection.fetch(_RETRIES, *columns[:2])}
        rows = await connection.fetch(_SUMMARIES, *columns)
    last = {(row["route_id"], row["seq"]): row for row in rows if row["is_last"]}
    ends = {(row["route_id"], row["seq"]): row for row in rows if row["is_end"]}
    pairs_only = [(route_id, seq) for route_id, seq, _ in pairs]
    return {pair: _summary(last.get(pair), ends.get(pair), retries.get(pair)) for pair in pairs_only}


def _summary(last: asyncpg.Record | None, end: asyncpg.Record | None, retry: asyncpg.Record | None) -> AttemptSummary:
    """The summary of a delivery by the row of its last request, of its final outcome, and of its retry."""
    return AttemptSummary(
        requests=0 if last is None else last["number"],
        last_at=None if last is None else last["started_at"],
        last_status_code=None if last is None else last["status_code"],
        last_error=None if last is None else last["error"],
        last_duration_ms=None if last is None else last["duration_ms"],
        was_delivered=end is not None and end["outcome"] == "delivered",
        end_outcome=None if end is None else end["outcome"],
        end_number=None if end is None else end["number"],
        retry_failures=None if retry is None else retry["failures"],
        due_at=None if retry is None else retry["due_at"],
    )
