"""Receivers that fail, as the process that sends for a route notes them, and deliveries that wait for them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from eventstore.domain_events.events import shard_of
from eventstore.leases import lease
from eventstore.progress import recording
from eventstore.progress.recording import Flush
from eventstore.queries.metrics import route_health
from eventstore.queries.metrics.route_health import HealthRow
from tests.support.rows.credentials import LOG_MACS
from tests.support.values.builders import parked, retry
from tests.support.web.application import App

START = datetime(2026, 11, 23, 13, 16, tzinfo=UTC)


def row(route: dict[str, Any], **more: Any) -> HealthRow:
    """What is noted of a route of which all requests have failed, unless `more` says otherwise."""
    return HealthRow(
        route_id=UUID(route["id"]), tenant=route["tenant"], shard=shard_of(route["tenant"]), epoch=1, state="down",
        since=START, run_since=START, ill_since=START, failures=5, successes=0, failed_at=START + timedelta(minutes=5),
        failed_status=500, failed_error="http_500", failed_event="e1", failed_event_time=START, delivered_at=None,
        delivered_status=None, delivered_event=None, delivered_event_time=None, probe_after=timedelta(seconds=15),
    )._replace(**more)  # fmt: skip


async def noted(app: App, route: dict[str, Any], **more: Any) -> None:
    """Notes that all requests of a route have failed, unless `more` says otherwise."""
    await route_health.write(app.database, [row(route, **more)])


async def wait(app: App, route: dict[str, Any], *, parked_pairs: int, retries: int = 0) -> None:
    """Has so many deliveries wait for their turn, and so many for the time of their retry."""
    shard, route_id = shard_of(route["tenant"]), UUID(route["id"])
    epochs = await lease.acquire(app.database, "somebody", [shard])
    batch = Flush(
        retries=[
            retry(shard=shard, seq=1000 + n, route_id=route_id, after=timedelta(minutes=5)) for n in range(retries)
        ],
        parked=[parked(shard=shard, seq=seq, route_id=route_id) for seq in range(1, parked_pairs + 1)],
    )
    assert await recording.flush(app.database, "somebody", epochs, batch, number=1, macs=LOG_MACS) == {shard}
