"""Deliveries in memory, for the stages that need no database."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID, uuid4

from daemon.pipeline.scheduling.delivery import Delivery
from eventstore.domain_events.events import StoredEvent
from eventstore.progress.rows import AttemptRow

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def delivery(
    seq: int = 1, *, route_id: UUID | None = None, tick: int = 1, shard: int = 0, read_at: float = 0.0, size: int = 2
) -> Delivery:
    event = StoredEvent(
        seq,
        NOON,
        shard,
        "acme",
        f"evt_{seq}",
        "order.create",
        None,
        b" " * size,
        None,
        None,
        False,
        None,
        None,
        tick,
        NOON,
    )
    return Delivery(route_id=route_id or uuid4(), event=event, event_time=NOON, tick=tick, read_at=read_at)


def outcome(of: Delivery, word: str = "delivered", *, number: int = 1) -> AttemptRow:
    event = of.event
    return AttemptRow(
        event.seq, of.tick, of.route_id, of.event_time, NOON, of.shard, 200, number, 5, 1, False, word, None,
        event.tenant, event.id, event.type, None, None, None,
    )  # fmt: skip
