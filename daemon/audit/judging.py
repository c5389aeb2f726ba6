"""Judges pages of events: recomputes each decision, and compares it with what is recorded of the pair."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from datetime import datetime
from functools import partial
from uuid import UUID

from daemon.audit.faults.pair_faults import DeliverySchedule, PairFault, PairRecord, fault, unexpected
from daemon.audit.findings import AuditFinding, AuditReport
from daemon.audit.pages import AuditPage
from daemon.audit.ranged_counts import RangedCounts
from daemon.audit.recompute import filters_of, in_range
from daemon.core.routing.decision import Decision, FilterTest, decide
from daemon.core.routing.index import MEMO_ENTRIES, patterns_of
from daemon.core.routing.timeline import Timeline
from daemon.core.webhook.payload import PayloadEvent
from daemon.expressions.judging import EventJudge, FilterPlaces
from daemon.expressions.stored_events import payload_event
from eventstore import domain_events
from eventstore.domain_events.events import StoredEvent
from eventstore.postgres.connect import Database
from eventstore.queries.auditing import log_marks
from eventstore.queries.auditing.audited import AuditedRecord
from eventstore.retention.retention import Horizon

# Payloads that are in memory at a time, for filters.
PAYLOAD_BYTES = 8 * 1024 * 1024
# Between two turns of the event loop, in which the next page arrives.
_EVENTS_AT_ONCE = 50

_Found = tuple[StoredEvent, Timeline, PairFault]
_NOTHING = PairRecord()


class Judging:
    """`judge` takes the pages in order, and notes in the report what it finds. `places` are where filters are
    evaluated, None for all of them here.
    """

    def __init__(
        self,
        database: Database,
        report: AuditReport,
        schedule: DeliverySchedule | None,
        counts: RangedCounts,
        places: FilterPlaces | None = None,
    ) -> None:
        self._places = places
        self._database = database
        self._report = report
        self._schedule = schedule
        self._counts = counts
        self._known_patterns: dict[str, tuple[str, ...]] = {}

    async def judge(self, page: AuditPage, start: datetime) -> None:
        """Judges the events of a page that are kept with all their outcomes, and that their shards have read."""
        report, begin = self._report, kept_from(page.horizon, start)
        if begin is not None:
            report.kept_from = begin
        records, payloads = _records(page.record), _Payloads(self._database, page, self._places)
        found: list[_Found] = []
        for place, event in enumerate(page.events):
            if place % _EVENTS_AT_ONCE == 0:
                await asyncio.sleep(0)
            if begin is not None and event.recorded_at < begin:
                report.still_there += page.horizon.events is not None and event.recorded_at < page.horizon.events
                continue
            report.events += 1
            if event.tick is None or event.tick > page.checkpoints.get(event.shard, 0):
                report.unread += 1
            elif page.candidates[place]:
                found += self._judge(page, event, page.candidates[place], await payloads.filter_test(place), records)
        await self._note(found)

    def _judge(
        self,
        page: AuditPage,
        event: StoredEvent,
        candidates: tuple[Timeline, ...],
        passes: FilterTest,
        records: dict[tuple[UUID, int], PairRecord],
    ) -> list[_Found]:
        report, patterns, at = self._report, self._patterns(event.type), event.event_time
        faults: list[_Found] = []
        for timeline in candidates:
            route_id = timeline.current.id
            decision = decide(
                timeline,
                patterns,
                at=at,
                backfill=event.backfill,
                passes=passes,
                test_route=event.test_route,
            )
            record = records.get((route_id, event.seq), _NOTHING)
            report.pairs += 1
            report.outcomes += len(record.attempts)
            if decision is Decision.DELIVER:
                report.deliveries += 1
                begin = page.record.ranges.get(route_id)
                if begin is not None and in_range(event, route_id, page.record.ranges):
                    record = PairRecord(record.attempts, record.retry, record.parked, is_ranged=True)
                    self._counts.count(route_id, begin)
                found = fault(event, timeline, record, self._schedule)
            else:
                found = None if record is _NOTHING else unexpected(event, record, decision)
            if found is not None:
                faults.append((event, timeline, found))
        return faults

    def _patterns(self, event_type: str) -> tuple[str, ...]:
        known = self._known_patterns.get(event_type)
        if known is None:
            if len(self._known_patterns) >= MEMO_ENTRIES:
                self._known_patterns.clear()
            known = self._known_patterns[event_type] = patterns_of(event_type)
        return known

    async def _note(self, found: list[_Found]) -> None:
        """Notes these faults, without those that are explained by somebody who had the delivery sent again."""
        resent = {(timeline.current.id, event.seq, event.event_time) for event, timeline, each in found if each.resent}
        resends = await log_marks.resends(self._database, list(resent)) if resent else {}
        for event, timeline, each in found:
            route_id = timeline.current.id
            if each.is_explained(resends.get((route_id, event.seq), [])):
                continue
            self._report.add(
                AuditFinding(
                    kind=each.kind,
                    table=each.table,
                    key=f"route_id {route_id}, seq {event.seq}",
                    detail=each.detail,
                    event_id=event.id,
                    tenant=event.tenant,
                    route_id=route_id,
                )
            )


def kept_from(horizon: Horizon, start: datetime) -> datetime | None:
    """The time from which events and outcomes are kept, if later than `start`."""
    latest = max((at for at in (horizon.events, horizon.attempts) if at is not None), default=start)
    return latest if latest > start else None


class _Payloads:
    """The payloads of those events of a page that a filter asks for, some at a time."""

    def __init__(self, database: Database, page: AuditPage, places: FilterPlaces | None) -> None:
        self._database = database
        self._places = places
        self._page = page
        self._loaded: dict[int, StoredEvent] = {}

    async def filter_test(self, place: int) -> FilterTest:
        """What tells whether an event of the page passes a filter. Events are asked for in order."""
        event = self._page.events[place]
        if not self._is_filtered(place):
            return _is_never_asked
        if event.seq not in self._loaded:
            await self._load(place)
        loaded = self._loaded.get(event.seq, event)
        if self._places is None:
            return filters_of(loaded).passes
        judge = EventJudge(event, event.tenant, partial(_payload, loaded), self._places)
        await judge.prepare(self._page.candidates[place])
        return judge.passes

    def _is_filtered(self, place: int) -> bool:
        at = self._page.events[place].event_time
        for timeline in self._page.candidates[place]:
            route = timeline.outline(at)
            if route is not None and route.config.payload.filter is not None:
                return True
        return False

    async def _load(self, begin: int) -> None:
        page, left = self._page, PAYLOAD_BYTES
        wanted: dict[int, datetime] = {}
        for place in range(begin, len(page.events)):
            if self._is_filtered(place):
                left -= page.payload_bytes[place]
                if wanted and left < 0:
                    break
                wanted[page.events[place].seq] = page.events[place].recorded_at
        self._loaded = await domain_events.by_seq(self._database, wanted)
        for place in range(begin, len(page.events)):
            judged = page.events[place]
            if (loaded := self._loaded.get(judged.seq)) is not None:
                loaded.tick, loaded.closed_upto = judged.tick, judged.closed_upto


async def _payload(event: StoredEvent) -> PayloadEvent:
    return payload_event(event)


def _is_never_asked(expression: str) -> bool:
    raise AssertionError(f"no candidate had the filter {expression}")


def _records(record: AuditedRecord) -> dict[tuple[UUID, int], PairRecord]:
    records: defaultdict[tuple[UUID, int], PairRecord] = defaultdict(PairRecord)
    for attempt in record.attempts:
        records[attempt.route_id, attempt.seq].attempts.append(attempt)
    for retry in record.retries:
        records[retry.route_id, retry.seq].retry = retry
    for parked in record.parked:
        records[parked.route_id, parked.seq].parked.append(parked)
    return records
