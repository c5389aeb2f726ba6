"""The decision: what a pair of event and route deserves, judged at the moment of the event (design.md §2).

A pure function of the two logs. Live, `eligible` picks the routes to deliver to; afterwards `judge` says for one route
why, and the two agree by construction, since the first is written with the second's rule (`_reason`).

A test event is for one route only (`test_route`), and no filter holds it back: whoever asks for a test wants to see
a request.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from daemon.core.routing import windows
from daemon.core.routing.index import RouteIndex, Timeline, patterns_of
from daemon.core.routing.route import Route, RouteStatus
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


# Says whether a route's filter lets an event pass; given the expression.
FilterTest = Callable[[str], bool]

# Is told of each pair that is not delivered, with the reason.
Note = Callable[[Decision], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A decision with what it rests on: the route as of the event, and the window that held it, with its later end."""

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
    note: Note,
    test_route: UUID | None = None,
) -> list[Route]:
    """The routes, in their present state, to which an event of that time is delivered.

    `note` hears of the others that subscribe, or once subscribed, to its type; of the rest nothing is looked at.
    """
    patterns = patterns_of(event_type)
    candidates = index.candidates(tenant, event_type)
    if test_route is not None:
        candidates = tuple(timeline for timeline in candidates if timeline.current.id == test_route)
        passes = _everything
    chosen: list[Route] = []
    for timeline in candidates:
        decision = Decision.BACKFILL if backfill else _reason(timeline.as_of(at), patterns, passes)
        if decision is Decision.DELIVER:
            chosen.append(timeline.current)
        else:
            note(decision)
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
    """The decision for one route, with its grounds."""
    route = timeline.as_of(at)
    if backfill:
        decision = Decision.BACKFILL
    elif test_route is None:
        decision = _reason(route, patterns_of(event_type), passes)
    elif test_route == timeline.current.id:
        decision = _reason(route, patterns_of(event_type), _everything)
    else:
        decision = Decision.NOT_SUBSCRIBED
    window = windows.find(timeline.current.windows, at)
    return Judgement(decision=decision, route=route, window=window)


def _everything(_expression: str) -> bool:
    return True


def _reason(route: Route | None, patterns: tuple[str, str, str], passes: FilterTest) -> Decision:
    if route is None:
        return Decision.BEFORE_CREATION
    if route.status is not RouteStatus.ENABLED:
        return Decision.AFTER_DELETION if route.status is RouteStatus.DELETED else Decision.DISABLED
    subscribed = route.config.event_types
    if not (patterns[0] in subscribed or patterns[1] in subscribed or patterns[2] in subscribed):
        return Decision.NOT_SUBSCRIBED
    expression = route.config.payload.filter
    if expression is not None and not passes(expression):
        return Decision.FILTERED
    return Decision.DELIVER
