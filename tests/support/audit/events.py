"""The events of a period as an audit reads them."""

from __future__ import annotations

from datetime import UTC, datetime

from eventstore import domain_events
from eventstore.domain_events.events import StoredEvent
from eventstore.postgres.connect import Database
from eventstore.postgres.snapshot import snapshot
from eventstore.queries.auditing import audited

ALWAYS = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


async def audited_events(
    database: Database,
    *,
    period: tuple[datetime, datetime] = ALWAYS,
    tenant: str | None = None,
    after: int = 0,
    limit: int = 10**6,
) -> list[StoredEvent]:
    """A page of them, without their payloads."""
    async with snapshot(database, seconds=30) as connection:
        page = await audited.events(connection, *period, tenant=tenant, after=after, upto=10**9, limit=limit)
    return page.events


async def with_payloads(database: Database, events: list[StoredEvent]) -> list[StoredEvent]:
    whole = await domain_events.by_seq(database, {event.seq: event.recorded_at for event in events})
    for event in events:
        own = whole[event.seq]
        event.data, event.context, event.snapshot = own.data, own.context, own.snapshot
    return events
