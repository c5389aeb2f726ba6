"""How a receiver does, judged by the requests that were made to it one after the other.

    ok       --a failure------------------------------------------------> failing
    failing  --DOWN_FAILURES failures in a row--------------------------> down
    down     --a success------------------------------------------------> failing
    failing  --WELL_SUCCESSES in a row, or one and QUIET without failure-> ok

So one lost request among many is told and soon forgotten, and a receiver that answers every other request stays
failing. A route without requests has no health: nothing is known of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

DOWN_FAILURES = 3
WELL_SUCCESSES = 20
QUIET = timedelta(seconds=60)


class HealthState(StrEnum):
    """See the head of this file. The values are those of the API."""

    OK = "ok"
    FAILING = "failing"
    DOWN = "down"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredRequest:
    """A request, by what came of it. `error` is None if it succeeded; `status_code` is None without an answer."""

    at: datetime
    status_code: int | None
    error: str | None
    event_id: str
    event_time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverHealth:
    """The health after some requests. `failures` and `successes` are the last ones in a row, of which one is 0, and
    `run_since` is when they began. `ill_since` is when the last bad time began, which may be over.

    `since` is when the state began: of DOWN that is when the failures in a row began.
    """

    state: HealthState
    run_since: datetime
    ill_since: datetime | None = None
    failures: int = 0
    successes: int = 0
    last_failure: AnsweredRequest | None = None
    last_success: AnsweredRequest | None = None

    @property
    def since(self) -> datetime:
        return self.ill_since if self.state is HealthState.FAILING and self.ill_since is not None else self.run_since

    @property
    def last_request(self) -> AnsweredRequest | None:
        """The last request, whatever came of it."""
        return self.last_failure if self.failures else self.last_success


def after(health: ReceiverHealth | None, request: AnsweredRequest) -> ReceiverHealth:
    """The health after one more request."""
    if request.error is None:
        return after_successes(health, request, count=1, began=request.at)
    return _after_failure(health, request)


def after_successes(
    health: ReceiverHealth | None, last: AnsweredRequest, *, count: int, began: datetime
) -> ReceiverHealth:
    """The health after `count` more requests that all succeeded, the first one at `began`."""
    if health is None:
        return ReceiverHealth(state=HealthState.OK, run_since=began, successes=count, last_success=last)
    successes = health.successes + count
    is_well = health.state is HealthState.OK or successes >= WELL_SUCCESSES
    return replace(
        health,
        state=HealthState.OK if is_well else HealthState.FAILING,
        run_since=health.run_since if health.successes else began,
        failures=0,
        successes=successes,
        last_success=last,
    )


def rested(health: ReceiverHealth, now: datetime) -> ReceiverHealth:
    """The health after a while: it is well again if it succeeds and QUIET has passed since its last failure."""
    failed = health.last_failure
    is_quiet = failed is None or now - failed.at >= QUIET
    if health.state is HealthState.FAILING and health.successes and is_quiet:
        return replace(health, state=HealthState.OK)
    return health


def _after_failure(health: ReceiverHealth | None, request: AnsweredRequest) -> ReceiverHealth:
    if health is None or health.state is HealthState.OK:
        return ReceiverHealth(
            state=HealthState.FAILING,
            run_since=request.at,
            ill_since=request.at,
            failures=1,
            last_failure=request,
            last_success=None if health is None else health.last_success,
        )
    failures = health.failures + 1
    return replace(
        health,
        state=HealthState.DOWN if failures >= DOWN_FAILURES else HealthState.FAILING,
        run_since=health.run_since if health.failures else request.at,
        failures=failures,
        successes=0,
        last_failure=request,
    )
