"""The rows that a flush writes, and how they become the parameters of a statement.

Outcomes, of which there are many, go as one array of rows of their table. The driver asks of each element of an array
whether it is an array too: with an array for each of twenty fields an outcome took 10 µs to encode instead of 6, and
PostgreSQL 4 µs to decode instead of 2.

For every other kind of row a statement takes one array for each field, in the order of the fields, and turns them back
into rows with `unnest`. `Parameters` numbers the placeholders and `columns` makes the arguments, both from the fields
of the row. So a field that is added here reaches every statement at its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import NamedTuple
from uuid import UUID


class AttemptRow(NamedTuple):
    """An outcome. `number` counts requests from 1, and is 0 for a delivery that ended without a request. Times are
    aware UTC. The fields are in the order of the table, see `LogMacs.records`.
    """

    seq: int
    tick: int
    route_id: UUID
    event_time: datetime
    started_at: datetime
    shard: int
    status_code: int | None
    number: int
    duration_ms: int
    route_version: int
    is_test: bool
    outcome: str
    error: str | None
    tenant: str
    event_id: str
    event_type: str
    key_ids: str | None
    response_head: str | None
    response_body: bytes | None
    delivery_key: int | None = None


class RetryRow(NamedTuple):
    """A delivery to send when `after` has passed from now, by the database's clock. `failures` counts its requests so
    far.

    If `is_held`, its request is in flight, and the row names the writing process as holder. The holder may record the
    outcome without a lease (eventstore/progress/late_outcomes.py).
    """

    shard: int
    route_id: UUID
    seq: int
    recorded_at: datetime
    event_time: datetime
    tick: int
    failures: int
    after: timedelta
    tenant: str
    is_held: bool = False


class ParkedRow(NamedTuple):
    """A delivery to park."""

    shard: int
    route_id: UUID
    seq: int
    tick: int
    recorded_at: datetime
    event_time: datetime
    tenant: str


class ParkedKey(NamedTuple):
    """The key of a packed row in `parked`."""

    shard: int
    epoch: int
    flush: int
    route_id: UUID


class RangeRow(NamedTuple):
    """All deliveries of a route from `from_tick` on are parked, of that tick those with a seq of at least `from_seq`;
    `pairs` more than before. None ends the range.
    """

    shard: int
    route_id: UUID
    from_tick: int | None
    from_seq: int
    pairs: int


class SettledRow(NamedTuple):
    """A pair whose row in `retry` goes."""

    shard: int
    route_id: UUID
    seq: int


class CheckpointRow(NamedTuple):
    """The tick up to which everything of a shard is accounted for."""

    shard: int
    tick: int


# The columns of `hookledger.attempt`, in their order there.
ATTEMPT_COLUMNS = ("at", *AttemptRow._fields, "txid", "seal", "sealed_tick", "mac")


# What a statement that records outcomes writes of each.
RECORDED = (*AttemptRow._fields, "mac")

# $1 what `LogMacs.records` makes, inside the caller's transaction.
INSERT_OUTCOMES = f"""
INSERT INTO hookledger.attempt ({", ".join(RECORDED)})
SELECT {", ".join(f"a.{name}" for name in RECORDED)} FROM unnest($1::hookledger.attempt[]) AS a
"""


def outcome_without_request(  # noqa: PLR0913 - a delivery and its event
    outcome: str,
    *,
    shard: int,
    seq: int,
    tick: int,
    route_id: UUID,
    route_version: int,
    event_time: datetime,
    ended_at: datetime,
    tenant: str,
    id: str,
    type: str,
    is_test: bool,
) -> AttemptRow:
    """The outcome of a delivery that ended while it waited. No request was made, so it has neither keys nor an id."""
    return AttemptRow(
        seq=seq,
        tick=tick,
        route_id=route_id,
        event_time=event_time,
        started_at=ended_at,
        shard=shard,
        status_code=None,
        number=0,
        duration_ms=0,
        route_version=route_version,
        is_test=is_test,
        outcome=outcome,
        error=None,
        tenant=tenant,
        event_id=id,
        event_type=type,
        key_ids=None,
        response_head=None,
        response_body=None,
    )


# PostgreSQL's type of each field. A field has one type, whatever its row.
TYPES: Mapping[str, str] = MappingProxyType(
    {
        "after": "interval",
        "delivery_key": "integer",
        "duration_ms": "integer",
        "epoch": "bigint",
        "error": "text",
        "event_id": "text",
        "event_time": "timestamptz",
        "event_type": "text",
        "failures": "integer",
        "flush": "bigint",
        "from_seq": "bigint",
        "from_tick": "bigint",
        "is_held": "boolean",
        "is_test": "boolean",
        "key_ids": "text",
        "mac": "bytea",
        "number": "integer",
        "outcome": "text",
        "pairs": "bigint",
        "recorded_at": "timestamptz",
        "response_body": "bytea",
        "response_head": "text",
        "route_id": "uuid",
        "route_version": "integer",
        "seq": "bigint",
        "shard": "smallint",
        "started_at": "timestamptz",
        "status_code": "smallint",
        "tenant": "text",
        "tick": "bigint",
    }
)


class Parameters:
    """Numbers the placeholders of a statement, in the order in which they are asked for, from `first` on."""

    def __init__(self, *, first: int = 1) -> None:
        self._next = first

    def one(self) -> str:
        """The placeholder of a single value."""
        number, self._next = self._next, self._next + 1
        return f"${number}"

    def unnest(self, fields: Sequence[str], alias: str) -> str:
        """Rows with these fields, as an item of a FROM clause under that alias."""
        arrays = ", ".join(f"{self.one()}::{TYPES[name]}[]" for name in fields)
        return f"unnest({arrays}) AS {alias} ({', '.join(fields)})"


def columns(rows: Sequence[tuple[object, ...]], fields: Sequence[str]) -> list[Sequence[object]]:
    """Rows turned into one sequence for each field."""
    return list(zip(*rows, strict=True)) if rows else [()] * len(fields)
