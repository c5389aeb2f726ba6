"""What may be sent again: nothing but what happened in the window that is open now (design.md §2.4).

To say it before a request is put in line saves whoever asks from waiting for what the gate would suppress.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from daemon.core.routing import windows
from daemon.core.routing.route import Route, RouteStatus


@dataclass(frozen=True, slots=True)
class ResendRefused:
    """Why not, as a sentence without a full stop."""

    reason: str


def delivery(route: Route, event_time: datetime) -> ResendRefused | None:
    """Why what happened at that time is not sent to the route again; None if it may be."""
    closed = _closed(route)
    if closed is not None:
        return closed
    if windows.is_sendable(route.windows, event_time):
        return None
    enabled = _moment(route.windows[-1].start)
    held = windows.find(route.windows, event_time)
    if held is None or held.end is None:
        return ResendRefused(
            f"the route was disabled when it happened, {_moment(event_time)}, until {enabled}: what happened then is "
            "never sent"
        )
    return ResendRefused(
        f"the route was disabled at {_moment(held.end)}, after it happened, and enabled again at {enabled}: what "
        "happened before is never sent"
    )


def period(route: Route, *, since: datetime, until: datetime, kept_from: datetime | None) -> datetime | ResendRefused:
    """From when on what happened in [since, until) may be sent again, if any of it may be.

    `kept_from` is where the events begin that are still kept, None if all are.
    """
    closed = _closed(route)
    if closed is not None:
        return closed
    enabled = route.windows[-1].start
    if until <= enabled:
        return ResendRefused(
            f"nothing of this period can be sent: what happened before {_moment(enabled)}, when the route was enabled, "
            "is never sent"
        )
    if kept_from is not None and until <= kept_from:
        return ResendRefused(f"nothing of this period is kept any more: the events kept begin at {_moment(kept_from)}")
    return max(since, enabled, kept_from or enabled)


def _closed(route: Route) -> ResendRefused | None:
    match route.status:
        case RouteStatus.ENABLED:
            return None
        case RouteStatus.DISABLED:
            since = route.windows[-1].end if route.windows else None
            when = "never was enabled" if since is None else f"is disabled since {_moment(since)}"
            return ResendRefused(f"the route {when}: what happened until it is enabled is never sent")
        case RouteStatus.DELETED:
            return ResendRefused("the route was deleted: nothing is sent to it any more")


def _moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S.%f} UTC"
