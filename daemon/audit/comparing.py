"""Every decision of a period, recomputed and compared with what was recorded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from daemon import route_state
from daemon.audit.recompute import filters_of, in_range, judged
from daemon.core.routing.decision import Decision
from daemon.core.routing.timeline import Timeline
from eventstore import domain_events
from eventstore.domain_events.events import StoredEvent
from eventstore.postgres.connect import Database
from eventstore.progress import backlog, retention
from eventstore.queries import attempts

PAGE_EVENTS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFinding:
    """A pair of event and route whose record and recomputed decision disagree. `kind`: `missing` or `unexpected`."""

    kind: str
    event_id: str
    tenant: str
    route_id: UUID
    detail: str


@dataclass(slots=True, kw_only=True)
class AuditReport:
    """Counts of a period, and the findings. `unread` events have no tick yet, or their shard has not read it yet.

    `kept_from` is set if the period begins before it: older events or their outcomes are no longer kept.
    """

    events: int = 0
    pairs: int = 0
    deliveries: int = 0
    unread: int = 0
    kept_from: datetime | None = None
    findings: list[AuditFinding] = field(default_factory=list)


async def audit(database: Database, *, start: datetime, end: datetime, tenant: str | None = None) -> AuditReport:
    """Recomputes every decision about the events recorded in [start, end) and compares it with the record.

    `missing`: due, read, and neither recorded nor waiting. `unexpected`: recorded or waiting, though not due. Raises
    ChainBroken if the route log is not whole.
    """
    report = AuditReport()
    index = await route_state.index(database, verify=True)
    timelines = {t.current.id: t for t in index.timelines(tenant)}
    read_upto = await _checkpoints(database)
    start = await _kept_start(database, start, report)
    async for events in _pages(database, start, end, tenant):
        first, last = events[0].seq, events[-1].seq
        ranges = await attempts.ranges(database, list(timelines))
        known = {(p.route_id, p.seq) for p in await attempts.pending(database, list(timelines), first=first, last=last)}
        known |= {
            (a.route_id, a.seq) for a in await attempts.attempts(database, list(timelines), first=first, last=last)
        }
        # Last: otherwise what retention drops between the queries would count as missing.
        start = await _kept_start(database, start, report)
        for event in (event for event in events if event.recorded_at >= start):
            report.events += 1
            if event.tick is None or event.tick > read_upto[event.shard]:
                report.unread += 1
                continue
            await asyncio.sleep(0)  # filters may take long
            filters = filters_of(event)
            for timeline in index.timelines(event.tenant):
                due = judged(event, timeline, filters).decision is Decision.DELIVER
                route_id = timeline.current.id
                recorded = (route_id, event.seq) in known or (due and in_range(event, route_id, ranges) is not None)
                report.pairs += 1
                report.deliveries += due
                if due != recorded:
                    report.findings.append(_finding(event, timeline, due=due))
    return report


def _finding(event: StoredEvent, timeline: Timeline, *, due: bool) -> AuditFinding:
    return AuditFinding(
        kind="missing" if due else "unexpected",
        event_id=event.id,
        tenant=event.tenant,
        route_id=timeline.current.id,
        detail="due, but neither recorded nor waiting" if due else "recorded or waiting, though not due",
    )


async def _kept_start(database: Database, start: datetime, report: AuditReport) -> datetime:
    """The time from which events and outcomes are kept, if later than `start`; then it is noted in the report."""
    horizon = await retention.horizon(database)
    kept_from = max((at for at in (horizon.events, horizon.attempts) if at is not None), default=start)
    if kept_from <= start:
        return start
    report.kept_from = kept_from
    return kept_from


async def _pages(
    database: Database, start: datetime, end: datetime, tenant: str | None
) -> AsyncIterator[list[StoredEvent]]:
    # What is published from now on does not belong to it, although its end may lie far ahead.
    after, newest = 0, await domain_events.newest_seq(database)
    while after < newest and (
        page := await domain_events.period(database, start, end, tenant=tenant, after_seq=after, limit=PAGE_EVENTS)
    ):
        yield page
        after = page[-1].seq


async def _checkpoints(database: Database) -> dict[int, int]:
    return await backlog.checkpoints(database, list(range(domain_events.SHARDS)))
