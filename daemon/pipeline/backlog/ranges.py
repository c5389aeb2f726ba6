"""Ranges: of a lane with more parked deliveries than are worth a list, only their beginning is kept.

What a route was due of a tick is a pure function of the two logs (rule 6 in daemon/README.md), so it can be decided
anew. A range begins at a position of the log, tick and seq, and is open to the end: while it stands, what the tailer
decides for the route costs a number in a counter. When the list before it is drained, its oldest events are read again,
decided again, and written out as packed rows. It ends once it has nothing left.

A tick may be an import of millions, so it is written out in chunks: at most so many rows for one flush, since leases
and outcomes wait for a flush, and at most so many events for one turn, since other lanes wait for theirs. A chunk ends
with a page of the tick, and the range then begins at the next seq. Rows and beginning are written in the same flush, so
no crash falls between them: what is below the beginning has rows or outcomes, what is not has none.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from daemon.core.routing.decision import Decision, FilterTest, judge
from daemon.core.routing.index import RouteIndex
from daemon.core.routing.timeline import Timeline
from daemon.core.webhook.expression import TooHeavy
from daemon.core.webhook.payload import EventFilters
from daemon.expressions.evaluator import Evaluator
from daemon.expressions.stored_events import payload_event
from daemon.pipeline.recording.recorder import Recorder
from daemon.pipeline.scheduling.lane import Lane
from daemon.pipeline.scheduling.ledger import Ledger
from daemon.pipeline.tunables import DEFAULTS, Tunables
from eventstore.domain_events import tail, ticks
from eventstore.domain_events.events import StoredEvent
from eventstore.domain_events.ticks import LogPosition, Tick
from eventstore.postgres.connect import Database
from eventstore.progress.rows import ParkedRow

# Between two turns of the event loop. Filters may take long.
_EVENTS_AT_ONCE = 100


@dataclass(slots=True)
class _OpenCut:
    """A tick that is read in several turns, and the position that its next page begins at.

    Kept, because a large tick is measured before it is read: measured again for each chunk, it would cost its length as
    many times. No connection and no page is held in between.
    """

    position: LogPosition
    pages: AsyncIterator[list[StoredEvent]]


@dataclass(slots=True)
class _Chunk:
    """What is written out at a time, and the position up to which that is all."""

    end: LogPosition
    ends_at: float  # monotonic seconds
    due: list[ParkedRow] = field(default_factory=list)
    events: int = 0


class Ranges:
    """`expand` writes out the beginning of a lane's range; `keep` is for how long events are kept."""

    def __init__(
        self,
        database: Database,
        index: RouteIndex,
        ledger: Ledger,
        recorder: Recorder,
        evaluator: Evaluator,
        *,
        keep: timedelta,
        tunables: Tunables = DEFAULTS,
    ) -> None:
        self._database = database
        self._keep = keep
        self._tunables = tunables
        self._index = index
        self._ledger = ledger
        self._recorder = recorder
        self._evaluator = evaluator
        self._open_cuts: dict[UUID, _OpenCut] = {}

    async def expand(self, lane: Lane) -> None:
        """Turns the beginning of the range into packed rows. Only ticks that the tailer has left behind."""
        begin = lane.range_from
        timeline = self._index.timeline(lane.route_id)
        if begin is None or timeline is None:
            return
        cuts = await ticks.after(self._database, begin[0] - 1, limit=self._tunables.expand_ticks)
        chunk = _Chunk(end=begin, ends_at=time.monotonic() + self._tunables.expand_seconds)
        for cut in cuts:
            if cut.tick > self._ledger.read_upto(lane.shard) or self._is_full(chunk):
                break
            await self._read(lane, timeline, cut, chunk)
        if lane.range_from != begin:
            self.forget(lane.route_id)
            return  # the shard was dropped meanwhile
        self._recorder.listed(chunk.due)
        is_whole = lane.expanded(len(chunk.due), chunk.end)
        if is_whole or chunk.end != begin:
            self._recorder.ranged(lane.route_id, lane.shard, lane.range_from, -len(chunk.due))

    def forget(self, route_id: UUID) -> None:
        """Forgets how far a tick was read for a route."""
        self._open_cuts.pop(route_id, None)

    async def is_old(self, lane: Lane) -> bool:
        """True if the events at the beginning of the range will soon be gone."""
        if lane.range_from is None:
            return False
        oldest = await ticks.after(self._database, lane.range_from[0] - 1, limit=1)
        return bool(oldest) and oldest[0].at < datetime.now(UTC) - self._keep + self._tunables.range_spare_time

    def _is_full(self, chunk: _Chunk) -> bool:
        return (
            len(chunk.due) >= self._tunables.expand_pairs
            or chunk.events >= self._tunables.expand_events
            or time.monotonic() > chunk.ends_at
        )

    async def _read(self, lane: Lane, timeline: Timeline, cut: Tick, chunk: _Chunk) -> None:
        """Adds what the route is due of one tick, from the chunk's end on, until the chunk is full.

        Without the payloads, since a tick may be an import.
        """
        position = chunk.end if chunk.end[0] == cut.tick else (cut.tick, 0)
        open_cut = self._open_cuts.pop(lane.route_id, None)  # if the read fails, it begins anew
        if open_cut is None or open_cut.position != position:
            before = await ticks.snap_of(self._database, cut.tick - 1)
            pages = tail.read_cut(self._database, before=before, tick=cut, shards=[lane.shard], from_seq=position[1])
            open_cut = _OpenCut(position, pages)
        async for page in open_cut.pages:
            await self._decide(lane, timeline, cut.tick, page, chunk)
            chunk.end = open_cut.position = (cut.tick, page[-1].seq + 1)
            if self._is_full(chunk):
                self._open_cuts[lane.route_id] = open_cut
                return
        chunk.end = (cut.tick + 1, 0)

    async def _decide(self, lane: Lane, timeline: Timeline, tick: int, page: list[StoredEvent], chunk: _Chunk) -> None:
        for event in page:
            chunk.events += 1
            if chunk.events % _EVENTS_AT_ONCE == 0:
                await asyncio.sleep(0)
            if await self._is_due(timeline, event):
                chunk.due.append(_parked(lane, event, tick))

    async def _is_due(self, timeline: Timeline, event: StoredEvent) -> bool:
        if event.tenant != timeline.current.tenant:
            return False
        route = timeline.as_of(event.event_time)
        text = None if route is None else route.config.payload.filter
        if text is None:
            return _is_due(timeline, event, _accept)
        filters = EventFilters(payload_event(event), allowance=self._tunables.loop_allowance())
        try:
            return _is_due(timeline, event, filters.passes)
        except TooHeavy:
            filters = EventFilters(payload_event(event))
            filters.results |= await self._evaluator.filter_results(event.tenant, payload_event(event), [text])
            return _is_due(timeline, event, filters.passes)


def _accept(_expression: str) -> bool:
    return True


def _is_due(timeline: Timeline, event: StoredEvent, passes: FilterTest) -> bool:
    judgement = judge(
        timeline,
        event_type=event.type,
        at=event.event_time,
        backfill=event.backfill,
        passes=passes,
        test_route=event.test_route,
    )
    return judgement.decision is Decision.DELIVER


def _parked(lane: Lane, event: StoredEvent, tick: int) -> ParkedRow:
    return ParkedRow(lane.shard, lane.route_id, event.seq, tick, event.recorded_at, event.event_time, event.tenant)
