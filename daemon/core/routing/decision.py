"""The decision: whether an event is delivered to a route, judged at event time (daemon/README.md, rule 3).

A pure function of the domain events and the route log. The live pipeline calls `eligible` for the routes to deliver to.
Explanations call `judge` for one route and the reason, audits `decide`. All use one rule, `_reason`, so they agree.

A test event is for one route only, `test_route`. Filters do not apply to it, because the sender of a test wants to see
a request.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from daemon.core.routing import windows
from daemon.core.routing.index import RouteIndex, patterns_of
from daemon.core.routing.route import Route, RouteStatus
from daemon.core.routing.timeline import RouteOutline, Timeline
from daemon.core.routing.windows import Window


class Decision(StrEnum):
    """DELIVER, or why not. The values are those of the API."""

    DELIVER = "deliver"
    NOT_SUBSCRIBED = "not_subscribed"
    FILTERED = "filtered"
    DISABLED = "disabled_at_event_time"
    BEFORE_CREATION = "before_creation"
    AFTER_DELETION = "after_deletion"
    BACKFILL = "backfill"


# Looking up a member of an Enum takes 40 ns.
_DELIVER, _ENABLED = Decision.DELIVER, RouteStatus.ENABLED

# Takes a filter's expression and returns whether the event passes.
FilterTest = Callable[[str], bool]

# Called with the reason for each route that does not receive the event.
SkipObserver = Callable[[Decision], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A decision with its grounds: the route as of the event, and the window that contains it, with its current end."""

    decision: Decision
    route: Route | None
    window: Window | None


def eligible(
    index: RouteIndex,
    *,
    tenant: str,
    event_type: str,
    at: datetime,
    backfill: bool,
    passes: FilterTest,
    on_skip: SkipObserver,
    test_route: UUID | None = None,
) -> list[Route]:
    """The routes, in their current state, that an event with event time `at` is delivered to.

    `on_skip` is called for the other routes that subscribe, or once subscribed, to the type. The rest is not examined.
    """
    patterns = patterns_of(event_type)
    candidates = index.candidates(tenant, event_type)
    if test_route is not None:
        candidates = tuple(timeline for timeline in candidates if timeline.current.id == test_route)
        passes = _accept_all
    chosen: list[Route] = []
    for timeline in candidates:
        decision = Decision.BACKFILL if backfill else _reason(timeline.outline(at), patterns, passes)
        if decision is _DELIVER:
            chosen.append(timeline.current)
        else:
            on_skip(decision)
    return chosen


def judge(
    timeline: Timeline,
    *,
    event_type: str,
    at: datetime,
    backfill: bool,
    passes: FilterTest,
    test_route: UUID | None = None,
) -> Judgement:
    """The decision for one route and an event with event time `at`, with its grounds."""
    decision = decide(timeline, patterns_of(event_type), at=at, backfill=backfill, passes=passes, test_route=test_route)
    window = windows.find(timeline.current.windows, at)
    return Judgement(decision=decision, route=timeline.as_of(at), window=window)


def decide(
    timeline: Timeline,
    patterns: tuple[str, ...],
    *,
    at: datetime,
    backfill: bool,
    passes: FilterTest,
    test_route: UUID | None = None,
) -> Decision:
    """The decision of `judge` alone, which costs less. `patterns` are those of the event's type."""
    if backfill:
        return Decision.BACKFILL
    if test_route is not None:
        if test_route != timeline.current.id:
            return Decision.NOT_SUBSCRIBED
        passes = _accept_all
    return _reason(timeline.outline(at), patterns, passes)


def _accept_all(_expression: str) -> bool:
    return True


def _reason(route: Route | RouteOutline | None, patterns: tuple[str, ...], passes: FilterTest) -> Decision:
    if route is None:
        return Decision.BEFORE_CREATION
    if route.status is not _ENABLED:
        return Decision.AFTER_DELETION if route.status is RouteStatus.DELETED else Decision.DISABLED
    subscribed = route.config.event_types
    for pattern in patterns:
        if pattern in subscribed:
            break
    else:
        return Decision.NOT_SUBSCRIBED
    expression = route.config.payload.filter
    if expression is not None and not passes(expression):
        return Decision.FILTERED
    return _DELIVER
