"""Deliveries that are written down nowhere: above a checkpoint they are in the memory of whoever owns the shard, or
their event is not read yet; in a range they are too many to list. What is due of an event is a pure function of the two
logs, so it is decided anew.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from daemon.core.routing.decision import Decision, judge
from daemon.core.routing.index import RouteIndex, Timeline
from daemon.core.webhook import payload
from eventstore import domain_events
from eventstore.domain_events.listing import LoggedEvent
from eventstore.postgres.connect import Database
from eventstore.queries import undecided
from eventstore.queries.delivery_log import FoundDelivery, ListPosition, ListScope, Stretch
from eventstore.queries.undecided import Marks

# Filters may take long, and others wait meanwhile; what is not decided by then is left to the next stretch.
_DECIDING_SECONDS = 0.02


class UndecidedReader:
    """Reads stretches of such deliveries, of one scope."""

    def __init__(self, database: Database, index: RouteIndex, scope: ListScope) -> None:
        self._database = database
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
            ranges={route_id: tick for route_id, tick in marks.ranges.items() if self._is_wanted(route_id)},
        )

    def _is_wanted(self, route_id: UUID) -> bool:
        timeline = self._index.timeline(route_id)
        return (
            timeline is not None
            and timeline.current.tenant == self._scope.tenant
            and self._scope.route_id in (None, route_id)
        )

    async def _due(self, events: Sequence[LoggedEvent], begin: ListPosition, rows: int, marks: Marks) -> Stretch:
        """What of these events is due and below `begin`; `down_to` is where it was enough, None if all was decided."""
        found: list[FoundDelivery] = []
        ends_at = time.monotonic() + _DECIDING_SECONDS
        for event in events:
            if not self._is_asked_for(event, begin):
                continue
            payloads = _Payload(self._database, event)
            for timeline in self._candidates(event, marks):
                place = ListPosition(event.event_time, event.seq, timeline.current.id)
                if place >= begin:
                    continue
                if await _is_due(event, timeline, payloads):
                    found.append(FoundDelivery(place, event.id, event.type, event.test_route is not None))
                if len(found) >= rows or time.monotonic() > ends_at:
                    return Stretch(found, place)
        return Stretch(found, None)

    def _is_asked_for(self, event: LoggedEvent, begin: ListPosition) -> bool:
        place = ListPosition(event.event_time, event.seq, UUID(int=0))
        return self._scope.bottom <= place < begin and self._scope.event_type in (None, event.type)

    def _candidates(self, event: LoggedEvent, marks: Marks) -> list[Timeline]:
        """The routes to be asked about an event, downwards."""
        tick = event.tick
        if tick is not None and tick <= marks.checkpoint:
            ranged = (self._index.timeline(route_id) for route_id, first in marks.ranges.items() if first <= tick)
            candidates = [timeline for timeline in ranged if timeline is not None]
        else:
            candidates = list(self._index.candidates(self._scope.tenant, event.type))
        wanted = self._scope.route_id
        return sorted(
            (timeline for timeline in candidates if wanted in (None, timeline.current.id)), key=_route_id, reverse=True
        )


class _Payload:
    """What an event carries, fetched once a filter has to look into it."""

    def __init__(self, database: Database, event: LoggedEvent) -> None:
        self._database = database
        self._event = event
        self._source: payload.PayloadSource | None = None

    async def source(self) -> payload.PayloadSource | None:
        """None if retention has dropped it meanwhile."""
        event = self._event
        if self._source is None:
            stored = (await domain_events.by_seq(self._database, {event.seq: event.recorded_at})).get(event.seq)
            if stored is not None:
                self._source = payload.PayloadSource(
                    event_id=event.id,
                    event_type=event.type,
                    created=event.event_time,
                    data=stored.data,
                    context=stored.context,
                    snapshot=stored.snapshot,
                )
        return self._source


def _floor(marks: Marks) -> int:
    """The last tick of which everything is written down."""
    return min([marks.checkpoint, *(tick - 1 for tick in marks.ranges.values())])


def _upwards(event: LoggedEvent) -> tuple[datetime, int]:
    return event.event_time, event.seq


def _route_id(timeline: Timeline) -> UUID:
    return timeline.current.id


async def _is_due(event: LoggedEvent, timeline: Timeline, payloads: _Payload) -> bool:
    route = timeline.as_of(event.event_time)
    source = None
    if route is not None and route.config.payload.filter is not None:
        source = await payloads.source()
    judgement = judge(
        timeline,
        event_type=event.type,
        at=event.event_time,
        backfill=event.backfill,
        passes=lambda expression: source is not None and payload.passes(expression, source),
        test_route=event.test_route,
    )
    return judgement.decision is Decision.DELIVER
