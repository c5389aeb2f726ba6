"""A delivery in memory: one pair of event and route, from its decision to its outcome.

A delivery is *accounted* once a row in PostgreSQL stands for it: an outcome, a retry, a parked entry
(`daemon.pipeline.scheduling.ledger` counts those that are not).
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from daemon.core.delivery.answer import delivery_id
from daemon.core.delivery.states.phases import DeliveryPhase, DeliveryStep, evolve
from daemon.core.webhook.payload import FilterResult
from eventstore.domain_events.events import StoredEvent
from eventstore.domain_events.ticks import LogPosition
from eventstore.progress.backlog import PackedDeliveries, WaitingDelivery
from eventstore.progress.rows import ParkedKey

RouteAndSeq = tuple[UUID, int]

_GONE = (DeliveryPhase.WITHDRAWN, DeliveryPhase.HANDED_OVER)


class PackedRow:
    """A packed row of parked deliveries that is being drained; `remaining` are those without an outcome yet."""

    __slots__ = ("key", "remaining")

    def __init__(self, packed: PackedDeliveries) -> None:
        self.key: ParkedKey = packed.key
        self.remaining = len(packed.deliveries)


class Delivery:
    """One pair of event and route on its way. Identity is equality.

    Only `advance` changes `phase`, and `is_withdrawn`, which is true if nobody here works on it any more. What is asked
    several times for each delivery is an attribute: a property takes four times as long. `read_at`, `started_at` and
    `sent_at` are monotonic seconds; the last is 0 unless a request is under way. `succeeded` says what the receiver
    made of the last request: None if there was none, or none that says anything about the receiver. `is_accounted`
    belongs to the ledger. The lanes have `is_slow` (it was started in the slow pool, or takes long), `has_place` (it
    counts among the places of its pool) and `slow_host` (if its request takes long: where it went). The recorder has
    `packed`, the packed row from which it was taken up, and `has_retry_row`, which speaks of the tables once all that
    was noted is written; `had_retry_row` stays true then. `is_test` is true for a test event, which takes the way of
    all deliveries and is counted by no metric. `filter_result` is a filter and what it made of the event when that was
    decided, so that it need not be asked again.
    """

    __slots__ = (
        "_id",
        "event",
        "event_time",
        "failures",
        "filter_result",
        "had_retry_row",
        "has_place",
        "has_retry_row",
        "is_accounted",
        "is_slow",
        "is_test",
        "is_withdrawn",
        "packed",
        "phase",
        "read_at",
        "replay",
        "route_id",
        "sent_at",
        "shard",
        "size_bytes",
        "slow_host",
        "started_at",
        "succeeded",
        "tick",
    )

    def __init__(self, route_id: UUID, event: StoredEvent, event_time: datetime, tick: int, read_at: float) -> None:
        self.route_id = route_id
        self.event = event
        self.event_time = event_time
        self.tick = tick
        self.read_at = read_at
        self.shard = event.shard
        self.size_bytes = event.size_bytes
        self.phase = DeliveryPhase.WAITING
        self.is_withdrawn = False
        self.failures = 0
        self.succeeded: bool | None = None
        self.started_at = 0.0
        self.sent_at = 0.0
        self.is_accounted = False
        self.is_slow = False
        self.has_place = False
        self.slow_host = ""
        self.is_test = event.test_route is not None
        self.had_retry_row = False
        self.has_retry_row = False
        self.filter_result: tuple[str, FilterResult] | None = None
        self.packed: PackedRow | None = None
        self.replay: UUID | None = None
        self._id: str | None = None

    @classmethod
    def waiting(cls, row: WaitingDelivery, event: StoredEvent, *, read_at: float, packed: PackedRow | None) -> Delivery:
        """A delivery that was written down and is taken up again."""
        delivery = cls(route_id=row.route_id, event=event, event_time=row.event_time, tick=row.tick, read_at=read_at)
        delivery.failures = row.failures
        delivery.is_accounted = True
        delivery.had_retry_row = delivery.has_retry_row = packed is None
        delivery.packed = packed
        delivery.replay = row.replay
        return delivery

    def advance(self, step: DeliveryStep) -> None:
        """Takes a step of its life (`daemon.core.delivery.states.phases`). Raises ImpossibleStep."""
        self.phase = phase = evolve(self.phase, step)
        self.is_withdrawn = phase in _GONE

    @property
    def is_handed_over(self) -> bool:
        """True if its outcome is to be written although its shard belongs to another process."""
        return self.phase is DeliveryPhase.HANDED_OVER

    @property
    def is_waiting(self) -> bool:
        """True if no worker has taken it."""
        return self.phase is DeliveryPhase.WAITING

    @property
    def is_sending(self) -> bool:
        """True while its request is under way."""
        return self.phase is DeliveryPhase.SENDING

    @property
    def is_ended(self) -> bool:
        """True if its outcome is noted."""
        return self.phase is DeliveryPhase.ENDED

    @property
    def id(self) -> str:
        """What receivers know it by. It is computed once: each request has it, and each outcome a part of it."""
        if self._id is None:
            self._id = delivery_id(self.route_id, self.event.id, self.event_time)
        return self._id

    @property
    def pair(self) -> RouteAndSeq:
        return self.route_id, self.event.seq

    @property
    def position(self) -> LogPosition:
        return self.tick, self.event.seq
