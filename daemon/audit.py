"""The read side of both logs: rebuild the routes, explain one delivery, audit all of a period.

Nothing here asks the running daemon. A decision is recomputed from the route log and the tick that read the event, by
the functions that decided live; then it is laid beside what was recorded. That is the proof.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from daemon import replay
from daemon.core import delivery, payload
from daemon.core.decision import Decision, Judgement, judge
from daemon.core.index import RouteIndex, Timeline
from daemon.core.route import Route
from daemon.core.sentences import Facts, Verdict, sentence
from daemon.core.windows import Window
from eventstore import backlog, outcomes, retention, stream
from eventstore.connect import Database
from eventstore.outcomes import Attempt, Pending
from eventstore.stream import StoredEvent

PAGE_EVENTS = 500

_FINAL = {"delivered", "failed", "suppressed", "expired"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """The routes as the log says they are (or were), and a digest to compare projections by."""

    position: int
    index: RouteIndex
    routes: tuple[Route, ...]
    state_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why an event did or did not reach a route. `window` is the one that held the event, None if none did."""

    event: StoredEvent
    route_id: UUID
    route_name: str
    verdict: Verdict
    detail: str
    window: Window | None
    route_version: int | None
    route_pos: int | None
    delivery_id: str | None
    attempts: tuple[Attempt, ...]
    pending: Pending | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A pair of which the record and the recomputed decision disagree."""

    kind: str
    event_id: str
    tenant: str
    route_id: UUID
    detail: str


@dataclass(slots=True, kw_only=True)
class AuditReport:
    """Counts of a period, and the findings. `unread` events have no tick yet and are judged by none.

    `kept_from` is set if the period begins before it: of what is older, the event or its outcomes are no longer kept.
    """

    events: int = 0
    pairs: int = 0
    deliveries: int = 0
    unread: int = 0
    kept_from: datetime | None = None
    findings: list[Finding] = field(default_factory=list)


class UnknownEvent(LookupError):
    """No event of that id is in the log."""


class AmbiguousEvent(LookupError):
    """Several tenants have an event of that id."""


async def rebuild(database: Database, *, as_of: datetime | None = None, tenant: str | None = None) -> Rebuilt:
    """Folds the route log from nothing, verifying its chain. Raises ChainBroken."""
    index = await replay.index(database, as_of=as_of, verify=True)
    routes = tuple(index.routes(tenant))
    return Rebuilt(position=index.position, index=index, routes=routes, state_sha256=replay.digest(routes))


async def explain(
    database: Database, event_id: str, *, tenant: str | None = None, route_id: UUID | None = None
) -> list[Explanation]:
    """For every route of the event's tenant (or one), what it was due and what became of it.

    Raises UnknownEvent, and AmbiguousEvent if no tenant is given and several have that id.
    """
    found = await stream.find(database, event_id, tenant=tenant)
    if not found:
        raise UnknownEvent(f"there is no event {event_id!r}" + (f" of tenant {tenant}" if tenant else ""))
    if len({event.tenant for event in found}) > 1:
        raise AmbiguousEvent(f"several tenants have an event {event_id!r}: name one")
    event = found[0]
    index = await replay.index(database)
    timelines = [t for t in index.timelines(event.tenant) if route_id in (None, t.current.id)]
    ids = [timeline.current.id for timeline in timelines]
    ranges = await outcomes.ranges(database, ids)
    pending = {p.route_id: p for p in await outcomes.pending(database, ids, first=event.seq, last=event.seq)}
    attempts = await outcomes.attempts(database, ids, first=event.seq, last=event.seq)
    kept_from = (await retention.horizon(database)).attempts
    is_kept = kept_from is None or event.recorded_at >= kept_from
    return [
        _explained(
            event,
            timeline,
            tuple(a for a in attempts if a.route_id == timeline.current.id),
            pending.get(timeline.current.id) or _in_range(event, timeline.current.id, ranges),
            is_kept=is_kept,
        )
        for timeline in timelines
    ]


async def audit(database: Database, *, start: datetime, end: datetime, tenant: str | None = None) -> AuditReport:
    """Recomputes every decision about the events recorded in [start, end) and compares with the record.

    `missing`: due, read, and neither recorded nor waiting. `unexpected`: recorded or waiting, though not due.
    """
    report = AuditReport()
    index = await replay.index(database, verify=True)
    timelines = {t.current.id: t for t in index.timelines(tenant)}
    read_upto = await _checkpoints(database)
    start = await _kept(database, start, report)
    async for events in _pages(database, start, end, tenant):
        first, last = events[0].seq, events[-1].seq
        ranges = await outcomes.ranges(database, list(timelines))
        known = {(p.route_id, p.seq) for p in await outcomes.pending(database, list(timelines), first=first, last=last)}
        known |= {
            (a.route_id, a.seq) for a in await outcomes.attempts(database, list(timelines), first=first, last=last)
        }
        start = await _kept(database, start, report)  # last, lest what is dropped meanwhile be taken for missing
        for event in (event for event in events if event.recorded_at >= start):
            report.events += 1
            if event.tick is None or event.tick > read_upto[event.shard]:
                report.unread += 1
                continue
            for timeline in index.timelines(event.tenant):
                due = judged(event, timeline).decision is Decision.DELIVER
                route_id = timeline.current.id
                recorded = (route_id, event.seq) in known or (due and _in_range(event, route_id, ranges) is not None)
                report.pairs += 1
                report.deliveries += due
                if due != recorded:
                    report.findings.append(_finding(event, timeline, due=due))
    return report


def judged(event: StoredEvent, timeline: Timeline) -> Judgement:
    """The decision about one pair, recomputed."""
    return judge(
        timeline,
        event_type=event.type,
        at=event.event_time,
        backfill=event.backfill,
        passes=lambda expression: payload.passes(expression, source_of(event)),
    )


def source_of(event: StoredEvent) -> payload.Source:
    """What a body is rendered from."""
    return payload.Source(
        event_id=event.id,
        event_type=event.type,
        created=event.event_time,
        data=event.data,
        context=event.context,
        snapshot=event.snapshot,
    )


def _explained(
    event: StoredEvent, timeline: Timeline, attempts: Sequence[Attempt], pending: Pending | None, *, is_kept: bool
) -> Explanation:
    judgement = judged(event, timeline)
    verdict = _verdict(event, judgement, attempts)
    if verdict is Verdict.PENDING and not attempts and pending is None and not is_kept:
        verdict = Verdict.NO_LONGER_KEPT
    route = judgement.route
    is_due = judgement.decision is Decision.DELIVER
    pending = pending if is_due else None
    return Explanation(
        event=event,
        route_id=timeline.current.id,
        route_name=timeline.current.config.name,
        verdict=verdict,
        detail=sentence(verdict, _facts(event, timeline, judgement, attempts, pending)),
        window=judgement.window,
        route_version=None if route is None else route.version,
        route_pos=None if route is None else route.pos,
        delivery_id=delivery.delivery_id(timeline.current.id, event.id) if is_due else None,
        attempts=tuple(attempts),
        pending=pending,
    )


def _in_range(event: StoredEvent, route_id: UUID, ranges: Mapping[UUID, int]) -> Pending | None:
    """The event as parked by the range of a route, if it is."""
    begin = ranges.get(route_id)
    if begin is None or event.tick is None or event.tick < begin:
        return None
    return Pending(seq=event.seq, route_id=route_id, state="parked", failures=0, due_at=None)


def _verdict(event: StoredEvent, judgement: Judgement, attempts: Sequence[Attempt]) -> Verdict:
    final = next((a.outcome for a in reversed(attempts) if a.outcome in _FINAL), None)
    if event.tick is None:
        return Verdict.NOT_YET_READ
    if judgement.decision is not Decision.DELIVER:
        return Verdict(judgement.decision.value)
    return Verdict.PENDING if final is None else Verdict(final)


def _facts(
    event: StoredEvent, timeline: Timeline, judgement: Judgement, attempts: Sequence[Attempt], pending: Pending | None
) -> Facts:
    last = attempts[-1] if attempts else None
    return Facts(
        event_time=event.event_time,
        event_type=event.type,
        created_at=timeline.current.created_at,
        route=judgement.route,
        window=judgement.window,
        tries=max((attempt.number for attempt in attempts), default=0),
        last_at=None if last is None else last.at,
        last_error=None if last is None else last.error,
        due_at=None if pending is None else pending.due_at,
        is_parked=pending is not None and pending.state == "parked",
    )


def _finding(event: StoredEvent, timeline: Timeline, *, due: bool) -> Finding:
    return Finding(
        kind="missing" if due else "unexpected",
        event_id=event.id,
        tenant=event.tenant,
        route_id=timeline.current.id,
        detail="due, but neither recorded nor waiting" if due else "recorded or waiting, though not due",
    )


async def _kept(database: Database, start: datetime, report: AuditReport) -> datetime:
    """Where an audit from `start` can begin; the report says so if it is later."""
    horizon = await retention.horizon(database)
    kept_from = max((at for at in (horizon.events, horizon.attempts) if at is not None), default=start)
    if kept_from <= start:
        return start
    report.kept_from = kept_from
    return kept_from


async def _pages(
    database: Database, start: datetime, end: datetime, tenant: str | None
) -> AsyncIterator[list[StoredEvent]]:
    after = 0
    while page := await stream.period(database, start, end, tenant=tenant, after_seq=after, limit=PAGE_EVENTS):
        yield page
        after = page[-1].seq


async def _checkpoints(database: Database) -> dict[int, int]:
    return await backlog.checkpoints(database, list(range(stream.SHARDS)))
