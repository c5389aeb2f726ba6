"""Which deliveries may be sent again: only those of events that happened in the window that is open now.

The send gate would suppress the others (daemon/README.md, rule 4). A refusal here tells the caller at once, before
anything is queued.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from daemon.core.routing import windows
from daemon.core.routing.route import Route, RouteStatus
from daemon.core.texts import moment


@dataclass(frozen=True, slots=True)
class ResendRefused:
    """Why nothing is sent again; `reason` is a sentence without a full stop."""

    reason: str


def delivery(route: Route, event_time: datetime) -> ResendRefused | None:
    """Why an event of that time is not sent to the route again; None if it may be sent."""
    refused = _not_enabled(route)
    if refused is not None:
        return refused
    if windows.is_sendable(route.windows, event_time):
        return None
    enabled = moment(route.windows[-1].start)
    window = windows.find(route.windows, event_time)
    if window is None or window.end is None:
        return ResendRefused(
            f"the route was disabled when it happened, {moment(event_time)}, until {enabled}: what happened then is "
            "never sent"
        )
    return ResendRefused(
        f"the route was disabled at {moment(window.end)}, after it happened, and enabled again at {enabled}: what "
        "happened before is never sent"
    )


def period(route: Route, *, since: datetime, until: datetime, kept_from: datetime | None) -> datetime | ResendRefused:
    """From which event time on the events of [since, until) may be sent again, or why none of them may.

    `kept_from` is when the oldest event happened that retention keeps, None if all of the period are kept.
    """
    refused = _not_enabled(route)
    if refused is not None:
        return refused
    enabled = route.windows[-1].start
    if until <= enabled:
        return ResendRefused(
            f"nothing of this period can be sent: what happened before {moment(enabled)}, when the route was enabled, "
            "is never sent"
        )
    if kept_from is not None and until <= kept_from:
        return ResendRefused(f"nothing of this period is kept any more: the events kept begin at {moment(kept_from)}")
    return max(since, enabled, kept_from or enabled)


def _not_enabled(route: Route) -> ResendRefused | None:
    match route.status:
        case RouteStatus.ENABLED:
            return None
        case RouteStatus.DISABLED:
            since = route.windows[-1].end if route.windows else None
            when = "never was enabled" if since is None else f"is disabled since {moment(since)}"
            return ResendRefused(f"the route {when}: what happened until it is enabled is never sent")
        case RouteStatus.DELETED:
            return ResendRefused("the route was deleted: nothing is sent to it any more")
