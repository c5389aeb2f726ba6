"""The scans that find the deliveries of a list, in the order in which deliveries move between the tables.

The one thing to know: for a type there are two ways to the same deliveries, and each is slow where the other is quick.
One walks the events of the type, the other the deliveries of the tenant or route. Once many events were looked at and
the page is still not full, or no event of that time is kept, both are gone, and what got further counts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from uuid import UUID

from daemon.core.delivery.status import ListStatus
from daemon.core.routing.index import RouteIndex
from daemon.deliveries.scanning.merge import DeliveryScan
from daemon.deliveries.scanning.undecided import UndecidedReader
from daemon.expressions.judging import FilterPlaces
from eventstore.postgres.connect import Database
from eventstore.queries.deliveries import deliveries_of_type, delivery_log
from eventstore.queries.deliveries.delivery_log import BOTTOM, ListPosition, ListScope, Stretch

# An event may go to all routes of its type, and fewer events are looked at if there are many. But filters and statuses
# leave some out, and a second stretch costs more than a long first one: so half of the routes count, up to this.
_MAX_DELIVERIES_OF_EVENT = 8
# The second way is tried once a stretch has so many rows, and so hundreds of events were looked at.
_BOTH_WAYS_ROWS = 1000
# A packed row has a few pairs, or hundreds. The number of rows to read is computed as if each had this many.
_PAIRS_OF_ROW = 5

_Reader = Callable[[Database, ListScope, ListPosition, int], Awaitable[Stretch]]


def stages(
    database: Database,
    index: RouteIndex,
    scope: ListScope,
    status: ListStatus | None,
    *,
    places: FilterPlaces | None = None,
) -> list[list[DeliveryScan]]:
    """The scans of all tables in which deliveries of the scope and status may be, none if no route ever subscribed to
    its type.

    `eventstore.queries.deliveries.delivery_log` says why the order matters.
    """
    ids: set[UUID] = set()
    if scope.event_type is not None:
        ids = {timeline.current.id for timeline in index.candidates(scope.tenant, scope.event_type)}
        ids &= ids if scope.route_id is None else {scope.route_id}
        if not ids:
            return []
        scope = replace(scope, route_id=min(ids)) if len(ids) == 1 else scope
    scan = partial(_scan, database, scope, len(ids))
    attempted = scan(
        walk=partial(delivery_log.attempted, outcome=status),
        walk_events=partial(deliveries_of_type.attempted, outcome=status, routes=sorted(ids)),
    )
    retrying = scan(walk=delivery_log.retrying, walk_events=deliveries_of_type.retrying)
    if status is ListStatus.RETRYING:
        return [[retrying]]
    if status not in (None, ListStatus.PENDING):
        return [[attempted]]
    return [
        [UndecidedReader(database, index, scope, places).read],
        [scan(walk=_parked, walk_events=deliveries_of_type.parked)],
        [retrying],
        *([[attempted]] if status is None else []),
    ]


def _scan(
    database: Database, scope: ListScope, routes_of_type: int, *, walk: _Reader, walk_events: _Reader
) -> DeliveryScan:
    """The scan of one table, by the ways there are. `routes_of_type` routes of the scope may get its type."""
    if scope.event_type is None:
        return partial(walk, database, scope)
    deliveries_of_event = min(max(1, routes_of_type // 2), _MAX_DELIVERIES_OF_EVENT)

    async def further(begin: ListPosition, rows: int) -> Stretch:
        # `rows` counts two for each delivery.
        of_events = await walk_events(database, scope, begin, max(2, rows // 2 // deliveries_of_event))
        has_begun = of_events.down_to is None or of_events.down_to < begin
        if has_begun and (of_events.down_to is None or rows < _BOTH_WAYS_ROWS):
            return of_events
        walked = await walk(database, scope, begin, rows)
        return min(of_events, walked, key=lambda stretch: stretch.down_to or BOTTOM)

    return further


async def _parked(database: Database, scope: ListScope, begin: ListPosition, rows: int) -> Stretch:
    return await delivery_log.parked(database, scope, begin, rows, packed=max(2, rows // _PAIRS_OF_ROW))
