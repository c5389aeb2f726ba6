"""Timelines of routes, and the index that finds the candidates for an event.

`as_of(t)` must work for any past t, so a `Timeline` keeps every state of its route. The index leads from a tenant and
an exact type, a group or `*` to every route that *ever* had that pattern. The candidates are therefore a superset, and
the decision looks at the state as of t. So the cost of an event grows with its matches, not with the number of routes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from uuid import UUID

from daemon.core.routing.route import LifecycleEvent, Route, evolve

ALL = "*"

# How many pairs of tenant and type have their candidates cached; a producer may use any number of types.
MEMO_ENTRIES = 10_000


class Timeline:
    """All states of one route in order of their `effective_at`; states are only appended."""

    __slots__ = ("_since", "_states", "current")

    def __init__(self, first: Route) -> None:
        self.current = first
        self._since = [first.updated_at]
        self._states = [first]

    def extend(self, route: Route) -> None:
        """Appends the next state."""
        self.current = route
        self._since.append(route.updated_at)
        self._states.append(route)

    def as_of(self, at: datetime) -> Route | None:
        """The state at `at`, None before the route was created. A change holds from its own microsecond on."""
        if self._since[-1] <= at:
            return self.current
        last = bisect_right(self._since, at) - 1
        return self._states[last] if last >= 0 else None

    def of_version(self, version: int) -> Route | None:
        """The state of that version, None if there is none."""
        return self._states[version - 1] if 1 <= version <= len(self._states) else None


class RouteIndex:
    """All routes of a projection. `apply` takes the events in log order; `position` is that of the last one."""

    def __init__(self) -> None:
        self.position = 0
        self._timelines: dict[UUID, Timeline] = {}
        self._by_tenant: dict[str, list[Timeline]] = {}
        self._by_pattern: dict[str, dict[str, dict[UUID, Timeline]]] = {}
        self._candidates: dict[tuple[str, str], tuple[Timeline, ...]] = {}

    def apply(self, event: LifecycleEvent) -> Route:
        """Applies one event and returns the new state. Raises BrokenHistory if the event cannot follow."""
        timeline = self._timelines.get(event.route_id)
        if timeline is None:
            route = evolve(None, event)
            timeline = self._timelines[event.route_id] = Timeline(route)
            self._by_tenant.setdefault(route.tenant, []).append(timeline)
        else:
            route = evolve(timeline.current, event)
            timeline.extend(route)
        patterns = self._by_pattern.setdefault(route.tenant, {})
        for pattern in route.config.event_types:
            routes = patterns.setdefault(pattern, {})
            if route.id not in routes:
                routes[route.id] = timeline
                self._candidates.clear()
        self.position = event.pos
        return route

    def candidates(self, tenant: str, event_type: str) -> tuple[Timeline, ...]:
        """The timelines of routes of that tenant that subscribe, or once subscribed, to the type."""
        key = (tenant, event_type)
        found = self._candidates.get(key)
        if found is None:
            patterns = self._by_pattern.get(tenant, {})
            unique: dict[UUID, Timeline] = {}
            for pattern in patterns_of(event_type):
                unique.update(patterns.get(pattern, {}))
            if len(self._candidates) >= MEMO_ENTRIES:
                self._candidates.clear()
            found = self._candidates[key] = tuple(unique.values())
        return found

    def timeline(self, route_id: UUID) -> Timeline | None:
        """The timeline of one route, which may be deleted; None if there is no such route."""
        return self._timelines.get(route_id)

    def timelines(self, tenant: str | None = None) -> Iterator[Timeline]:
        """Every timeline, or those of one tenant, in order of creation."""
        return iter(self._timelines.values() if tenant is None else self._by_tenant.get(tenant, ()))

    def created_after(self, tenant: str, at: datetime) -> Iterator[Timeline]:
        """The timelines of a tenant's routes that were created later than `at`, in order of creation."""
        timelines = self._by_tenant.get(tenant, [])
        begin = bisect_right(timelines, at, key=lambda timeline: timeline.current.created_at)
        return islice(timelines, begin, None)

    def tenants(self) -> list[str]:
        """Every tenant that has or had a route, sorted."""
        return sorted(self._by_tenant)

    def routes(self, tenant: str | None = None) -> Iterator[Route]:
        """The current state of every route, including deleted ones."""
        return (timeline.current for timeline in self.timelines(tenant))


def patterns_of(event_type: str) -> tuple[str, str, str]:
    """The three patterns that match a type: itself, its group's `group.*`, and `*`."""
    return event_type, f"{event_type.partition('.')[0]}.*", ALL
