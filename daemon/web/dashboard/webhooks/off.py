"""The times in which a webhook was off: when the last one was, and how many events it missed then."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from daemon.core.route import Route, Status
from eventstore import skipped
from eventstore.connect import Database
from eventstore.skipped import Skipped

_FOR_EVER = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Off:
    """`until` is None while it lasts. `missed` are events of the types that the webhook has now; of one with a filter
    it is not known which of them would have passed.
    """

    since: datetime
    until: datetime | None
    missed: Skipped


async def last(database: Database, route: Route) -> Off | None:
    """The time since the webhook was disabled, or else that before it was last enabled; None if it was never off."""
    period = _last_period(route)
    if period is None:
        return None
    since, until = period
    missed = await skipped.count(
        database, route.tenant, route.config.event_types, since=since, until=until or _FOR_EVER
    )
    return Off(since=since, until=until, missed=missed)


def _last_period(route: Route) -> tuple[datetime, datetime | None] | None:
    """From its creation on a webhook can be off."""
    windows = route.windows
    if route.status is Status.DISABLED:
        return (windows[-1].end if windows else None) or route.created_at, None
    if route.status is Status.DELETED or windows[0].start == windows[-1].start == route.created_at:
        return None
    before = windows[-2].end if len(windows) > 1 else None
    return before or route.created_at, windows[-1].start
