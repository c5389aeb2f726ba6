"""The first thing that is wrong with the record of one pair of event and route.

Pure: rows in, a fault or None out. What the daemon writes for a pair, and in which order, is told in
eventstore/progress/recording.py; a record that cannot have come about that way is a fault. In order: each outcome
(outcome_faults.py), their sequence, the row in `retry`, packed rows and the range, and at last whether anything stands
for the pair at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from operator import itemgetter

from daemon.audit.faults.outcome_faults import event_fault, first_difference, name_of, outcome_fault
from daemon.audit.findings import FindingKind
from daemon.core.delivery.answer import Outcome
from daemon.core.delivery.retry import RETRY_AFTER_CAP_FACTOR, RetryPolicy, delay
from daemon.core.routing import windows
from daemon.core.routing.decision import Decision
from daemon.core.routing.timeline import Timeline
from daemon.core.texts import moment
from eventstore.domain_events.events import StoredEvent
from eventstore.queries.auditing.audited import AuditedAttempt, AuditedParked, AuditedRetry

# Between reading a clock and writing what follows from it, and for clocks of several machines.
_SLACK = timedelta(seconds=10)

_ZERO = timedelta(0)
_BY_NUMBER = itemgetter(AuditedAttempt._fields.index("number"))


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliverySchedule:
    """When a retry may be due: by the retry policy, and by how long a request may take."""

    retry: RetryPolicy
    timeout: timedelta


@dataclass(slots=True)
class PairRecord:
    """What stands for a pair, the attempts in the order of recording. `is_ranged`: its route's range contains it."""

    attempts: list[AuditedAttempt] = field(default_factory=list)
    retry: AuditedRetry | None = None
    parked: list[AuditedParked] = field(default_factory=list)
    is_ranged: bool = False


@dataclass(frozen=True, slots=True)
class PairFault:
    """A fault, unless somebody had the delivery sent again: `resent` are the moments before each of which somebody must
    have wanted it once more, in order. None stands for now.
    """

    kind: FindingKind
    table: str
    detail: str
    resent: tuple[datetime | None, ...] = ()

    def is_explained(self, requested: Sequence[datetime]) -> bool:
        """True if it is none, given when somebody had the delivery sent again, in order."""
        if not self.resent or len(requested) < len(self.resent):
            return False
        pairs = zip(requested, self.resent, strict=False)
        return all(resent is None or at <= resent for at, resent in pairs)


def unexpected(event: StoredEvent, record: PairRecord, decision: Decision) -> PairFault | None:
    """The fault of a pair that was not due: anything that stands for it. A range stands for what is due alone."""
    because = f"the event was not due to the route ({decision.value})"
    if record.attempts:
        first = record.attempts[0]
        if found := event_fault(event, first):
            return _unexplained("attempt", found)
        return PairFault(FindingKind.UNEXPECTED, "attempt", f"outcome {name_of(first)} is recorded, though {because}")
    if record.retry is not None:
        return PairFault(FindingKind.UNEXPECTED, "retry", f"it waits to be sent, though {because}")
    if record.parked:
        return PairFault(FindingKind.UNEXPECTED, "parked", f"it waits for its turn, though {because}")
    return None


def fault(
    event: StoredEvent, timeline: Timeline, record: PairRecord, schedule: DeliverySchedule | None
) -> PairFault | None:
    """The first fault of a pair that was due and that its shard has read, None if all is as it must be."""
    for attempt in record.attempts:
        if found := outcome_fault(event, timeline, attempt):
            return _unexplained("attempt", found)
    if found := _sequence_fault(record.attempts):
        return _unexplained("attempt", found)
    waiting = _waiting_fault(event, record, schedule)
    return _standing_fault(timeline, record, schedule) if waiting is None else waiting


def _waiting_fault(event: StoredEvent, record: PairRecord, schedule: DeliverySchedule | None) -> PairFault | None:
    if record.retry is not None and (found := _retry_fault(event, record, record.retry, schedule)):
        return _unexplained("retry", found)
    for parked in record.parked:
        if found := first_difference(_PARKED_NAMES, parked[2:], (event.tick, event.event_time, event.recorded_at)):
            return _unexplained("parked", found)
    if record.is_ranged and (record.attempts or record.retry is not None or record.parked):
        return _unexplained("parked_range", "the route's range contains it, though it has a row or an outcome")
    return None


def _standing_fault(timeline: Timeline, record: PairRecord, schedule: DeliverySchedule | None) -> PairFault | None:
    """Whether something stands for the pair, and whether somebody wanted each time that it was sent again."""
    attempts, retry = record.attempts, record.retry
    if not attempts:
        stands = retry is not None or record.parked or record.is_ranged
        detail = "it was due, but is neither recorded nor waiting"
        return None if stands else PairFault(FindingKind.MISSING, "attempt", detail)
    if len(attempts) == 1 and retry is None and attempts[0].outcome != Outcome.RETRYING:
        return None  # nearly every pair
    last = max(attempts, key=_BY_NUMBER)
    if retry is None and last.outcome == Outcome.RETRYING and all(attempt.number for attempt in attempts):
        detail = f"attempt {last.number} failed and is to be repeated, but nothing waits"
        return PairFault(FindingKind.MISSING, "retry", detail)
    found = _resend_fault(attempts, is_waiting=retry is not None)
    if found is None and retry is not None and schedule is not None and _hurried(timeline, last, retry, schedule):
        detail = f"it is due at {moment(retry.due_at)}, earlier than the schedule says, though nobody wanted it so"
        return PairFault(FindingKind.UNEXPLAINED, "retry", detail, resent=(None,))
    return found


def _resend_fault(attempts: Sequence[AuditedAttempt], *, is_waiting: bool) -> PairFault | None:
    """The fault unless somebody had the delivery sent again after each final outcome but the last."""
    if any(attempt.outcome == Outcome.EXPIRED for attempt in attempts):
        is_waiting = False  # it may have been under way when it expired
    ends = [attempt for attempt in attempts if attempt.outcome not in (Outcome.RETRYING, Outcome.EXPIRED)]
    # Before each of these outcomes it was sent again: the next final one is not earlier than the first of them.
    resent = (*(end.at for end in ends[1:]), *((None,) if is_waiting and ends else ()))
    if not resent:
        return None
    what = "it waits to be sent again" if len(ends) == 1 else "there is another outcome"
    detail = f"after {name_of(ends[0])}, which was final, {what}, though nobody had it sent again"
    return PairFault(FindingKind.UNEXPLAINED, "retry" if len(ends) == 1 else "attempt", detail, resent=resent)


_PARKED_NAMES = ("tick", "event_time", "recorded_at")
_RETRY_NAMES = ("tick", "event_time", "recorded_at", "shard", "tenant")


def _sequence_fault(attempts: Sequence[AuditedAttempt]) -> str | None:
    if len(attempts) == 1 and attempts[0].number <= 1:
        return None  # nearly every pair
    numbers = sorted(attempt.number for attempt in attempts if attempt.number)
    for expected, number in enumerate(numbers, 1):
        if number < expected:
            return f"attempt {number} is recorded twice"
        if number > expected:
            return f"attempt {expected} is missing, while {number} is recorded"
    return None


def _retry_fault(
    event: StoredEvent, record: PairRecord, retry: AuditedRetry, schedule: DeliverySchedule | None
) -> str | None:
    expected = (event.tick, event.event_time, event.recorded_at, event.shard, event.tenant)
    if found := first_difference(_RETRY_NAMES, retry[2:7], expected):
        return found
    last = max(record.attempts, key=_BY_NUMBER, default=None)
    highest = 0 if last is None else last.number
    if retry.replay is not None and not retry.has_replay:
        return f"it says replay {retry.replay}, and no such replay is of this route and this time"
    if retry.failures > highest or (retry.failures < highest and retry.replay is None):
        return f"failures is {retry.failures}, and {_attempts(highest)} are recorded"
    if schedule is None:
        return None
    longest = _longest_wait(schedule, retry, last)
    if retry.due_in > longest + _SLACK:
        return f"it is due in {retry.due_in}, and the longest wait after {_attempts(highest)} is {longest}"
    return None


def _longest_wait(schedule: DeliverySchedule, retry: AuditedRetry, last: AuditedAttempt | None) -> timedelta:
    """For how long a retry waits at most from when it was written."""
    if retry.holder is not None:
        return schedule.timeout
    if last is None or retry.replay is not None:
        return _ZERO
    at_least = schedule.retry.cap * RETRY_AFTER_CAP_FACTOR if last.status_code in (429, 503) else None
    return _wait(schedule.retry, last.number, roll=1.0, at_least=at_least)


def _hurried(timeline: Timeline, last: AuditedAttempt, retry: AuditedRetry, schedule: DeliverySchedule) -> bool:
    """True if the retry is due earlier than after any failure; so it is if somebody wanted it at once."""
    if retry.holder is not None or retry.replay is not None or last.outcome != Outcome.RETRYING:
        return False
    if not windows.is_sendable(timeline.current.windows, last.event_time):
        return False  # it is suppressed at once
    shortest = _wait(schedule.retry, last.number, roll=0.0, at_least=None)
    return retry.due_at + abs(retry.ahead) + _SLACK < last.at + shortest


def _wait(policy: RetryPolicy, failures: int, *, roll: float, at_least: timedelta | None) -> timedelta:
    unlimited = replace(policy, attempts=failures + 1)
    return delay(unlimited, failures=failures, roll=roll, at_least=at_least) or _ZERO


def _unexplained(table: str, detail: str) -> PairFault:
    return PairFault(FindingKind.UNEXPLAINED, table, detail)


def _attempts(number: int) -> str:
    return f"{number} attempt{'' if number == 1 else 's'}"
