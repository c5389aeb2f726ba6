"""Gathers what the sentences of explanations tell beside the decision: who changed a route, and what is waited for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from daemon.core.delivery.answer import Outcome
from daemon.core.routing.decision import Judgement
from daemon.core.routing.route import LifecycleEventType
from daemon.core.routing.timeline import Timeline
from daemon.core.sentences.explanations import ExplainedDecision, ExplanationFacts, RouteChange
from daemon.core.sentences.waiting import SentAgain, WaitingFacts
from eventstore import route_log
from eventstore.domain_events.events import StoredEvent
from eventstore.postgres.connect import Database
from eventstore.queries.deliveries import waiting_reasons
from eventstore.queries.deliveries.attempts import RecordedAttempt, WaitingState
from eventstore.queries.deliveries.waiting_reasons import WaitingReason
from eventstore.route_log.log import RouteEvent

_CHANGED = (
    ExplainedDecision.FAILED,  # what failed may be sent again, unless its window has closed
    ExplainedDecision.SUPPRESSED,
    ExplainedDecision.DISABLED,
    ExplainedDecision.AFTER_DELETION,
)
_CREATED = (ExplainedDecision.BEFORE_CREATION, ExplainedDecision.DISABLED)
_WAITING = (ExplainedDecision.PENDING, ExplainedDecision.NOT_YET_READ)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """A pair with its decision, and what is recorded of it."""

    timeline: Timeline
    judgement: Judgement
    verdict: ExplainedDecision
    attempts: Sequence[RecordedAttempt]
    pending: WaitingState | None


async def gather(
    database: Database, event: StoredEvent, explained: Sequence[Explained], *, kept_from: datetime | None
) -> list[ExplanationFacts]:
    """The facts of each. Asks the database only for what a sentence will tell."""
    wanted = [each for each in map(_versions, explained) if each]
    changes = await route_log.of_versions(database, sorted({pair for pairs in wanted for pair in pairs}, key=str))
    waiting = [each.timeline.current.id for each in explained if each.verdict is ExplainedDecision.PENDING]
    reasons = await waiting_reasons.of_routes(database, waiting, seq=event.seq) if waiting else {}
    is_waiting = any(each.verdict in _WAITING for each in explained)
    is_owned = await waiting_reasons.is_owned(database, event.shard) if is_waiting else True
    return [
        _facts(event, each, changes, reasons.get(each.timeline.current.id), is_owned=is_owned, kept_from=kept_from)
        for each in explained
    ]


def _versions(explained: Explained) -> list[tuple[UUID, int]]:
    """The versions of the route whose making is told of."""
    route_id = explained.timeline.current.id
    wanted = [(route_id, 1)] if explained.verdict in _CREATED else []
    closing = _closing_version(explained)
    return wanted if closing is None else [*wanted, (route_id, closing)]


def _closing_version(explained: Explained) -> int | None:
    """The version that ended the window of the event, or the last one before the event; None if there is none."""
    if explained.verdict not in _CHANGED:
        return None
    timeline, window = explained.timeline, explained.judgement.window
    if explained.verdict is ExplainedDecision.AFTER_DELETION:
        return timeline.current.version
    if window is None and explained.judgement.route is not None:
        before = explained.judgement.route.windows
        window = before[-1] if before else None
    closed = None if window is None or window.end is None else timeline.as_of(window.end)
    return None if closed is None else closed.version


def _facts(
    event: StoredEvent,
    explained: Explained,
    changes: dict[tuple[UUID, int], RouteEvent],
    reason: WaitingReason | None,
    *,
    is_owned: bool,
    kept_from: datetime | None,
) -> ExplanationFacts:
    """Its attempt is the one that delivered; if none did, it is the last request."""
    current, attempts = explained.timeline.current, explained.attempts
    is_delivered = explained.verdict is ExplainedDecision.DELIVERED
    delivering = [a for a in attempts if a.outcome == Outcome.DELIVERED][:1] if is_delivered else []
    last = next(iter(delivering or [a for a in reversed(attempts) if a.number]), None)
    without_request = [a for a in attempts if not a.number]
    closing = _closing_version(explained)
    return ExplanationFacts(
        event_time=event.event_time,
        event_type=event.type,
        recorded_at=event.recorded_at,
        occurred_at=event.occurred_at,
        route=explained.judgement.route,
        created=_change(changes.get((current.id, 1))),
        closed=None if closing is None else _change(changes.get((current.id, closing))),
        recorded_end_at=without_request[-1].at if without_request else None,
        status_code=None if last is None else last.status_code,
        is_test_of_another=event.test_route not in (None, current.id),
        kept_from=kept_from,
        waiting=_waiting(event, explained, last, reason, is_owned=is_owned),
    )


def _waiting(
    event: StoredEvent,
    explained: Explained,
    last: RecordedAttempt | None,
    reason: WaitingReason | None,
    *,
    is_owned: bool,
) -> WaitingFacts:
    pending, config = explained.pending, explained.timeline.current.config
    is_behind = config.ordered and reason is not None and reason.first_seq not in (None, event.seq)
    failing_since = None if reason is None else _failing_since(explained, reason)
    return WaitingFacts(
        now=datetime.now(UTC),
        attempts=0 if last is None else last.number,
        ended_at=None if last is None else last.started_at + timedelta(milliseconds=last.duration_ms),
        error=None if last is None else last.error,
        due_at=None if pending is None else pending.due_at,
        is_parked=pending is not None and pending.state == "parked",
        is_ended=any(a.outcome != Outcome.RETRYING for a in explained.attempts),
        sent_again=_sent_again(reason),
        failing_since=failing_since,
        failed_at=None if reason is None else reason.failed_at,
        failure=None if reason is None else reason.error,
        behind=reason.first_event_id if reason is not None and is_behind else None,
        behind_due_at=reason.first_due_at if reason is not None and is_behind else None,
        is_behind_closed=_is_behind_closed(explained, reason),
        rate_limit_per_second=config.rate_limit_per_second,
        is_owned=is_owned,
    )


def _failing_since(explained: Explained, reason: WaitingReason) -> datetime | None:
    """Since when all requests to the present target have failed in the window of the event, None if none has."""
    since, failed_at = reason.failing_since, reason.failed_at
    if since is None or failed_at is None:
        return since
    timeline, window = explained.timeline, explained.judgement.window
    start = since if window is None else window.start
    if (window is not None and failed_at < start) or not _has_same_target(timeline, failed_at):
        return None
    began = max(since, start)
    return began if _has_same_target(timeline, began) else failed_at


def _has_same_target(timeline: Timeline, at: datetime) -> bool:
    """True if the route had the present target then."""
    route = timeline.as_of(at)
    return route is not None and route.config.target_url == timeline.current.config.target_url


def _is_behind_closed(explained: Explained, reason: WaitingReason | None) -> bool:
    """True if deliveries are parked that happened before the window of the event began."""
    window = explained.judgement.window
    return (
        window is not None
        and reason is not None
        and reason.parked_upto is not None
        and reason.parked_upto < window.start
    )


def _sent_again(reason: WaitingReason | None) -> SentAgain | None:
    if reason is None or reason.requested_by is None or reason.requested_at is None:
        return None
    return SentAgain(by=reason.requested_by, at=reason.requested_at, reason=reason.requested_because)


def _change(event: RouteEvent | None) -> RouteChange | None:
    if event is None:
        return None
    return RouteChange(
        type=LifecycleEventType(event.type), at=event.effective_at, actor=event.actor, reason=event.reason
    )
