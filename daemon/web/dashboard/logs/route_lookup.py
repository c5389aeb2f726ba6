"""Finds a webhook by what people enter: its id, its name, or a part of its name."""

from __future__ import annotations

from itertools import islice
from uuid import UUID

from daemon.core.routing.index import RouteIndex
from daemon.core.routing.route import Route, RouteStatus
from daemon.core.routing.timeline import Timeline

# With more webhooks the field is a text field instead of a list to choose from.
MAX_CHOICES = 200
MAX_MATCHES = 10


def routes(index: RouteIndex, tenant: str, text: str) -> tuple[Route, ...]:
    """The webhook of a tenant with that id, else those with exactly that name, else those with the text in their names;
    at most MAX_MATCHES. Deleted webhooks are found too.
    """
    if not text:
        return ()
    if (timeline := _by_id(index, text)) is not None:
        return (timeline.current,) if timeline.current.tenant == tenant else ()
    name = text.casefold()
    similar = [route for route in index.routes(tenant) if name in route.config.name.casefold()]
    exact = [route for route in similar if route.config.name.casefold() == name]
    return tuple(islice(exact or similar, MAX_MATCHES))


def choices(index: RouteIndex, tenant: str) -> list[Route] | None:
    """All webhooks to choose from, by name, deleted ones at the end; None if there are more than MAX_CHOICES."""
    routes = list(islice(index.routes(tenant), MAX_CHOICES + 1))
    if len(routes) > MAX_CHOICES:
        return None
    return sorted(routes, key=lambda route: (route.status is RouteStatus.DELETED, route.config.name.casefold()))


def _by_id(index: RouteIndex, text: str) -> Timeline | None:
    try:
        return index.timeline(UUID(text))
    except ValueError:
        return None
