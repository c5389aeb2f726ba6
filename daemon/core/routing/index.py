"""Timelines of routes, and the index by which an event finds the few that may want it.

`as of t` must work for any t in the past, so a `Timeline` keeps each state a route ever had, and the index leads to
every route that *ever* carried a matching pattern: tenant → exact type, group or all. What it yields is a superset; the
decision then looks at the state as of t. So the cost of an event follows its matches and not the number of routes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from uuid import UUID

from daemon.core.routing.route import LifecycleEvent, Route, evolve

ALL = "*"

# Pairs of tenant and type whose candidates are remembered; a producer may invent types without end.
MEMO_ENTRIES = 10_000


class Timeline:
    """All states of one route in order of their `effective_at`. Grows only at the end."""

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
        """The state at `at`, None before the route was created. The same microsecond as a change: after the change."""
        if self._since[-1] <= at:
            return self.current
        place = bisect_right(self._since, at) - 1
        return self._states[place] if place >= 0 else None

    def of_version(self, version: int) -> Route | None:
        """The state of that version, None if there is none."""
        return self._states[version - 1] if 1 <= version <= len(self._states) else None


class RouteIndex:
    """All routes of a projection. Fed by `apply` in log order; `position` is the last event applied."""

    def __init__(self) -> None:
        self.position = 0
        self._timelines: dict[UUID, Timeline] = {}
        self._by_tenant: dict[str, list[Timeline]] = {}
        self._by_pattern: dict[str, dict[str, dict[UUID, Timeline]]] = {}
        self._found: dict[tuple[str, str], tuple[Timeline, ...]] = {}

    def apply(self, event: LifecycleEvent) -> Route:
        """Folds one event in. Raises BrokenHistory for one that cannot follow."""
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
            listed = patterns.setdefault(pattern, {})
            if route.id not in listed:
                listed[route.id] = timeline
                self._found.clear()
        self.position = event.pos
        return route

    def candidates(self, tenant: str, event_type: str) -> tuple[Timeline, ...]:
        """The timelines of routes of that tenant that subscribe, or once subscribed, to the type."""
        key = (tenant, event_type)
        found = self._found.get(key)
        if found is None:
            patterns = self._by_pattern.get(tenant, {})
            unique: dict[UUID, Timeline] = {}
            for pattern in patterns_of(event_type):
                unique.update(patterns.get(pattern, {}))
            if len(self._found) >= MEMO_ENTRIES:
                self._found.clear()
            found = self._found[key] = tuple(unique.values())
        return found

    def timeline(self, route_id: UUID) -> Timeline | None:
        """The timeline of one route, also of a deleted one."""
        return self._timelines.get(route_id)

    def timelines(self, tenant: str | None = None) -> Iterator[Timeline]:
        """Every timeline, or those of one tenant, in order of creation."""
        return iter(self._timelines.values() if tenant is None else self._by_tenant.get(tenant, ()))

    def created_after(self, tenant: str, at: datetime) -> Iterator[Timeline]:
        """Of a tenant's timelines, in order of creation, those that begin later than `at`."""
        timelines = self._by_tenant.get(tenant, [])
        begin = bisect_right(timelines, at, key=lambda timeline: timeline.current.created_at)
        return islice(timelines, begin, None)

    def tenants(self) -> list[str]:
        """Every tenant that has, or had, a route, in order."""
        return sorted(self._by_tenant)

    def routes(self, tenant: str | None = None) -> Iterator[Route]:
        """The present state of every route, deleted ones too."""
        return (timeline.current for timeline in self.timelines(tenant))


def patterns_of(event_type: str) -> tuple[str, str, str]:
    """The three patterns that match a type: itself, its group's `group.*`, and `*`."""
    return event_type, f"{event_type.partition('.')[0]}.*", ALL
