"""The present state of every route, and nothing of the past: what a rebuild of the route log ends with.

Its memory grows with the routes, not with their history. Decisions about events need the past too: RouteIndex has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from daemon.core.routing.route import LifecycleEvent, Route, evolve


class CurrentRoutes:
    """All routes of a log. `apply` takes the events in log order; `position` is that of the last one."""

    def __init__(self) -> None:
        self.position = 0
        self._routes: dict[UUID, Route] = {}

    def apply(self, event: LifecycleEvent) -> Route:
        """Applies one event and returns the new state. Raises BrokenHistory if the event cannot follow."""
        route = self._routes[event.route_id] = evolve(self._routes.get(event.route_id), event)
        self.position = event.pos
        return route

    def routes(self, tenant: str | None = None) -> Iterator[Route]:
        """The state of every route, or of those of one tenant, including deleted ones, in order of creation."""
        return (route for route in self._routes.values() if tenant in (None, route.tenant))
