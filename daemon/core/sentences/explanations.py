"""The explanation of a pair of event and route: one word, and a sentence that a person can forward.

The words are values of the API. A sentence says what happened, when, by whom and why, and what follows. It names exact
times, because the next question is usually "when?". What people wrote, such as a reason or a filter, stands in “…”.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from daemon.core.routing.route import LifecycleEventType, Route
from daemon.core.sentences import waiting as waiting_text
from daemon.core.sentences.failures import answered, clause
from daemon.core.sentences.waiting import WaitingFacts, because
from daemon.core.texts import moment


class ExplainedDecision(StrEnum):
    """A final outcome, PENDING, or the reason why nothing was due. The values are those of the API."""

    DELIVERED = "delivered"
    PENDING = "pending"
    FAILED = "failed"
    SUPPRESSED = "suppressed"
    EXPIRED = "expired"
    NOT_SUBSCRIBED = "not_subscribed"
    FILTERED = "filtered"
    DISABLED = "disabled_at_event_time"
    BEFORE_CREATION = "before_creation"
    AFTER_DELETION = "after_deletion"
    BACKFILL = "backfill"
    NOT_YET_READ = "not_yet_read"
    NO_LONGER_KEPT = "no_longer_kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteChange:
    """What somebody did to a route, when and why."""

    type: LifecycleEventType
    at: datetime
    actor: str
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplanationFacts:
    """The facts that a sentence may mention.

    `route` is the route as of the event. `created` and `closed` are what somebody did to it: its creation, and what
    ended the window of the event, or, if it was in none, the last window before it. `waiting` and `status_code` belong
    to the request that decided, or to the last one. `recorded_end_at` is when it ended without a request, if it did.
    `is_test_of_another` is true for a test event of another route.
    """

    event_time: datetime
    event_type: str
    recorded_at: datetime
    route: Route | None
    waiting: WaitingFacts
    occurred_at: datetime | None = None
    created: RouteChange | None = None
    closed: RouteChange | None = None
    recorded_end_at: datetime | None = None
    status_code: int | None = None
    is_test_of_another: bool = False
    kept_from: datetime | None = None


def sentence(decision: ExplainedDecision, facts: ExplanationFacts) -> str:
    """The sentence for a decision, with the facts that led to it; a second one if its publisher's clock was ahead."""
    text = _SENTENCES[decision](facts)
    if facts.occurred_at is not None and facts.occurred_at > facts.event_time:
        text += (
            f" Its publisher said that it was to happen at {moment(facts.occurred_at)}, which was still to come; so it "
            f"counts as of {moment(facts.event_time)}."
        )
    return text


def _delivered(facts: ExplanationFacts) -> str:
    at = facts.waiting.ended_at or facts.event_time
    answer = "accepted it" if facts.status_code is None else answered(facts.status_code)
    return f"Delivered at {moment(at)}: the receiver {answer} to attempt {facts.waiting.attempts}."


def _pending(facts: ExplanationFacts) -> str:
    return waiting_text.sentence(facts.waiting)


def _failed(facts: ExplanationFacts) -> str:
    waiting = facts.waiting
    at = "" if waiting.ended_at is None else f" at {moment(waiting.ended_at)}"
    end = "It is not sent any more, unless somebody has it sent again."
    if facts.closed is not None:
        end = f"It is never sent again: the route was {_done(facts.closed)}."
    return f"Failed for good{at}, after {_attempts(waiting.attempts)}: {clause(waiting.error)}. {end}"


def _suppressed(facts: ExplanationFacts) -> str:
    closed = facts.closed
    what = "its window had closed" if closed is None else f"the route was {_done(closed)}"
    tried = ""
    if facts.waiting.attempts:
        tried = f" Before that {_attempts(facts.waiting.attempts)} had failed: {clause(facts.waiting.error)}."
    return f"Not sent: {what}, after the event and before it could be delivered. It is never sent afterwards.{tried}"


def _expired(facts: ExplanationFacts) -> str:
    at = "" if facts.recorded_end_at is None else f" at {moment(facts.recorded_end_at)}"
    tried = "no request was made for it"
    if facts.waiting.attempts:
        tried = f"after {_attempts(facts.waiting.attempts)}, the last of which failed: {clause(facts.waiting.error)}"
    return f"Expired{at}: it still waited when its event reached the end of the retention period; {tried}."


def _not_subscribed(facts: ExplanationFacts) -> str:
    if facts.is_test_of_another:
        return "It was a test event, sent on purpose to another route only."
    subscribed = ", ".join(facts.route.config.event_types) if facts.route else "nothing"
    return f"At {moment(facts.event_time)} the route subscribed to {subscribed}, not to {facts.event_type}."


def _filtered(facts: ExplanationFacts) -> str:
    expression = facts.route.config.payload.filter if facts.route else None
    which = "" if expression is None else f" “{expression}”"
    return f"At {moment(facts.event_time)} the route's filter{which} did not let this event pass."


def _disabled(facts: ExplanationFacts) -> str:
    if facts.closed is not None:
        since = f"it had been {_done(facts.closed)}"
    elif facts.created is not None:
        since = f"it had been created disabled {_by(facts.created)}, and not been enabled yet"
    else:
        since = "it had not been enabled yet"
    return (
        f"The event happened at {moment(facts.event_time)}, while the route was disabled: {since}. "
        "It is never sent, not even after an enable."
    )


def _before_creation(facts: ExplanationFacts) -> str:
    created = "" if facts.created is None else f" {_by(facts.created)}"
    return (
        f"The event happened at {moment(facts.event_time)}, before the route was created{created}. "
        "A route gets nothing from before its creation."
    )


def _after_deletion(facts: ExplanationFacts) -> str:
    deleted = "deleted" if facts.closed is None else _done(facts.closed)
    return f"The event happened at {moment(facts.event_time)}, after the route was {deleted}."


def _backfill(_facts: ExplanationFacts) -> str:
    return "The event was imported as backfill: it is kept, and never delivered by itself."


def _not_yet_read(facts: ExplanationFacts) -> str:
    why = "" if facts.waiting.is_owned else ": no running process sends for this tenant now"
    return f"The event was stored at {moment(facts.recorded_at)}, and has not been read yet{why}."


def _no_longer_kept(facts: ExplanationFacts) -> str:
    since = "" if facts.kept_from is None else f", which begin at {moment(facts.kept_from)}"
    return f"Due, and accounted for; what became of it is older than the outcomes that are kept{since}."


_SENTENCES: dict[ExplainedDecision, Callable[[ExplanationFacts], str]] = {
    ExplainedDecision.DELIVERED: _delivered,
    ExplainedDecision.PENDING: _pending,
    ExplainedDecision.FAILED: _failed,
    ExplainedDecision.SUPPRESSED: _suppressed,
    ExplainedDecision.EXPIRED: _expired,
    ExplainedDecision.NOT_SUBSCRIBED: _not_subscribed,
    ExplainedDecision.FILTERED: _filtered,
    ExplainedDecision.DISABLED: _disabled,
    ExplainedDecision.BEFORE_CREATION: _before_creation,
    ExplainedDecision.AFTER_DELETION: _after_deletion,
    ExplainedDecision.BACKFILL: _backfill,
    ExplainedDecision.NOT_YET_READ: _not_yet_read,
    ExplainedDecision.NO_LONGER_KEPT: _no_longer_kept,
}


def _done(change: RouteChange) -> str:
    return f"{change.type.value} {_by(change)}"


def _by(change: RouteChange) -> str:
    return f"at {moment(change.at)} by {change.actor}{because(change.reason)}"


def _attempts(number: int) -> str:
    return f"{number} attempt{'' if number == 1 else 's'}"
