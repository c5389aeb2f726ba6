"""A delivery in memory: one pair of event and route, from its decision to its outcome.

A delivery is *accounted* once a row in PostgreSQL stands for it: an outcome, a retry, a parked entry
(`daemon.pipeline.scheduling.ledger` counts those that are not).
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from eventstore.domain_events.events import StoredEvent
from eventstore.progress.backlog import PackedDeliveries, WaitingDelivery
from eventstore.progress.recording import ParkedKey

RouteAndSeq = tuple[UUID, int]
# Where a delivery stands in the order of events: tick and seq.
LogPosition = tuple[int, int]


class PackedRow:
    """A packed row of parked deliveries that is being drained; `remaining` are those without an outcome yet."""

    __slots__ = ("key", "remaining")

    def __init__(self, packed: PackedDeliveries) -> None:
        self.key: ParkedKey = packed.key
        self.remaining = len(packed.deliveries)


class Delivery:
    """One pair of event and route on its way. Identity is equality.

    `read_at` and `started_at` are monotonic times. `succeeded` says what the receiver made of the last request, and is
    None while there was none, or none that says anything about the receiver. `sent_at` is 0 unless a request is under
    way; one that is when its shard is handed over is `is_parting`, and ends with a farewell.
    """

    __slots__ = (
        "event",
        "event_time",
        "failures",
        "has_retry_row",
        "is_accounted",
        "is_parting",
        "is_slow",
        "is_started",
        "is_withdrawn",
        "packed",
        "read_at",
        "replay",
        "route_id",
        "sent_at",
        "shard",
        "started_at",
        "succeeded",
        "tick",
    )

    def __init__(self, *, route_id: UUID, event: StoredEvent, event_time: datetime, tick: int, read_at: float) -> None:
        self.route_id = route_id
        self.event = event
        self.event_time = event_time
        self.tick = tick
        self.read_at = read_at
        self.shard = event.shard
        self.failures = 0
        self.succeeded: bool | None = None
        self.started_at = 0.0
        self.sent_at = 0.0
        self.is_accounted = False
        self.is_parting = False
        self.is_slow = False
        self.is_started = False
        self.is_withdrawn = False
        self.has_retry_row = False
        self.packed: PackedRow | None = None
        self.replay: UUID | None = None

    @classmethod
    def waiting(cls, row: WaitingDelivery, event: StoredEvent, *, read_at: float, packed: PackedRow | None) -> Delivery:
        """A delivery that was written down and is taken up again."""
        delivery = cls(route_id=row.route_id, event=event, event_time=row.event_time, tick=row.tick, read_at=read_at)
        delivery.failures = row.failures
        delivery.is_accounted = True
        delivery.has_retry_row = packed is None
        delivery.packed = packed
        delivery.replay = row.replay
        return delivery

    @property
    def pair(self) -> RouteAndSeq:
        return self.route_id, self.event.seq

    @property
    def is_test(self) -> bool:
        """True if somebody tries a route out. It goes the way of all deliveries, and is counted by no metric."""
        return self.event.test_route is not None

    @property
    def place(self) -> LogPosition:
        return self.tick, self.event.seq
