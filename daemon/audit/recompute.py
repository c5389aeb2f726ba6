"""The filters of an event that an audit judges anew, and whether a parked range contains a pair."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from daemon.core.webhook.payload import EventFilters
from daemon.expressions.stored_events import payload_event
from eventstore.domain_events.events import StoredEvent
from eventstore.domain_events.ticks import LogPosition
from eventstore.queries.deliveries.attempts import WaitingState


def filters_of(event: StoredEvent) -> EventFilters:
    """The filters of the event, to be evaluated once for all routes."""
    return EventFilters(payload_event(event))


def in_range(event: StoredEvent, route_id: UUID, ranges: Mapping[UUID, LogPosition]) -> WaitingState | None:
    """The state of a delivery that the parked range of its route contains, else None.

    `ranges` maps a route to the beginning of its range, which has no end. A test event is never parked.
    """
    begin = ranges.get(route_id)
    if begin is None or event.test_route is not None or event.tick is None or (event.tick, event.seq) < begin:
        return None
    return WaitingState(seq=event.seq, route_id=route_id, state="parked", failures=0, due_at=None)
