"""Whose an id is: an event or a delivery, over all tenants. For operators, who are told an id and no more.

A delivery is found by its requests, so one that was never tried is not; its event is. An event's id is the tenant's own
choice, so several may have the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from daemon.core.delivery import answer
from daemon.core.routing.index import RouteIndex
from eventstore.postgres.connect import Database
from eventstore.queries.deliveries import attempts
from eventstore.queries.events import listing

MAX_FOUND = 20
MAX_CHARACTERS = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereabouts:
    """An event of a tenant, or a delivery of one; then `delivery_id` and `route_name` are not None. `at` is when the
    event was recorded, or when it happened.
    """

    tenant: str
    event_id: str
    at: datetime
    delivery_id: str | None = None
    route_name: str | None = None


def problem(text: str) -> str | None:
    """Why nothing can have this id, None if something may."""
    if 0 < len(text) <= MAX_CHARACTERS and "\0" not in text:
        return None
    return f"must be the id of an event or a delivery, of at most {MAX_CHARACTERS} characters"


async def find(database: Database, index: RouteIndex, text: str) -> list[Whereabouts]:
    """What has this id, deliveries first; at most MAX_FOUND events."""
    if problem(text) is not None:
        return []
    owners = await listing.owners(database, text, most=MAX_FOUND)
    events = [Whereabouts(tenant=each.tenant, event_id=text, at=each.recorded_at) for each in owners]
    return [*await _deliveries(database, index, text), *events]


async def _deliveries(database: Database, index: RouteIndex, text: str) -> list[Whereabouts]:
    try:
        delivery_id = str(UUID(text))
    except ValueError:
        return []
    found = []
    for pair in await attempts.by_key(database, None, answer.delivery_key(delivery_id)):
        timeline = index.timeline(pair.route_id)
        if timeline is None or answer.delivery_id(pair.route_id, pair.event_id, pair.event_time) != delivery_id:
            continue
        route = timeline.current
        found.append(
            Whereabouts(
                tenant=route.tenant,
                event_id=pair.event_id,
                at=pair.event_time,
                delivery_id=delivery_id,
                route_name=route.config.name,
            )
        )
    return found
