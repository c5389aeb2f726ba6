"""The health of a route's receiver as it is stored and as it is shown.

The process that sends for a route keeps it up to date (`pipeline.upkeep.watches.health_watch`); everybody reads it from
the database, so all processes tell the same. What is shown besides is what waits and when the receiver is asked next.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from daemon.core.delivery.health import AnsweredRequest, HealthState, ReceiverHealth
from eventstore.postgres.connect import Database
from eventstore.queries.metrics import route_health
from eventstore.queries.metrics.route_health import HealthRow, StoredHealth, Waiting

_NOTHING_WAITS = Waiting(number=0, parked=0, is_exact=True, due_at=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteHealth:
    """How a route does. `receiver` is None if nothing was sent to it since it was enabled.

    `next_probe_at` is when the next request to a receiver that fails is due, which may have passed; None if it does not
    fail, or nothing waits for it.
    """

    receiver: ReceiverHealth | None = None
    waiting: Waiting = field(default=_NOTHING_WAITS)
    next_probe_at: datetime | None = None

    @property
    def state(self) -> HealthState:
        return HealthState.UNKNOWN if self.receiver is None else self.receiver.state

    @property
    def is_failing(self) -> bool:
        """True if some of its requests fail, or all."""
        return self.state in (HealthState.FAILING, HealthState.DOWN)

    @property
    def is_down(self) -> bool:
        return self.state is HealthState.DOWN

    @property
    def is_recovering(self) -> bool:
        """True if it was down or failing, and its last request succeeded."""
        return self.is_failing and self.receiver is not None and self.receiver.successes > 0

    @property
    def since(self) -> datetime | None:
        return None if self.receiver is None else self.receiver.since

    @property
    def last_answer(self) -> AnsweredRequest | None:
        return None if self.receiver is None else self.receiver.last_request


async def read(database: Database, route_ids: Collection[UUID]) -> dict[UUID, RouteHealth]:
    """Route → its health, also for those of which nothing is known."""
    return {route_id: of_stored(stored) for route_id, stored in (await route_health.read(database, route_ids)).items()}


def of_stored(stored: StoredHealth) -> RouteHealth:
    """The health as it is shown."""
    receiver = None if stored.row is None else of_row(stored.row)
    waiting = stored.waiting
    probe_at = None
    if receiver is not None and receiver.state is not HealthState.OK and waiting.number:
        # A retry keeps its time, and is a probe too; the others wait for the breaker.
        times = [waiting.due_at, stored.probe_at if waiting.parked else None]
        probe_at = min((at for at in times if at is not None), default=None)
    return RouteHealth(receiver=receiver, waiting=waiting, next_probe_at=probe_at)


def of_row(row: HealthRow) -> ReceiverHealth:
    """The health that was stored."""
    return ReceiverHealth(
        state=HealthState(row.state),
        run_since=row.run_since,
        ill_since=row.ill_since,
        failures=row.failures,
        successes=row.successes,
        last_failure=_request(
            row.failed_at, row.failed_status, row.failed_error, row.failed_event, row.failed_event_time
        ),
        last_success=_request(
            row.delivered_at, row.delivered_status, None, row.delivered_event, row.delivered_event_time
        ),
    )


def row_of(
    health: ReceiverHealth, *, route_id: UUID, tenant: str, shard: int, epoch: int, probe_after: timedelta | None
) -> HealthRow:
    """The row to store."""
    failure, success = health.last_failure, health.last_success
    return HealthRow(
        route_id=route_id,
        tenant=tenant,
        shard=shard,
        epoch=epoch,
        state=health.state.value,
        since=health.since,
        run_since=health.run_since,
        ill_since=health.ill_since,
        failures=health.failures,
        successes=health.successes,
        failed_at=None if failure is None else failure.at,
        failed_status=None if failure is None else failure.status_code,
        failed_error=None if failure is None else failure.error,
        failed_event=None if failure is None else failure.event_id,
        failed_event_time=None if failure is None else failure.event_time,
        delivered_at=None if success is None else success.at,
        delivered_status=None if success is None else success.status_code,
        delivered_event=None if success is None else success.event_id,
        delivered_event_time=None if success is None else success.event_time,
        probe_after=probe_after,
    )


def _request(
    at: datetime | None, status_code: int | None, error: str | None, event_id: str | None, event_time: datetime | None
) -> AnsweredRequest | None:
    if at is None or event_id is None or event_time is None:
        return None
    return AnsweredRequest(at=at, status_code=status_code, error=error, event_id=event_id, event_time=event_time)
