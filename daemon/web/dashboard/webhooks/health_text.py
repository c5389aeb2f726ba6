"""What a merchant reads about the health of a webhook: a headline, what waits, and why.

The sentences have moments and numbers in them, so a template puts them together; here is decided which of them hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from daemon.core.delivery import answer
from daemon.core.delivery.health import HealthState
from daemon.core.routing.route import Route
from daemon.core.sentences.failures import FailureText, explain_error
from daemon.receivers import RouteHealth

# A recovery is told for so long.
RECOVERY_TOLD = timedelta(hours=1)


class HealthHeadline(StrEnum):
    """What the banner of a webhook says."""

    DOWN = "down"
    FAILING = "failing"
    RECOVERING = "recovering"
    RECOVERED = "recovered"


class WaitReason(StrEnum):
    """What deliveries without a time of their own wait for."""

    RECEIVER = "receiver"
    EARLIER = "earlier"
    RATE = "rate"
    TURN = "turn"


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthView:
    """The health of a webhook for its page. `last_attempt` is the id of the delivery that failed last, and its event.

    `retries` wait for a time of their own, `parked` for `reason`.
    """

    health: RouteHealth
    headline: HealthHeadline | None
    failure: FailureText | None
    last_attempt: tuple[str, str] | None
    retries: int
    parked: int
    reason: WaitReason


def view(route: Route, health: RouteHealth, now: datetime) -> HealthView:
    """What to say of a route."""
    receiver = health.receiver
    failed = None if receiver is None else receiver.last_failure
    return HealthView(
        health=health,
        headline=_headline(health, now) if route.is_enabled else None,
        failure=None if failed is None or failed.error is None else explain_error(failed.error),
        last_attempt=None
        if failed is None
        else (answer.delivery_id(route.id, failed.event_id, failed.event_time), failed.event_id),
        retries=health.waiting.number - health.waiting.parked,
        parked=health.waiting.parked,
        reason=_reason(route, health),
    )


def _headline(health: RouteHealth, now: datetime) -> HealthHeadline | None:
    receiver = health.receiver
    if receiver is None:
        return None
    if receiver.state is HealthState.DOWN:
        return HealthHeadline.DOWN
    if receiver.state is HealthState.FAILING:
        return HealthHeadline.RECOVERING if health.is_recovering else HealthHeadline.FAILING
    is_told = receiver.ill_since is not None and now - receiver.run_since <= RECOVERY_TOLD
    return HealthHeadline.RECOVERED if is_told else None


def _reason(route: Route, health: RouteHealth) -> WaitReason:
    if health.is_down:
        return WaitReason.RECEIVER
    if route.config.ordered:
        return WaitReason.EARLIER
    return WaitReason.TURN if route.config.rate_limit_per_second is None else WaitReason.RATE
