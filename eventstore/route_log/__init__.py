"""The route log: what happened to routes, in order, chained by hashes, and never changed."""

from eventstore.route_log.log import (
    PAGE_ROWS,
    NewRouteEvent,
    RouteEvent,
    append,
    by_request,
    history,
    last_position,
    newest,
    of_version,
    read,
)

__all__ = [
    "PAGE_ROWS",
    "NewRouteEvent",
    "RouteEvent",
    "append",
    "by_request",
    "history",
    "last_position",
    "newest",
    "of_version",
    "read",
]
