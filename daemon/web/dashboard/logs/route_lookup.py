"""A webhook as people name it: by its id, by its name, or by a part of that."""

from __future__ import annotations

from itertools import islice
from uuid import UUID

from daemon.core.routing.index import RouteIndex, Timeline
from daemon.core.routing.route import Route, RouteStatus

# With more webhooks than that one types a name.
MAX_CHOICES = 200
MAX_MATCHES = 10


def routes(index: RouteIndex, tenant: str, text: str) -> tuple[Route, ...]:
    """The webhook of a tenant with that id or that very name, be it deleted; else some that have it in their names."""
    if not text:
        return ()
    if (timeline := _by_id(index, text)) is not None:
        return (timeline.current,) if timeline.current.tenant == tenant else ()
    wanted = text.casefold()
    near = [route for route in index.routes(tenant) if wanted in route.config.name.casefold()]
    exact = [route for route in near if route.config.name.casefold() == wanted]
    return tuple(islice(exact or near, MAX_MATCHES))


def choices(index: RouteIndex, tenant: str) -> list[Route] | None:
    """All webhooks to choose from, by name, deleted ones at the end; None if they are too many for that."""
    found = list(islice(index.routes(tenant), MAX_CHOICES + 1))
    if len(found) > MAX_CHOICES:
        return None
    return sorted(found, key=lambda route: (route.status is RouteStatus.DELETED, route.config.name.casefold()))


def _by_id(index: RouteIndex, text: str) -> Timeline | None:
    try:
        return index.timeline(UUID(text))
    except ValueError:
        return None
