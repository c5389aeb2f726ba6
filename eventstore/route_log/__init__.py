"""The route log: the lifecycle events of routes, in order, append-only and chained by hashes."""

from eventstore.route_log.log import (
    PAGE_ROWS,
    NewRouteEvent,
    RouteCount,
    RouteEvent,
    append,
    by_request,
    count_routes,
    hashes,
    history,
    last_position,
    newest,
    of_version,
    of_versions,
    page,
    read,
    read_page,
)

__all__ = [
    "PAGE_ROWS",
    "NewRouteEvent",
    "RouteCount",
    "RouteEvent",
    "append",
    "by_request",
    "count_routes",
    "hashes",
    "history",
    "last_position",
    "newest",
    "of_version",
    "of_versions",
    "page",
    "read",
    "read_page",
]
