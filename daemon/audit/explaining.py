"""Why one event did or did not reach a route, with everything the answer rests on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from uuid import UUID

from daemon import route_state
from daemon.audit.recompute import in_range, judged
from daemon.core.delivery import answer
from daemon.core.delivery.answer import Outcome
from daemon.core.delivery.explanation_text import ExplainedDecision, ExplanationFacts, sentence
from daemon.core.delivery.status import FinalOutcome, status_of
from daemon.core.routing.decision import Decision, Judgement
from daemon.core.routing.index import RouteIndex, Timeline
from daemon.core.routing.windows import Window
from eventstore import domain_events
from eventstore.domain_events import ticks
from eventstore.domain_events.events import StoredEvent
from eventstore.postgres.connect import Database
from eventstore.progress import retention
from eventstore.queries import attempts as outcomes
from eventstore.queries.attempts import RecordedAttempt, WaitingState


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why an event did or did not reach a route. `window` is the one that held the event, None if none did."""

    event: StoredEvent
    route_id: UUID
    route_name: str
    verdict: ExplainedDecision
    detail: str
    window: Window | None
    route_version: int | None
    route_pos: int | None
    delivery_id: str | None
    attempts: tuple[RecordedAttempt, ...]
    pending: WaitingState | None


class UnknownEvent(LookupError):
    """No event of that id is in the log."""


class AmbiguousEvent(LookupError):
    """Several tenants have an event of that id."""


async def explain(
    database: Database,
    event_id: str,
    *,
    tenant: str | None = None,
    route_id: UUID | None = None,
    live: RouteIndex | None = None,
    part: slice = slice(None),
) -> list[Explanation]:
    """For every route of the event's tenant (or one, or a part of them in order of creation), what it was due and what
    became of it. A `live` projection spares reading the log, if it knows what the event's tick knew.

    Raises UnknownEvent, and AmbiguousEvent if no tenant is given and several have that id.
    """
    found = await domain_events.find(database, event_id, tenant=tenant)
    if not found:
        raise UnknownEvent(f"there is no event {event_id!r}" + (f" of tenant {tenant}" if tenant else ""))
    if len({event.tenant for event in found}) > 1:
        raise AmbiguousEvent(f"several tenants have an event {event_id!r}: name one")
    return await explain_event(database, found[0], route_id=route_id, live=live, part=part)


async def explain_event(
    database: Database,
    event: StoredEvent,
    *,
    route_id: UUID | None = None,
    live: RouteIndex | None = None,
    part: slice = slice(None),
    concerned_only: bool = False,
) -> list[Explanation]:
    """The same of an event that was read already, be it the newest of its id or not; if asked so, only for the routes
    that it could concern: they subscribe, or once subscribed, to its type.
    """
    index = await _index(database, event, live)
    among = _concerned(index, event) if concerned_only else _timelines(index, event.tenant, route_id)
    timelines = list(islice(among, part.start, part.stop))
    ids = [timeline.current.id for timeline in timelines]
    ranges = await outcomes.ranges(database, ids)
    pending = {p.route_id: p for p in await outcomes.waiting(database, ids, seq=event.seq, event_time=event.event_time)}
    attempts = await outcomes.attempts(database, ids, first=event.seq, last=event.seq)
    kept_from = (await retention.horizon(database)).attempts
    is_kept = kept_from is None or event.recorded_at >= kept_from
    explained: list[Explanation] = []
    for timeline in timelines:
        await asyncio.sleep(0)  # a filter may take long, and a tenant have many
        own = tuple(a for a in attempts if a.route_id == timeline.current.id)
        waits = pending.get(timeline.current.id) or in_range(event, timeline.current.id, ranges)
        explained.append(_explained(event, timeline, own, waits, is_kept=is_kept))
    return explained


def _timelines(index: RouteIndex, tenant: str, route_id: UUID | None) -> Iterator[Timeline]:
    if route_id is None:
        return index.timelines(tenant)
    timeline = index.timeline(route_id)
    return iter([timeline] if timeline is not None and timeline.current.tenant == tenant else [])


def _concerned(index: RouteIndex, event: StoredEvent) -> list[Timeline]:
    """In order of creation; a test event concerns the route that it was sent to."""
    candidates = index.candidates(event.tenant, event.type)
    concerned = (each for each in candidates if event.test_route in (None, each.current.id))
    return sorted(concerned, key=lambda timeline: timeline.current.created_at)


async def _index(database: Database, event: StoredEvent, live: RouteIndex | None) -> RouteIndex:
    """The routes of the event's tenant, with all that the event's tick knew of them."""
    if live is not None and (event.tick is None or live.position >= await ticks.route_pos(database, event.tick)):
        return live
    return await route_state.index(database, tenant=event.tenant)


def _explained(
    event: StoredEvent,
    timeline: Timeline,
    attempts: Sequence[RecordedAttempt],
    pending: WaitingState | None,
    *,
    is_kept: bool,
) -> Explanation:
    judgement = judged(event, timeline)
    verdict = _verdict(event, judgement, attempts, pending)
    if verdict is ExplainedDecision.PENDING and not attempts and pending is None and not is_kept:
        verdict = ExplainedDecision.NO_LONGER_KEPT
    route = judgement.route
    is_due = judgement.decision is Decision.DELIVER
    pending = pending if is_due else None
    return Explanation(
        event=event,
        route_id=timeline.current.id,
        route_name=timeline.current.config.name,
        verdict=verdict,
        detail=sentence(verdict, _facts(event, timeline, verdict, judgement, attempts, pending)),
        window=judgement.window,
        route_version=None if route is None else route.version,
        route_pos=None if route is None else route.pos,
        delivery_id=answer.delivery_id(timeline.current.id, event.id) if is_due else None,
        attempts=tuple(attempts),
        pending=pending,
    )


def _verdict(
    event: StoredEvent, judgement: Judgement, attempts: Sequence[RecordedAttempt], pending: WaitingState | None
) -> ExplainedDecision:
    if event.tick is None:
        return ExplainedDecision.NOT_YET_READ
    if judgement.decision is not Decision.DELIVER:
        return ExplainedDecision(judgement.decision.value)
    ends = [a for a in attempts if a.outcome != Outcome.RETRYING]
    end = FinalOutcome(outcome=Outcome(ends[-1].outcome), number=ends[-1].number) if ends else None
    stands = status_of(
        was_delivered=any(a.outcome == Outcome.DELIVERED for a in ends),
        end=end,
        retry_after=pending.failures if pending is not None and pending.state == "retrying" else None,
    )
    return ExplainedDecision(stands.value)


def _facts(
    event: StoredEvent,
    timeline: Timeline,
    verdict: ExplainedDecision,
    judgement: Judgement,
    attempts: Sequence[RecordedAttempt],
    pending: WaitingState | None,
) -> ExplanationFacts:
    """What the sentence rests on: of a delivered one the attempt that delivered it, of any other the last request."""
    told = [a for a in attempts if a.outcome == Outcome.DELIVERED][:1] if verdict is ExplainedDecision.DELIVERED else []
    last = next(iter(told or [a for a in reversed(attempts) if a.number]), None)
    return ExplanationFacts(
        event_time=event.event_time,
        event_type=event.type,
        created_at=timeline.current.created_at,
        route=judgement.route,
        window=judgement.window,
        tries=0 if last is None else last.number,
        last_at=None if last is None else last.at,
        last_error=None if last is None else last.error,
        due_at=None if pending is None else pending.due_at,
        is_parked=pending is not None and pending.state == "parked",
        is_test_of_another=event.test_route not in (None, timeline.current.id),
    )
