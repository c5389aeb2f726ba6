"""The index that finds the candidates for an event among all routes.

It leads from a tenant and a pattern - an exact type, all below a prefix like `order.*`, or `*` - to every route that
*ever* had that pattern. A type has one pattern for each of its dots, and two more, so its candidates are a few lookups.
They are a superset, and the decision looks at the state as of the event. So the cost of an event grows with its
matches, not with the number of routes.

A route that ever had `*` is a candidate for everything, and needs no other place. One that has had more than
PATTERNS_PER_ROUTE patterns gets that place too: otherwise edits to types that nobody publishes would fill the memory of
every process.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache
from itertools import islice
from uuid import UUID

from daemon.core.routing.route import LifecycleEvent, Route, RouteStatus, config_bytes, evolve
from daemon.core.routing.timeline import Timeline

ALL = "*"

# Five times what a route may subscribe to at once.
PATTERNS_PER_ROUTE = 1000

# How many pairs of tenant and type have their candidates cached; a producer may use any number of types.
MEMO_ENTRIES = 10_000


class RouteIndex:
    """All routes of a projection. `apply` takes the events in log order; `position` is that of the last one."""

    def __init__(self) -> None:
        self.position = 0
        self._timelines: dict[UUID, Timeline] = {}
        self._by_tenant: dict[str, list[Timeline]] = {}
        self._by_pattern: dict[str, dict[str, dict[UUID, Timeline]]] = {}
        self._candidates: dict[tuple[str, str], tuple[Timeline, ...]] = {}
        self._statuses: Counter[RouteStatus] = Counter()
        self._statuses_of: dict[str, Counter[RouteStatus]] = {}
        self._config_bytes: Counter[str] = Counter()

    def apply(self, event: LifecycleEvent) -> Route:
        """Applies one event and returns the new state. Raises BrokenHistory if the event cannot follow."""
        timeline = self._timelines.get(event.route_id)
        before = None if timeline is None else timeline.current
        route = evolve(before, event)
        if timeline is None:
            timeline = self._timelines[event.route_id] = Timeline(route)
            self._by_tenant.setdefault(route.tenant, []).append(timeline)
        else:
            timeline.extend(route)
        if before is None or route.config is not before.config:
            self._subscribe(timeline)
            self._config_bytes[route.tenant] += config_bytes(route.config, None if before is None else before.config)
        if before is None or route.status is not before.status:
            self._count(route, before)
        self.position = event.pos
        return route

    def has(self, route: Route) -> bool:
        """True if this state of a route is or was one of those here."""
        timeline = self._timelines.get(route.id)
        found = None if timeline is None else timeline.of_version(route.version)
        return found is not None and found.pos == route.pos

    def replace(self, other: RouteIndex) -> None:
        """Becomes the same as `other`, which is not used afterwards."""
        self.__dict__.update(other.__dict__)

    def candidates(self, tenant: str, event_type: str) -> tuple[Timeline, ...]:
        """The timelines of routes of that tenant that subscribe, or once subscribed, to the type."""
        key = (tenant, event_type)
        found = self._candidates.get(key)
        if found is None:
            if len(self._candidates) >= MEMO_ENTRIES:
                self._candidates.clear()
            found = self._candidates[key] = _having(patterns_of(event_type), self._by_pattern.get(tenant, {}))
        return found

    def candidates_everywhere(self, event_type: str) -> Iterator[Timeline]:
        """The same of all tenants. It takes as long as there are tenants and candidates."""
        wanted = patterns_of(event_type)
        for patterns in self._by_pattern.values():
            yield from _having(wanted, patterns)

    def timeline(self, route_id: UUID) -> Timeline | None:
        """The timeline of one route, which may be deleted; None if there is no such route."""
        return self._timelines.get(route_id)

    def route(self, route_id: UUID) -> Route | None:
        """The current state of one route, which may be deleted; None if there is no such route."""
        timeline = self._timelines.get(route_id)
        return None if timeline is None else timeline.current

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

    def statuses(self, tenant: str | None = None) -> Counter[RouteStatus]:
        """How many routes are in each status now, of all tenants or of one. It is only to be read."""
        return self._statuses if tenant is None else self._statuses_of.get(tenant, Counter())

    def config_bytes(self, tenant: str) -> int:
        """About how many bytes are taken by all configurations that the tenant's routes have had."""
        return self._config_bytes[tenant]

    def _count(self, route: Route, before: Route | None) -> None:
        for counts in (self._statuses, self._statuses_of.setdefault(route.tenant, Counter())):
            counts[route.status] += 1
            if before is not None:
                counts[before.status] -= 1

    def _subscribe(self, timeline: Timeline) -> None:
        """Gives the route a place under each pattern that it has now."""
        route = timeline.current
        patterns = self._by_pattern.setdefault(route.tenant, {})
        for pattern in route.config.event_types:
            if route.id in patterns.get(ALL, {}):
                return
            if route.id not in patterns.get(pattern, {}):
                self._candidates.clear()
                timeline.patterns += 1
                is_general = pattern == ALL or timeline.patterns > PATTERNS_PER_ROUTE
                if is_general and timeline.patterns > 1:
                    _unsubscribe(patterns, route.id)
                patterns.setdefault(ALL if is_general else pattern, {})[route.id] = timeline


@lru_cache(MEMO_ENTRIES)
def patterns_of(event_type: str) -> tuple[str, ...]:
    """The patterns that match a type: itself, then from its group on each `prefix.*`, and `*`.

    Of `a.b.c`: `a.b.c`, `a.*`, `a.b.*`, `*`.
    """
    dots = (place for place, letter in enumerate(event_type) if letter == ".")
    return event_type, *(f"{event_type[:place]}.*" for place in dots), ALL


def wider_patterns(pattern: str) -> tuple[str, ...]:
    """The patterns but `*` that cover all that this one matches. Of `a.b.*`, and of `a.b`: `a.*`."""
    return tuple(wider for wider in patterns_of(pattern)[1:-1] if wider != pattern)


def _having(wanted: tuple[str, ...], patterns: dict[str, dict[UUID, Timeline]]) -> tuple[Timeline, ...]:
    """The timelines that have one of the wanted patterns, each once."""
    unique: dict[UUID, Timeline] = {}
    for pattern in wanted:
        unique.update(patterns.get(pattern, {}))
    return tuple(unique.values())


def _unsubscribe(patterns: dict[str, dict[UUID, Timeline]], route_id: UUID) -> None:
    """Takes a route away from every pattern, and forgets the patterns that nobody has then."""
    for pattern in [pattern for pattern, routes in patterns.items() if route_id in routes]:
        del patterns[pattern][route_id]
        if not patterns[pattern]:
            del patterns[pattern]
