"""What a delivery waits for, as a sentence: a retry, somebody's request, an earlier delivery, our limits, its receiver.

The state of a breaker is known to the process that sends for the route. A sentence tells by when its next probe goes
out at the latest, which follows from the last failure.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from daemon.core.delivery.breaker import LONGEST_PAUSE_SECONDS
from daemon.core.sentences.failures import clause
from daemon.core.texts import moment

# The longest pause of a breaker, with its jitter.
_LONGEST_PAUSE = timedelta(seconds=LONGEST_PAUSE_SECONDS * 1.1)

# So long after it fell due nothing need keep a delivery but the time until it is taken up.
_HARDLY_LATE = timedelta(seconds=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class SentAgain:
    """Who had a delivery sent again, when and why."""

    by: str
    at: datetime
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingFacts:
    """What is known of a delivery that waits.

    `due_at` is when its row falls due, None without one. `attempts` counts those so far, `error` and `ended_at` belong
    to the last one. `is_ended` if one of its outcomes was final. `failing_since` is set while its receiver fails
    whatever it gets; then `failed_at` and `failure` are the last failure. `behind` is the id of an earlier event that
    has to be delivered first, due at `behind_due_at`. `is_behind_closed` if deliveries of a closed window, of which
    none is sent, are parked before it. `is_owned` if a running process sends for the tenant.
    """

    now: datetime
    attempts: int
    ended_at: datetime | None
    error: str | None
    due_at: datetime | None
    is_parked: bool
    is_ended: bool = False
    sent_again: SentAgain | None = None
    failing_since: datetime | None = None
    failed_at: datetime | None = None
    failure: str | None = None
    behind: str | None = None
    behind_due_at: datetime | None = None
    is_behind_closed: bool = False
    rate_limit_per_second: float | None = None
    is_owned: bool = True


def sentence(facts: WaitingFacts) -> str:
    """What happened to the delivery, and what it waits for."""
    return f"{_happened(facts)}{_waits_for(facts)}"


def _happened(facts: WaitingFacts) -> str:
    if facts.sent_again is not None and facts.is_ended:
        resend = facts.sent_again
        return f"{resend.by} had it sent again at {moment(resend.at)}{because(resend.reason)}. "
    if facts.attempts and facts.ended_at is not None:
        return f"Attempt {facts.attempts} failed at {moment(facts.ended_at)}: {clause(facts.error)}. "
    return ""


def _waits_for(facts: WaitingFacts) -> str:  # noqa: PLR0911 - one cause after another, the strongest first
    if not facts.is_owned and (facts.due_at is None or facts.due_at <= facts.now):
        return "It will be sent once a daemon runs: no running process sends for this tenant now."
    if facts.due_at is not None:
        return _until_due(facts, facts.due_at)
    if facts.is_parked and facts.is_behind_closed:
        return (
            "It waits until what waited when the route was disabled has been ended, none of which is sent: that takes "
            "a second for some thousands."
        )
    if facts.behind is not None:
        due = "" if facts.behind_due_at is None else f", whose next attempt is due at {moment(facts.behind_due_at)}"
        return f"It waits for an earlier delivery, as the route is ordered: that of event {facts.behind}{due}."
    if facts.is_parked and facts.failing_since is not None:
        return _until_recovered(facts, facts.failing_since)
    if facts.rate_limit_per_second is not None and facts.is_parked:
        return f"It waits for {_rate_limit(facts.rate_limit_per_second)}."
    if facts.is_parked:
        return "It waits for its turn: the receiver takes requests more slowly than events happen."
    return "It is due: its request is about to be made, or under way."


def _until_due(facts: WaitingFacts, due_at: datetime) -> str:
    rate = facts.rate_limit_per_second
    if rate is not None and facts.now - due_at > _HARDLY_LATE:
        return f"It is due since {moment(due_at)}, and waits for {_rate_limit(rate)}."
    if not facts.attempts and due_at <= facts.now:
        return "It is due: its request is about to be made, or under way."
    if not facts.attempts:
        return f"Its first request is under way; if nothing is known of it by {moment(due_at)}, it is sent again."
    number = facts.attempts + 1
    if due_at <= facts.now:
        return f"Attempt {number} is due since {moment(due_at)}: it is about to be made, or under way."
    return f"Attempt {number} is due at {moment(due_at)}."


def _rate_limit(per_second: float) -> str:
    return f"our rate limit: the route gets at most {per_second:g} requests a second"


def _until_recovered(facts: WaitingFacts, since: datetime) -> str:
    last = probe = ""
    if facts.failed_at is not None:
        last = f", at last at {moment(facts.failed_at)}: {clause(facts.failure)}"
        if (probe_at := facts.failed_at + _LONGEST_PAUSE) > facts.now:
            probe = f", the next one by {moment(probe_at)}"
    return (
        f"It waits for its receiver, of which every request has failed since {moment(since)}{last}. "
        f"Until one succeeds only single requests go out to see whether it is back{probe}."
    )


def because(reason: str | None) -> str:
    """A reason that somebody gave, as the end of a clause."""
    return "" if not reason else f" (“{reason}”)"
