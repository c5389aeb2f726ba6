"""What there is to tell of webhooks, held back so that a storm of failures makes no storm of events.

At most one event a minute tells of a webhook's deliveries that failed for good, with their number, and at most one
that its receiver is down. That it has recovered is told at once, after it was told to be down. What turns back before
it was told is not told.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from daemon import operations
from daemon.core.delivery.health import HealthState, ReceiverHealth
from daemon.core.routing.index import RouteIndex
from daemon.core.routing.route import Route
from daemon.operations import Audience, FailedDeliveries
from eventstore.domain_events.events import NewEvent
from eventstore.progress.rows import AttemptRow

# Webhooks of which there is something to tell, or was a minute ago. A process has no more in trouble at any moment.
MOST_WEBHOOKS = 10_000


@dataclass(slots=True)
class _Webhook:
    """`failed` and `turn` are to be told. `is_down` is what was told last of its receiver, None if nothing is known."""

    failed: FailedDeliveries | None = None
    failed_told_at: float = float("-inf")
    turn: ReceiverHealth | None = None
    is_down: bool | None = None
    down_told_at: float = float("-inf")


class WebhookNews:
    """`failed` and `turned` take notes; `due` returns the events that may be published now."""

    def __init__(self, index: RouteIndex, audience: Audience, *, pause_seconds: float) -> None:
        """`pause_seconds` lie between two events of a kind about one webhook."""
        self._index = index
        self._audience = audience
        self._pause_seconds = pause_seconds
        self._webhooks: dict[UUID, _Webhook] = {}

    def failed(self, row: AttemptRow) -> None:
        """Hears of a delivery that failed for good."""
        webhook = self._webhook(row.route_id)
        if webhook is None:
            return
        now, before = datetime.now(UTC), webhook.failed
        webhook.failed = FailedDeliveries(
            count=1 if before is None else before.count + 1,
            since=now if before is None else before.since,
            until=now,
            last_event_id=row.event_id,
            last_event_type=row.event_type,
            last_status_code=row.status_code,
            last_error=row.error,
        )

    def turned(self, route_id: UUID, health: ReceiverHealth) -> None:
        """Hears of a receiver that is down, or that has recovered."""
        webhook = self._webhook(route_id)
        if webhook is not None:
            webhook.turn = health

    def due(self, most: int) -> list[NewEvent]:
        """The events to publish now, of as many webhooks as have `most`; of the others later. Forgets those that have
        nothing to tell.
        """
        now = time.monotonic()
        due: list[NewEvent] = []
        for route_id, webhook in list(self._webhooks.items()):
            if len(due) >= most:
                break
            timeline = self._index.timeline(route_id)
            if timeline is None or self._is_over(webhook, now):
                del self._webhooks[route_id]
                continue
            due += self._turn(timeline.current, webhook, now) + self._failures(timeline.current, webhook, now)
        return due

    def _webhook(self, route_id: UUID) -> _Webhook | None:
        """What is noted of a webhook, None if there are too many."""
        webhook = self._webhooks.get(route_id)
        if webhook is None and len(self._webhooks) < MOST_WEBHOOKS:
            webhook = self._webhooks[route_id] = _Webhook()
        return webhook

    def _turn(self, route: Route, webhook: _Webhook, now: float) -> tuple[NewEvent, ...]:
        health = webhook.turn
        if health is None:
            return ()
        is_down = health.state is HealthState.DOWN
        if is_down == webhook.is_down:  # it has turned twice
            webhook.turn = None
            return ()
        if is_down and now - webhook.down_told_at < self._pause_seconds:
            return ()
        webhook.turn, webhook.is_down = None, is_down
        if is_down:
            webhook.down_told_at = now
        return operations.webhook_turned(self._audience, route, health)

    def _failures(self, route: Route, webhook: _Webhook, now: float) -> tuple[NewEvent, ...]:
        failed = webhook.failed
        if failed is None or now - webhook.failed_told_at < self._pause_seconds:
            return ()
        webhook.failed, webhook.failed_told_at = None, now
        return operations.delivery_failed(self._audience, route, failed)

    def _is_over(self, webhook: _Webhook, now: float) -> bool:
        told_at = max(webhook.failed_told_at, webhook.down_told_at)
        return webhook.failed is None and webhook.turn is None and now - told_at >= self._pause_seconds
