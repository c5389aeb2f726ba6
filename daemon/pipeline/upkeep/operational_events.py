"""Publishes operational events: of webhooks that go down and recover, of deliveries that failed for good, of seals, of
daemons that came and went, and of what sources tell.

What was noted and not yet published is lost if the process is killed: these events say where to look, and what they are
about is in the log of deliveries.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Sequence
from uuid import UUID

from daemon import __version__, operations
from daemon.core.delivery.answer import Outcome
from daemon.core.delivery.health import ReceiverHealth
from daemon.core.routing.index import RouteIndex
from daemon.core.sealing.head import SignedHead
from daemon.core.sealing.seal import SealContent
from daemon.operations import Audience
from daemon.pipeline.scheduling.delivery import Delivery
from daemon.pipeline.tunables import DEFAULTS, Tunables
from daemon.pipeline.upkeep.webhook_news import WebhookNews
from eventstore import domain_events
from eventstore.domain_events.events import NewEvent
from eventstore.leases import process
from eventstore.postgres.connect import Database
from eventstore.progress.rows import AttemptRow

# Events that wait for the database, beside those about webhooks. More are dropped, the oldest first.
MOST_WAITING = 1_000


class OperationalEvents:
    """`recorded`, `turned`, `sealed` and `tell` take notes, `run_once` publishes what there is to tell, then waits."""

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
        self._audience = audience
        self._pause_seconds = tunables.operations_pause_seconds
        self._webhooks = WebhookNews(index, audience, pause_seconds=tunables.operations_webhook_seconds)
        self._lost: set[str] = set()
        self._sealed_pos = 0
        self._unsealed = 0  # events about seals that no seal covers yet
        self._waiting: deque[NewEvent] = deque(maxlen=MOST_WAITING)
        self._publishing: list[NewEvent] = []
        joined = operations.daemon_joined(
            audience, owner=owner, host=socket.gethostname(), pid=os.getpid(), version=__version__
        )
        self._waiting.extend(joined)

    def turned(self, route_id: UUID, health: ReceiverHealth) -> None:
        """Hears of a receiver that is down, or that has recovered."""
        self._webhooks.turned(route_id, health)

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
                self._webhooks.failed(row)

    def tell(self, events: Sequence[NewEvent]) -> None:
        """Takes events that somebody else has made."""
        self._waiting.extend(events)

    async def run_once(self) -> None:
        for lost in await process.lost(self._database):
            if lost.owner not in self._lost:
                self._lost.add(lost.owner)
                self._waiting.extend(
                    operations.daemon_lost(self._audience, owner=lost.owner, host=lost.host, pid=lost.pid)
                )
        if not self._publishing:  # else the last attempt failed
            self._publishing = self._taken()
        while self._publishing:
            await domain_events.publish(self._database, self._publishing)
            self._publishing = self._taken()
        await asyncio.sleep(self._pause_seconds)

    def _taken(self) -> list[NewEvent]:
        """What there is to publish now, taken out of what waits."""
        taken = [*self._waiting, *self._webhooks.due(MOST_WAITING)]
        self._waiting.clear()
        return taken
