"""Ranges: of a lane with more parked deliveries than are worth a list, only the ticks are kept.

What a route was due of a tick is a pure function of the two logs (rule 6 in daemon/README.md), so it can be decided
anew. A range begins at a whole tick and is open to the end: while it stands, what the tailer decides for the route
costs a number in a counter. When the list before it is drained, its oldest ticks are read again, decided again, and
written out as packed rows in the same flush that moves the beginning; so no crash falls between. It ends once it has
nothing left.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

from daemon.core.routing.decision import Decision, FilterTest, judge
from daemon.core.routing.index import RouteIndex, Timeline
from daemon.core.webhook.expression import TooHeavy
from daemon.core.webhook.payload import EventFilters
from daemon.expressions.evaluator import Evaluator
from daemon.pipeline.intake.decider import source_of
from daemon.pipeline.recording.recorder import Recorder
from daemon.pipeline.scheduling.lane import Lane
from daemon.pipeline.scheduling.ledger import Ledger
from daemon.pipeline.tunables import DEFAULTS, Tunables
from eventstore.domain_events import tail, ticks
from eventstore.domain_events.events import StoredEvent
from eventstore.domain_events.ticks import Tick
from eventstore.postgres.connect import Database
from eventstore.progress.rows import ParkedRow


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

    async def expand(self, lane: Lane) -> None:
        """Turns the oldest ticks of the range into packed rows. Only ticks that the tailer has left behind."""
        begin = lane.range_from
        timeline = self._index.timeline(lane.route_id)
        if begin is None or timeline is None:
            return
        found: list[ParkedRow] = []
        end = begin
        ends_at = time.monotonic() + self._tunables.expand_seconds
        for cut in await ticks.after(self._database, begin - 1, limit=self._tunables.expand_ticks):
            if cut.tick > self._ledger.read_upto(lane.shard) or len(found) >= self._tunables.expand_pairs:
                break
            found += await self._decide(lane, timeline, cut)
            end = cut.tick + 1
            if time.monotonic() > ends_at:
                break
        if lane.range_from != begin:
            return  # the shard was dropped meanwhile
        self._recorder.listed(found)
        is_whole = lane.expanded(len(found), end)
        if is_whole or end != begin:
            self._recorder.ranged(lane.route_id, lane.shard, lane.range_from, -len(found))

    async def is_old(self, lane: Lane) -> bool:
        """True if the events at the beginning of the range will soon be gone."""
        if lane.range_from is None:
            return False
        oldest = await ticks.after(self._database, lane.range_from - 1, limit=1)
        return bool(oldest) and oldest[0].at < datetime.now(UTC) - self._keep + self._tunables.range_spare_time

    async def _decide(self, lane: Lane, timeline: Timeline, cut: Tick) -> list[ParkedRow]:
        """What the route is due of one tick; without the payloads, since a tick may be an import."""
        before = await ticks.snap_of(self._database, cut.tick - 1)
        due: list[ParkedRow] = []
        async for events in tail.read_cut(self._database, before=before, tick=cut, shards=[lane.shard]):
            due += [_parked(lane, event, cut.tick) for event in events if await self._is_due(timeline, event)]
        return due

    async def _is_due(self, timeline: Timeline, event: StoredEvent) -> bool:
        if event.tenant != timeline.current.tenant:
            return False
        route = timeline.as_of(event.event_time)
        text = None if route is None else route.config.payload.filter
        if text is None:
            return _is_due(timeline, event, _accept)
        filters = EventFilters(source_of(event), allowance=self._tunables.loop_allowance())
        try:
            return _is_due(timeline, event, filters.passes)
        except TooHeavy:
            filters = EventFilters(source_of(event))
            filters.results |= await self._evaluator.filter_results(event.tenant, source_of(event), [text])
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
