"""Why one event did or did not reach a route, with the facts that the answer depends on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import islice
from uuid import UUID

from daemon import route_state
from daemon.audit import explanation_facts, unknown_events
from daemon.audit.explanation_facts import Explained
from daemon.audit.recompute import in_range
from daemon.core.delivery import answer
from daemon.core.delivery.answer import Outcome
from daemon.core.delivery.status import FinalOutcome, status_of
from daemon.core.routing.decision import Decision, Judgement
from daemon.core.routing.index import RouteIndex
from daemon.core.routing.timeline import Timeline
from daemon.core.routing.windows import Window
from daemon.core.sentences.explanations import ExplainedDecision, ExplanationFacts, sentence
from daemon.core.webhook.payload import PayloadEvent
from daemon.expressions.judging import EventJudge, FilterPlaces
from daemon.expressions.stored_events import payload_event
from eventstore import domain_events
from eventstore.domain_events import ticks
from eventstore.domain_events.events import StoredEvent
from eventstore.postgres.connect import Database
from eventstore.queries.deliveries import attempts as outcomes
from eventstore.queries.deliveries.attempts import RecordedAttempt, WaitingState
from eventstore.retention import retention


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why an event did or did not reach a route. `window` is the one that contains the event's time, or None.

    `route_version` and `route_pos` are those of the route at that time, None if it did not exist. `delivery_id` is None
    if the event was not due to the route.
    """

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
    recorded_at: datetime | None = None,
    route_id: UUID | None = None,
    live: RouteIndex | None = None,
    part: slice = slice(None),
    places: FilterPlaces | None = None,
) -> list[Explanation]:
    """Explains an event for every route of its tenant: whether it was due, and what became of the delivery.

    If several events have that id, which are days apart, it is the newest, or the one recorded at `recorded_at`.

    `route_id` restricts this to one route, `part` to a slice of the routes in order of creation. With a `live`
    projection the log need not be read, provided that the projection is at least as new as the event's tick. `places`
    are where filters are evaluated, None for all of them here.

    Raises UnknownEvent, and AmbiguousEvent if no tenant is given and several have an event of that id.
    """
    events = await domain_events.find(database, event_id, tenant=tenant, recorded_at=recorded_at)
    if not events:
        raise UnknownEvent(await unknown_events.sentence(database, event_id, tenant))
    if len({event.tenant for event in events}) > 1:
        raise AmbiguousEvent(f"several tenants have an event {event_id!r}: name one")
    if tenant is None and recorded_at is not None:
        events = await domain_events.find(database, event_id, tenant=events[0].tenant, recorded_at=recorded_at)
        if not events:
            raise UnknownEvent(await unknown_events.sentence(database, event_id, tenant))
    return await explain_event(database, events[0], route_id=route_id, live=live, part=part, places=places)


async def explain_event(
    database: Database,
    event: StoredEvent,
    *,
    route_id: UUID | None = None,
    live: RouteIndex | None = None,
    part: slice = slice(None),
    concerned_only: bool = False,
    places: FilterPlaces | None = None,
) -> list[Explanation]:
    """As `explain`, for an event that the caller has read; it need not be the newest of its id.

    With `concerned_only` the event is explained only for routes that subscribe, or once subscribed, to its type.
    """
    index = await _index(database, event, live)
    candidates = _concerned(index, event) if concerned_only else _timelines(index, event.tenant, route_id)
    timelines = list(islice(candidates, part.start, part.stop))
    ids = [timeline.current.id for timeline in timelines]
    ranges = await outcomes.ranges(database, ids)
    pending = {p.route_id: p for p in await outcomes.waiting(database, ids, seq=event.seq, event_time=event.event_time)}
    attempts: dict[UUID, list[RecordedAttempt]] = {}
    for attempt in await outcomes.attempts(database, ids, first=event.seq, last=event.seq):
        attempts.setdefault(attempt.route_id, []).append(attempt)
    kept_from = (await retention.horizon(database)).attempts
    is_kept = kept_from is None or event.recorded_at >= kept_from
    explained: list[Explained] = []
    judge = EventJudge(event, event.tenant, partial(_payload, event), places)
    await judge.prepare(timelines)
    for timeline in timelines:
        await asyncio.sleep(0)  # a tenant may have many routes
        own_attempts = tuple(attempts.get(timeline.current.id, ()))
        waiting = pending.get(timeline.current.id) or in_range(event, timeline.current.id, ranges)
        explained.append(
            _explained(event, timeline, await judge.judge(timeline), own_attempts, waiting, is_kept=is_kept)
        )
    facts = await explanation_facts.gather(database, event, explained, kept_from=kept_from)
    return [_explanation(event, each, told) for each, told in zip(explained, facts, strict=True)]


async def _payload(event: StoredEvent) -> PayloadEvent:
    return payload_event(event)


def _timelines(index: RouteIndex, tenant: str, route_id: UUID | None) -> Iterator[Timeline]:
    if route_id is None:
        return index.timelines(tenant)
    timeline = index.timeline(route_id)
    return iter([timeline] if timeline is not None and timeline.current.tenant == tenant else [])


def _concerned(index: RouteIndex, event: StoredEvent) -> list[Timeline]:
    """The routes that the event concerns, in order of creation. A test event concerns one route only."""
    candidates = index.candidates(event.tenant, event.type)
    concerned = (each for each in candidates if event.test_route in (None, each.current.id))
    return sorted(concerned, key=lambda timeline: timeline.current.created_at)


async def _index(database: Database, event: StoredEvent, live: RouteIndex | None) -> RouteIndex:
    """An index with the routes of the event's tenant, at least up to the route position of the event's tick."""
    if live is not None and (event.tick is None or live.position >= await ticks.route_pos(database, event.tick)):
        return live
    return await route_state.index(database, tenant=event.tenant)


def _explained(
    event: StoredEvent,
    timeline: Timeline,
    judgement: Judgement,
    attempts: Sequence[RecordedAttempt],
    pending: WaitingState | None,
    *,
    is_kept: bool,
) -> Explained:
    verdict = _verdict(event, judgement, attempts, pending)
    if verdict is ExplainedDecision.PENDING and not attempts and pending is None and not is_kept:
        verdict = ExplainedDecision.NO_LONGER_KEPT
    is_due = judgement.decision is Decision.DELIVER
    return Explained(
        timeline=timeline,
        judgement=judgement,
        verdict=verdict,
        attempts=attempts,
        pending=pending if is_due else None,
    )


def _explanation(event: StoredEvent, explained: Explained, facts: ExplanationFacts) -> Explanation:
    current, route = explained.timeline.current, explained.judgement.route
    is_due = explained.judgement.decision is Decision.DELIVER
    return Explanation(
        event=event,
        route_id=current.id,
        route_name=current.config.name,
        verdict=explained.verdict,
        detail=sentence(explained.verdict, facts),
        window=explained.judgement.window,
        route_version=None if route is None else route.version,
        route_pos=None if route is None else route.pos,
        delivery_id=answer.delivery_id(current.id, event.id, event.event_time) if is_due else None,
        attempts=tuple(explained.attempts),
        pending=explained.pending,
    )


def _verdict(
    event: StoredEvent, judgement: Judgement, attempts: Sequence[RecordedAttempt], pending: WaitingState | None
) -> ExplainedDecision:
    if event.tick is None:
        return ExplainedDecision.NOT_YET_READ
    if judgement.decision is not Decision.DELIVER:
        return ExplainedDecision(judgement.decision.value)
    final = [a for a in attempts if a.outcome != Outcome.RETRYING]
    end = FinalOutcome(outcome=Outcome(final[-1].outcome), number=final[-1].number) if final else None
    status = status_of(
        was_delivered=any(a.outcome == Outcome.DELIVERED for a in final),
        end=end,
        retry_after=pending.failures if pending is not None and pending.state == "retrying" else None,
    )
    return ExplainedDecision(status.value)
