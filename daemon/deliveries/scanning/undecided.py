"""Deliveries that no table lists, found by deciding their events again.

Above a checkpoint a delivery is only in the memory of the process that owns the shard, or its event has not been read
yet. In a parked range there are too many deliveries to list. Whether an event is due to a route is a pure function of
the two logs, so it can be decided here as well.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from functools import partial
from uuid import UUID

from daemon.core.routing.decision import Decision
from daemon.core.routing.index import RouteIndex
from daemon.core.routing.timeline import Timeline
from daemon.core.webhook.payload import PayloadEvent
from daemon.expressions.judging import EventJudge, FilterPlaces
from daemon.expressions.stored_events import payload_event
from eventstore import domain_events
from eventstore.postgres.connect import Database
from eventstore.queries.deliveries import undecided
from eventstore.queries.deliveries.delivery_log import FoundDelivery, ListPosition, ListScope, Stretch
from eventstore.queries.deliveries.undecided import Marks
from eventstore.queries.events.listing import LoggedEvent

# Many filters take long together. Events that are not decided by then are left to the next stretch.
_DECIDING_SECONDS = 0.02


class UndecidedReader:
    """Reads stretches of undecided deliveries within one scope."""

    def __init__(
        self, database: Database, index: RouteIndex, scope: ListScope, places: FilterPlaces | None = None
    ) -> None:
        self._database = database
        self._places = places
        self._index = index
        self._scope = scope
        self._marks: Marks | None = None
        self._few: list[LoggedEvent] | None = None

    async def read(self, begin: ListPosition, rows: int) -> Stretch:
        """The next stretch, of about so many deliveries or events."""
        if self._marks is None:
            self._marks = await self._own_marks()
            self._few = await undecided.few(self._database, self._scope.tenant, above_tick=_floor(self._marks))
        if self._few is not None:
            events, down_to = self._few, None
        else:
            walked = await undecided.walk(
                self._database,
                self._scope.tenant,
                begin,
                above_tick=_floor(self._marks),
                event_type=self._scope.event_type,
                since=self._scope.bottom.event_time,
                rows=rows,
            )
            events, down_to = walked.events, walked.down_to
        due = await self._due(sorted(events, key=_upwards, reverse=True), begin, rows, self._marks)
        return due if due.down_to is not None else Stretch(due.found, down_to)

    async def _own_marks(self) -> Marks:
        marks = await undecided.marks(self._database, self._scope.tenant)
        return Marks(
            checkpoint=marks.checkpoint,
            ranges={route_id: begin for route_id, begin in marks.ranges.items() if self._has_route(route_id)},
        )

    def _has_route(self, route_id: UUID) -> bool:
        timeline = self._index.timeline(route_id)
        return (
            timeline is not None
            and timeline.current.tenant == self._scope.tenant
            and self._scope.route_id in (None, route_id)
        )

    async def _due(self, events: Sequence[LoggedEvent], begin: ListPosition, rows: int, marks: Marks) -> Stretch:
        """The due deliveries of these events below `begin`. `down_to` is None if all events were decided."""
        found: list[FoundDelivery] = []
        ends_at = time.monotonic() + _DECIDING_SECONDS
        for event in events:
            if not self._has_event(event, begin):
                continue
            judge = EventJudge(event, self._scope.tenant, partial(self._payload, event), self._places)
            for timeline in self._candidates(event, marks):
                position = ListPosition(event.event_time, event.seq, timeline.current.id)
                if position >= begin:
                    continue
                if (await judge.judge(timeline)).decision is Decision.DELIVER:
                    found.append(FoundDelivery(position, event.id, event.type, event.test_route is not None))
                if len(found) >= rows or time.monotonic() > ends_at:
                    return Stretch(found, position)
        return Stretch(found, None)

    async def _payload(self, event: LoggedEvent) -> PayloadEvent | None:
        stored = (await domain_events.by_seq(self._database, {event.seq: event.recorded_at})).get(event.seq)
        return None if stored is None else payload_event(stored, event_time=event.event_time)

    def _has_event(self, event: LoggedEvent, begin: ListPosition) -> bool:
        """Whether the event is of this scope, and deliveries of it may lie below `begin`."""
        position = ListPosition(event.event_time, event.seq, UUID(int=0))
        return self._scope.bottom <= position < begin and self._scope.event_type in (None, event.type)

    def _candidates(self, event: LoggedEvent, marks: Marks) -> list[Timeline]:
        """The routes for which the event must be decided, downwards."""
        tick = event.tick
        if tick is not None and tick <= marks.checkpoint:
            if event.test_route is not None:
                return []  # it is never parked
            place = (tick, event.seq)
            ranged = (self._index.timeline(route_id) for route_id, begin in marks.ranges.items() if begin <= place)
            candidates = [timeline for timeline in ranged if timeline is not None]
        else:
            candidates = list(self._index.candidates(self._scope.tenant, event.type))
        only = self._scope.route_id
        return sorted(
            (timeline for timeline in candidates if only in (None, timeline.current.id)), key=_route_id, reverse=True
        )


def _floor(marks: Marks) -> int:
    """The last tick of which a table lists every delivery."""
    return min([marks.checkpoint, *(tick - 1 for tick, _ in marks.ranges.values())])


def _upwards(event: LoggedEvent) -> tuple[datetime, int]:
    return event.event_time, event.seq


def _route_id(timeline: Timeline) -> UUID:
    return timeline.current.id
