"""Publishes operational events: of webhooks that go down and recover, of deliveries that failed for good, at most one
event a minute for each webhook, of seals, and of daemons that came and went.

What was noted and not yet published is lost if the process is killed: these events say where to look, and what they are
about is in the log of deliveries.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from daemon import __version__, operations
from daemon.core.delivery.answer import Outcome
from daemon.core.delivery.health import ReceiverHealth
from daemon.core.routing.index import RouteIndex
from daemon.core.sealing.head import SignedHead
from daemon.core.sealing.seal import SealContent
from daemon.operations import Audience, FailedDeliveries
from daemon.pipeline.scheduling.delivery import Delivery
from daemon.pipeline.tunables import DEFAULTS, Tunables
from eventstore import domain_events
from eventstore.domain_events.events import NewEvent
from eventstore.postgres.connect import Database
from eventstore.progress import process
from eventstore.progress.rows import AttemptRow

# Events that wait for the database. More are dropped, the oldest first.
MOST_WAITING = 1_000

# Webhooks whose failures are counted at once. A process has no more lanes than that in trouble at any moment.
MOST_WEBHOOKS = 10_000


@dataclass(slots=True)
class _Webhook:
    """What failed for good since it was last told."""

    failed: FailedDeliveries | None = None
    told_at: float = float("-inf")


class OperationalEvents:
    """`recorded`, `turned` and `sealed` take notes, `run_once` publishes what there is to tell, then waits."""

    def __init__(
        self,
        database: Database,
        index: RouteIndex,
        audience: Audience,
        *,
        owner: str,
        tunables: Tunables = DEFAULTS,
    ) -> None:
        self._database = database
        self._index = index
        self._audience = audience
        self._pause_seconds = tunables.operations_pause_seconds
        self._webhook_seconds = tunables.operations_webhook_seconds
        self._webhooks: dict[UUID, _Webhook] = {}
        self._lost: set[str] = set()
        self._sealed_pos = 0
        self._unsealed = 0  # events about seals that no seal covers yet
        self._waiting: deque[NewEvent] = deque(maxlen=MOST_WAITING)
        joined = operations.daemon_joined(
            audience, owner=owner, host=socket.gethostname(), pid=os.getpid(), version=__version__
        )
        self._waiting.extend(joined)

    def turned(self, route_id: UUID, health: ReceiverHealth) -> None:
        """Hears of a receiver that is down, or that has recovered."""
        timeline = self._index.timeline(route_id)
        if timeline is not None:
            self._waiting.extend(operations.webhook_turned(self._audience, timeline.current, health))

    def sealed(self, seal: SealContent, head: SignedHead) -> None:
        """Hears of a seal. One that covers no event but those about seals before is not told: else there would be one
        after the other for ever.
        """
        events = sum(day.rows for day in seal.events)
        of_seals = min(events, self._unsealed)
        self._unsealed -= of_seals
        if events > of_seals or seal.route_pos != self._sealed_pos:
            told = operations.sealed(self._audience, seal, head)
            self._unsealed += len(told)
            self._waiting.extend(told)
        self._sealed_pos = seal.route_pos

    def recorded(self, rows: list[AttemptRow], _deliveries: list[Delivery]) -> None:
        """Hears of outcomes that are written."""
        for row in rows:
            if row.outcome == Outcome.FAILED and not row.event_type.startswith(operations.PREFIX):
                self._count(row)

    async def run_once(self) -> None:
        self._waiting.extend(self._due())
        for lost in await process.lost(self._database):
            if lost.owner not in self._lost:
                self._lost.add(lost.owner)
                self._waiting.extend(
                    operations.daemon_lost(self._audience, owner=lost.owner, host=lost.host, pid=lost.pid)
                )
        while self._waiting:
            batch = list(self._waiting)
            await domain_events.publish(self._database, batch)
            for _ in batch:
                self._waiting.popleft()
        await asyncio.sleep(self._pause_seconds)

    def _count(self, row: AttemptRow) -> None:
        webhook = self._webhooks.get(row.route_id)
        if webhook is None:
            if len(self._webhooks) >= MOST_WEBHOOKS:
                return
            webhook = self._webhooks[row.route_id] = _Webhook()
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

    def _due(self) -> list[NewEvent]:
        """The events about webhooks that were not told of for a minute. Forgets those that have nothing to tell."""
        now = time.monotonic()
        due: list[NewEvent] = []
        for route_id, webhook in list(self._webhooks.items()):
            if now - webhook.told_at < self._webhook_seconds:
                continue
            timeline = self._index.timeline(route_id)
            if webhook.failed is None or timeline is None:
                del self._webhooks[route_id]
                continue
            due += operations.delivery_failed(self._audience, timeline.current, webhook.failed)
            webhook.failed, webhook.told_at = None, now
        return due
