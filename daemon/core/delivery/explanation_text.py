"""The explanation of a pair of event and route: one word, and one sentence with the reason.

The words are values of the API. The sentences name exact times, because the next question is usually "when?".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from daemon.core.routing.route import Route
from daemon.core.routing.windows import Window


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
class ExplanationFacts:
    """The facts that a sentence may mention.

    `route` and `window` are those as of the event. `attempts` counts the requests so far. `is_test_of_another` is true
    for a test event of another route.
    """

    event_time: datetime
    event_type: str
    created_at: datetime
    route: Route | None
    window: Window | None
    attempts: int
    last_at: datetime | None
    last_error: str | None
    due_at: datetime | None
    is_parked: bool
    is_test_of_another: bool = False


def sentence(decision: ExplainedDecision, facts: ExplanationFacts) -> str:
    """The sentence for a decision, with the facts that led to it."""
    return _SENTENCES[decision](facts)


def _delivered(facts: ExplanationFacts) -> str:
    return f"Delivered on attempt {facts.attempts}, {_moment(facts.last_at or facts.event_time)}."


def _pending(facts: ExplanationFacts) -> str:
    if facts.due_at is not None and facts.attempts:
        return f"Attempt {facts.attempts} failed ({facts.last_error}); the next one is due at {_moment(facts.due_at)}."
    if facts.is_parked:
        return "Waiting for its turn: the route is slower than its events, or does not answer."
    return "Due, and about to be sent."


def _failed(facts: ExplanationFacts) -> str:
    return f"Failed for good after {_attempts(facts.attempts)}; the last error was {facts.last_error or 'unknown'}."


def _suppressed(facts: ExplanationFacts) -> str:
    closed = facts.window is not None and facts.window.end
    end = f" at {_moment(closed)}" if closed else ""
    return f"Not sent: the route was disabled or deleted{end}, after the event and before it could be delivered."


def _expired(_facts: ExplanationFacts) -> str:
    return "Not delivered before its event reached the end of the retention period."


def _not_subscribed(facts: ExplanationFacts) -> str:
    if facts.is_test_of_another:
        return "It was a test event, sent on purpose to another route only."
    subscribed = ", ".join(facts.route.config.event_types) if facts.route else "nothing"
    return f"At {_moment(facts.event_time)} the route subscribed to {subscribed}, not to {facts.event_type}."


def _filtered(facts: ExplanationFacts) -> str:
    return f"At {_moment(facts.event_time)} the route's filter did not let this event pass."


def _disabled(facts: ExplanationFacts) -> str:
    since = facts.route.windows[-1].end if facts.route and facts.route.windows else None
    closed = "it had never been enabled" if since is None else f"it had been disabled since {_moment(since)}"
    return (
        f"The event happened at {_moment(facts.event_time)}, while the route was disabled: {closed}. "
        "It is never sent, not even after an enable."
    )


def _before_creation(facts: ExplanationFacts) -> str:
    return (
        f"The event happened at {_moment(facts.event_time)}, before the route was created "
        f"at {_moment(facts.created_at)}."
    )


def _after_deletion(facts: ExplanationFacts) -> str:
    return f"The event happened at {_moment(facts.event_time)}, after the route was deleted."


def _backfill(_facts: ExplanationFacts) -> str:
    return "The event was imported as backfill: it is kept, and never delivered by itself."


def _not_yet_read(_facts: ExplanationFacts) -> str:
    return "The event is stored and has not been read yet."


def _no_longer_kept(_facts: ExplanationFacts) -> str:
    return "Due, and accounted for; what became of it is older than the outcomes that are kept."


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


def _attempts(number: int) -> str:
    return f"{number} attempt{'' if number == 1 else 's'}"


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S.%f} UTC"
