"""Rows with all columns. A test passes only the values that matter to it; without arguments each row is valid."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from uuid import UUID, uuid4

from eventstore.domain_events.events import NewEvent
from eventstore.leases.process import Process
from eventstore.progress.rows import AttemptRow, ParkedRow, RetryRow
from eventstore.route_log.log import NewRouteEvent

NOON = datetime(2024, 2, 29, 12, 0, tzinfo=UTC)
ROUTE = UUID("11111111-2222-3333-4444-555555555555")

# A tenant of each shard, found by trial: TENANTS[3] is in shard 3.
TENANTS = (
    "t42", "t1", "t2", "t19", "t20", "t7", "t9", "t11", "t3", "t13", "t8", "t21", "t6", "t0", "t44", "t15",
)  # fmt: skip

_event_number = count(1)


def new_event(*, tenant: str = "acme", id: str | None = None, type: str = "order.create", data: bytes = b"{}",
              occurred_at: datetime | None = None, context: bytes | None = None, snapshot: bytes | None = None,
              backfill: bool = False) -> NewEvent:  # fmt: skip
    return NewEvent(
        tenant=tenant,
        id=f"evt-{next(_event_number)}" if id is None else id,
        type=type,
        data=data,
        occurred_at=occurred_at,
        context=context,
        snapshot=snapshot,
        backfill=backfill,
    )


def process(owner: str) -> Process:
    return Process(owner=owner, host="test", pid=1, version="0", master_key="")


def draft(*, route_id: UUID | None = None, version: int = 1, type: str | None = None, tenant: str = "acme",
          body: str = "{}", reason: str | None = None, request_id: str | None = None,
          correlation_id: str | None = None, causation_id: str | None = None) -> NewRouteEvent:  # fmt: skip
    return NewRouteEvent(
        route_id=route_id or uuid4(),
        tenant=tenant,
        version=version,
        type=type or ("created" if version == 1 else "edited"),
        actor="user:1",
        origin="api",
        body=body,
        reason=reason,
        request_id=request_id,
        correlation_id=correlation_id,
        causation_id=causation_id,
    )


def attempt(*, shard: int = 0, seq: int = 1, tick: int = 1, route_id: UUID = ROUTE, number: int = 1,
            outcome: str = "delivered", status_code: int | None = 200, event_id: str = "evt") -> AttemptRow:  # fmt: skip
    return AttemptRow(
        shard=shard,
        seq=seq,
        tick=tick,
        route_id=route_id,
        event_time=NOON,
        started_at=NOON,
        status_code=status_code,
        number=number,
        duration_ms=12,
        route_version=3,
        is_test=False,
        outcome=outcome,
        error=None,
        tenant=TENANTS[shard],
        event_id=event_id,
        event_type="order.create",
        key_ids="k1",
        response_head=None,
        response_body=None,
    )


def retry(*, shard: int = 0, seq: int = 1, tick: int = 1, route_id: UUID = ROUTE, failures: int = 1,
          after: timedelta = timedelta(0), event_time: datetime = NOON, recorded_at: datetime = NOON,
          tenant: str | None = None, is_held: bool = False) -> RetryRow:  # fmt: skip
    return RetryRow(
        shard=shard,
        route_id=route_id,
        seq=seq,
        recorded_at=recorded_at,
        event_time=event_time,
        tick=tick,
        failures=failures,
        after=after,
        tenant=tenant or TENANTS[shard],
        is_held=is_held,
    )


def parked(*, shard: int = 0, seq: int = 1, tick: int = 1, route_id: UUID = ROUTE, event_time: datetime = NOON,
           recorded_at: datetime = NOON, tenant: str | None = None) -> ParkedRow:  # fmt: skip
    return ParkedRow(
        shard=shard,
        route_id=route_id,
        seq=seq,
        tick=tick,
        recorded_at=recorded_at,
        event_time=event_time,
        tenant=tenant or TENANTS[shard],
    )
