"""Ranges: if a lane has too many parked deliveries to list, only the position where they begin is kept.

What a route was due of a tick is a pure function of the two logs (rule 6 in daemon/README.md), so it can be decided
anew. A range begins at a position of the log, tick and seq, and is open to the end: while it stands, what the tailer
decides for the route costs a number in a counter. When the list before it is drained, its oldest events are read again,
decided again, and written out as packed rows. It ends once it has nothing left.

A tick may be an import of millions, so it is written out in chunks: at most so many rows for one flush, since leases
and outcomes wait for a flush, and at most so many events and so much time for one turn, since other ranges wait for
theirs. A chunk ends anywhere in a tick, and the range then begins at the next seq. Rows and beginning are written in
the same flush, so no crash falls between them: what is below the beginning has rows or outcomes, what is not has none.

Nothing is moved into memory here, so retries, refills and suppressions wait for none of this, however long filters
take. Tenants take turns.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from uuid import UUID

from daemon.core.routing.decision import Decision
from daemon.core.routing.index import RouteIndex
from daemon.core.routing.timeline import Timeline
from daemon.core.webhook.payload import PayloadEvent
from daemon.expressions.evaluator import Evaluator
from daemon.expressions.judging import EventJudge, FilterPlaces, asked_filter
from daemon.expressions.stored_events import payload_event
from daemon.pipeline.recording.recorder import Recorder
from daemon.pipeline.scheduling.lane import Lane
from daemon.pipeline.scheduling.ledger import Ledger
from daemon.pipeline.tunables import DEFAULTS, Tunables
from daemon.pipeline.wakeup import Wakeup
from eventstore import domain_events
from eventstore.domain_events import tail, ticks
from eventstore.domain_events.events import StoredEvent
from eventstore.domain_events.tail import LeanCut
from eventstore.domain_events.ticks import LogPosition, Tick
from eventstore.postgres.connect import Database
from eventstore.progress.rows import ParkedRow

# Between two turns of the event loop.
_EVENTS_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class _OpenCut:
    """A tick of which the beginning is written out, and the position at which the rest begins.

    Kept, because a large tick is measured before it is read: measured again for each chunk, it would cost its length as
    many times. No connection and no event is held in between.
    """

    position: LogPosition
    cut: LeanCut


@dataclass(slots=True)
class _Chunk:
    """What is written out at a time, and the position up to which that is all."""

    end: LogPosition
    ends_at: float  # monotonic seconds
    due: list[ParkedRow] = field(default_factory=list)
    events: int = 0


class _Payloads:
    """The payloads of a page of events: read when a filter asks for one, a few at a time, since they may be large."""

    def __init__(self, database: Database, timeline: Timeline, events: Sequence[StoredEvent]) -> None:
        self._database = database
        self._timeline = timeline
        self._events = events
        self._read: dict[int, StoredEvent | None] = {}

    async def of(self, place: int) -> PayloadEvent | None:
        """The event at that place of the page, None if it is not kept any more."""
        event = self._events[place]
        if event.seq not in self._read:
            ahead = islice(self._events, place, None)
            few = list(islice((each for each in ahead if self._is_asked(each)), tail.FEW_ROWS))
            self._read = await domain_events.first_by_seq(self._database, {each.seq: each.recorded_at for each in few})
        stored = self._read[event.seq]
        return None if stored is None else payload_event(stored, event_time=event.event_time)

    def _is_asked(self, event: StoredEvent) -> bool:
        return event.tenant == self._timeline.current.tenant and asked_filter(self._timeline, event) is not None


class Ranges:
    """`ask` asks for the beginning of a lane's range, `run_once` writes out a chunk and calls `on_expanded`.

    `keep` is for how long events are kept.
    """

    def __init__(
        self,
        database: Database,
        index: RouteIndex,
        ledger: Ledger,
        recorder: Recorder,
        evaluator: Evaluator,
        *,
        keep: timedelta,
        on_expanded: Callable[[], None],
        tunables: Tunables = DEFAULTS,
    ) -> None:
        self._database = database
        self._keep = keep
        self._on_expanded = on_expanded
        self._tunables = tunables
        self._index = index
        self._ledger = ledger
        self._recorder = recorder
        self._evaluator = evaluator
        self._open_cuts: dict[UUID, _OpenCut] = {}  # the one used last comes last
        # Tenant → its lanes; both in the order of their turns.
        self._asked: dict[str, dict[UUID, Lane]] = {}
        self._awaited: set[UUID] = set()
        self._old: set[UUID] = set()
        self._wakeup = Wakeup()

    def ask(self, lane: Lane) -> None:
        """Asks for a chunk of a lane that has nothing else to take up."""
        self._awaited.add(lane.route_id)
        self._line_up(lane)

    def is_awaited(self, route_id: UUID) -> bool:
        """True from when a chunk is asked for until it is noted."""
        return route_id in self._awaited

    async def save(self, lane: Lane) -> None:
        """Asks for all of a range whose events will soon be gone: nothing is dropped that a range needs, of any tenant,
        and its receiver may be dead, or slower than its events come.
        """
        if await self._is_old(lane):
            self._old.add(lane.route_id)
            self._line_up(lane)

    def forget(self, route_id: UUID) -> None:
        """Forgets how far a tick was read for a route, and that its lane has nothing else to take up."""
        self._open_cuts.pop(route_id, None)
        self._awaited.discard(route_id)

    async def run_once(self) -> None:
        """Writes out a chunk of the next lane, or waits until one is asked for."""
        self._wakeup.clear()
        lane = self._next()
        if lane is None:
            await self._wakeup.wait_set()
            return
        try:
            begin = lane.range_from
            await self._expand(lane)
            if lane.route_id in self._old:
                await asyncio.shield(self._recorder.flush())  # cancelled, it would lose what others noted
                if lane.range_from != begin and await self._is_old(lane):
                    self._line_up(lane)
                else:
                    self._old.discard(lane.route_id)
        finally:
            self._awaited.discard(lane.route_id)
            self._on_expanded()

    def _line_up(self, lane: Lane) -> None:
        timeline = self._index.timeline(lane.route_id)
        if timeline is not None:
            self._asked.setdefault(timeline.current.tenant, {})[lane.route_id] = lane
            self._wakeup.set()

    def _next(self) -> Lane | None:
        """The next lane that still asks; its tenant has its next turn after all others."""
        while self._asked:
            tenant = next(iter(self._asked))
            lanes = self._asked.pop(tenant)
            lane = lanes.pop(next(iter(lanes)))
            if lanes:
                self._asked[tenant] = lanes
            if lane.route_id in self._awaited or lane.route_id in self._old:
                return lane
        return None

    async def _expand(self, lane: Lane) -> None:
        """Turns the beginning of the range into packed rows. Only ticks that the tailer has left behind."""
        begin = lane.range_from
        timeline = self._index.timeline(lane.route_id)
        if begin is None or timeline is None:
            return
        chunk = _Chunk(end=begin, ends_at=time.monotonic() + self._tunables.expand_seconds)
        while await self._read_ticks(lane, timeline, chunk) and not self._is_full(chunk):
            pass
        if lane.range_from != begin:
            self._open_cuts.pop(lane.route_id, None)
            return  # the shard was dropped meanwhile
        self._recorder.listed(chunk.due)
        is_whole = lane.expanded(len(chunk.due), chunk.end)
        if is_whole or chunk.end != begin:
            self._recorder.ranged(lane.route_id, lane.shard, lane.range_from, -len(chunk.due))

    async def _read_ticks(self, lane: Lane, timeline: Timeline, chunk: _Chunk) -> bool:
        """Adds what the route is due of the next ticks, until the chunk is full. False if these were the last ones that
        may be read. Most ticks of a busy installation have no event of the shard.
        """
        most = self._tunables.expand_ticks
        cuts = await ticks.after(self._database, chunk.end[0] - 1, limit=most)
        for cut in cuts:
            if cut.tick > self._ledger.read_upto(lane.shard, timeline.current.tenant):
                return False
            if cut.may_touch(ticks.bits_of([lane.shard])):
                await self._read(lane, timeline, cut, chunk)
                if self._is_full(chunk):
                    break
            else:
                chunk.end = (cut.tick + 1, 0)
        return len(cuts) == most

    async def _is_old(self, lane: Lane) -> bool:
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

    async def _read(self, lane: Lane, timeline: Timeline, tick: Tick, chunk: _Chunk) -> None:
        """Adds what the route is due of one tick, from the chunk's end on, until the chunk is full."""
        if chunk.end[0] != tick.tick:
            chunk.end = (tick.tick, 0)
        cut = await self._cut(lane, tick, chunk.end)
        is_last = False
        while not is_last:
            events, is_last = await cut.page(chunk.end[1])
            payloads = _Payloads(self._database, timeline, events)
            for place, event in enumerate(events):
                await self._decide(lane, timeline, event, place, payloads, chunk)
                chunk.end = (tick.tick, event.seq + 1)
                if self._is_full(chunk):
                    self._keep_open(lane, _OpenCut(chunk.end, cut))
                    return
        chunk.end = (tick.tick + 1, 0)

    async def _cut(self, lane: Lane, tick: Tick, position: LogPosition) -> LeanCut:
        """The tick, with what is known of it from the last chunk."""
        kept = self._open_cuts.pop(lane.route_id, None)
        if kept is not None and kept.position == position:
            return kept.cut
        before = await ticks.snap_of(self._database, tick.tick - 1)
        return LeanCut(self._database, before=before, tick=tick, shards=[lane.shard])

    def _keep_open(self, lane: Lane, open_cut: _OpenCut) -> None:
        self._open_cuts[lane.route_id] = open_cut
        if len(self._open_cuts) > self._tunables.open_cuts:
            del self._open_cuts[next(iter(self._open_cuts))]  # it is measured again

    async def _decide(
        self, lane: Lane, timeline: Timeline, event: StoredEvent, place: int, payloads: _Payloads, chunk: _Chunk
    ) -> None:
        chunk.events += 1
        if chunk.events % _EVENTS_AT_ONCE == 0:
            await asyncio.sleep(0)
        if event.tenant != timeline.current.tenant or event.test_route is not None:
            return  # a test event is never parked
        places = FilterPlaces(evaluator=self._evaluator, allowance=self._tunables.loop_allowance)
        judge = EventJudge(event, event.tenant, lambda: payloads.of(place), places)
        if (await judge.judge(timeline)).decision is Decision.DELIVER:
            chunk.due.append(_parked(lane, event))


def _parked(lane: Lane, event: StoredEvent) -> ParkedRow:
    tick = event.tick or 0  # never None: a tick has read it
    return ParkedRow(lane.shard, lane.route_id, event.seq, tick, event.recorded_at, event.event_time, event.tenant)
