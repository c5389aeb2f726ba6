"""The first thing that is wrong with one outcome: with itself, with its event, or with the route at that time.

Pure. What differs by less than clocks may be set back is no fault, since a process, PostgreSQL and its successor each
have a clock of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from daemon.core.delivery import answer
from daemon.core.delivery.answer import ErrorName, Outcome
from daemon.core.routing import windows
from daemon.core.routing.route import Route
from daemon.core.routing.timeline import Timeline
from daemon.core.texts import moment
from eventstore.domain_events.events import StoredEvent
from eventstore.queries.auditing.audited import AuditedAttempt

# After a disable was acknowledged no process starts a request any more when so much time has passed.
SENT_AFTER_CLOSE = timedelta(seconds=1)
_CLOCK_STEP = timedelta(days=1)

_EVENT_NAMES = ("tick", "event_time", "shard", "is_test", "tenant", "event_id", "event_type")
_WITHOUT_REQUEST = frozenset({Outcome.SUPPRESSED.value, Outcome.EXPIRED.value})
_ERROR_NAMES = frozenset(name.value for name in ErrorName)


def outcome_fault(event: StoredEvent, timeline: Timeline, attempt: AuditedAttempt) -> str | None:
    """What is wrong with an outcome of a pair that was due, in words; None if nothing is."""
    found = event_fault(event, attempt)
    if found is None:
        wrong = (
            _answer_fault(attempt)
            or _time_fault(event, attempt)
            or _route_fault(event, timeline, attempt)
            or _id_fault(event, attempt)
        )
        found = None if wrong is None else f"outcome {name_of(attempt)}: {wrong}"
    return found


def event_fault(event: StoredEvent, attempt: AuditedAttempt) -> str | None:
    """What an outcome says otherwise than its event."""
    expected = (
        event.tick,
        event.event_time,
        event.shard,
        event.test_route is not None,
        event.tenant,
        event.id,
        event.type,
    )
    if attempt[2:9] == expected:
        return None
    return f"outcome {name_of(attempt)}: {first_difference(_EVENT_NAMES, attempt[2:9], expected)}"


def _id_fault(event: StoredEvent, attempt: AuditedAttempt) -> str | None:
    """SQL, which cannot compute the key, leaves it out where it ends a delivery without a request."""
    if attempt.delivery_key is None:
        return "delivery_key is missing" if attempt.number else None
    key = answer.delivery_key(answer.delivery_id(attempt.route_id, event.id, event.event_time))
    return None if attempt.delivery_key == key else f"delivery_key is {attempt.delivery_key}, and must be {key}"


def _answer_fault(attempt: AuditedAttempt) -> str | None:  # noqa: PLR0911 - one rule after another
    """Whether number, outcome, status and error belong together."""
    if attempt.number < 0 or attempt.duration_ms < 0:
        return "number and duration are never negative"
    if (attempt.outcome in _WITHOUT_REQUEST) is not (attempt.number == 0):
        return f"{attempt.outcome} does not go with number {attempt.number}"
    if attempt.number == 0:
        is_empty = (attempt.status_code, attempt.error, attempt.key_ids, attempt.duration_ms) == (None, None, None, 0)
        return None if is_empty else "it ended without a request, and yet has an answer, an error or a duration"
    status, error = attempt.status_code, attempt.error
    is_success = status is not None and 200 <= status < 300
    if (attempt.outcome == Outcome.DELIVERED) is not is_success:
        return f"{attempt.outcome} does not go with status {status}"
    if is_success:
        return None if error is None else f"status {status} does not go with the error {error}"
    if status is not None:
        return None if error == f"http_{status}" else f"status {status} does not go with the error {error}"
    if error is None or error.partition(": ")[0] not in _ERROR_NAMES:
        return f"without a status the error cannot be {error}"
    return None


def _time_fault(event: StoredEvent, attempt: AuditedAttempt) -> str | None:
    if attempt.at < event.recorded_at - _CLOCK_STEP or attempt.started_at < event.recorded_at - _CLOCK_STEP:
        return f"it began at {moment(attempt.started_at)}, before the event was recorded"
    if attempt.started_at > attempt.at + _CLOCK_STEP:
        return f"it was recorded at {moment(attempt.at)}, before it began at {moment(attempt.started_at)}"
    if attempt.outcome == Outcome.EXPIRED and attempt.at.date() <= event.recorded_at.date():
        return "it expired on the day on which its event was recorded"
    return None


def _route_fault(event: StoredEvent, timeline: Timeline, attempt: AuditedAttempt) -> str | None:
    """Whether the route was as the outcome says, and its window open."""
    current, version = timeline.current, attempt.route_version
    route = current if version == current.version else timeline.of_version(version)
    if route is None:
        return f"the route never had version {version}"
    # The clock that shows less: a process may be ahead, and PostgreSQL may have been away.
    begun = min(attempt.started_at, attempt.at - timedelta(milliseconds=attempt.duration_ms))
    return (
        _version_fault(timeline, route, attempt, begun)
        or _key_fault(route, attempt)
        or _window_fault(event, current, attempt, begun)
    )


def _version_fault(timeline: Timeline, route: Route, attempt: AuditedAttempt, begun: datetime) -> str | None:
    if route.updated_at > max(attempt.at, attempt.started_at) + _CLOCK_STEP:
        return f"the route had version {route.version} only from {moment(route.updated_at)} on"
    following = None if route is timeline.current else timeline.of_version(route.version + 1)
    if attempt.number and following is not None and begun > following.updated_at + SENT_AFTER_CLOSE:
        return f"it was sent as version {route.version} says, which was replaced at {moment(following.updated_at)}"
    return None


def _key_fault(route: Route, attempt: AuditedAttempt) -> str | None:
    if attempt.key_ids is None:
        return None if attempt.status_code is None else "it was answered, and it is signed with no key"
    known = {key.id for key in route.keys}
    if any(key_id not in known for key_id in attempt.key_ids.split(",")):
        return f"version {route.version} of the route did not have the keys {attempt.key_ids}"
    return None


def _window_fault(event: StoredEvent, current: Route, attempt: AuditedAttempt, begun: datetime) -> str | None:
    if windows.is_sendable(current.windows, event.event_time):
        return "the window of its event is open still" if attempt.outcome == Outcome.SUPPRESSED else None
    window = windows.find(current.windows, event.event_time)
    if attempt.number and window is not None and window.end is not None and begun > window.end + SENT_AFTER_CLOSE:
        return f"it was sent at {moment(begun)}, after the window of its event had closed at {moment(window.end)}"
    return None


def first_difference(names: Sequence[str], found: Sequence[object], expected: Sequence[object]) -> str | None:
    """The first of these values that is not that of the event, in words; None if all are."""
    for name, value, wanted in zip(names, found, expected, strict=True):
        if value != wanted:
            return f"{name} is {_shown(value)}, and that of the event is {_shown(wanted)}"
    return None


def name_of(attempt: AuditedAttempt) -> str:
    return f"{attempt.number} ({attempt.outcome})"


def _shown(value: object) -> str:
    return moment(value) if isinstance(value, datetime) else str(value)
