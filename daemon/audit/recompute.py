"""The decision about one pair of event and route, recomputed, and whether a parked range contains the pair."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from daemon.core.routing.decision import Judgement, judge
from daemon.core.routing.timeline import Timeline
from daemon.core.webhook.payload import EventFilters
from daemon.expressions.stored_events import payload_event
from eventstore.domain_events.events import StoredEvent
from eventstore.domain_events.ticks import LogPosition
from eventstore.queries.attempts import WaitingState


def judged(event: StoredEvent, timeline: Timeline, filters: EventFilters) -> Judgement:
    """The decision about one pair, recomputed. `filters` are those of the event, shared by all its pairs."""
    return judge(
        timeline,
        event_type=event.type,
        at=event.event_time,
        backfill=event.backfill,
        passes=filters.passes,
        test_route=event.test_route,
    )


def filters_of(event: StoredEvent) -> EventFilters:
    """The filters of the event, to be evaluated once for all routes."""
    return EventFilters(payload_event(event))


def in_range(event: StoredEvent, route_id: UUID, ranges: Mapping[UUID, LogPosition]) -> WaitingState | None:
    """The state of a delivery that the parked range of its route contains, else None.

    `ranges` maps a route to the beginning of its range, which has no end.
    """
    begin = ranges.get(route_id)
    if begin is None or event.tick is None or (event.tick, event.seq) < begin:
        return None
    return WaitingState(seq=event.seq, route_id=route_id, state="parked", failures=0, due_at=None)
