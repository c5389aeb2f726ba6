"""A delivery by its id. That is a hash of route and event and leads to neither, so it is looked for.

What was tried has the beginning of its id in the outcome log, under an index. Else it waits, or it ended without a
request: then it is among what the lists of these have. Whoever names the event spares us the search.
"""

from __future__ import annotations

import time
from uuid import UUID

from daemon.core.delivery import delivery_id, key_of
from daemon.core.index import RouteIndex
from daemon.core.standing import Standing
from daemon.deliveries.listing import Filter, page
from eventstore import event_log, outcomes
from eventstore.connect import Database
from eventstore.delivery_log import Found
from eventstore.outcomes import Pair

# Pending ones first: they are the most recent, nearly always.
_WITHOUT_REQUEST = (Standing.PENDING, Standing.SUPPRESSED, Standing.EXPIRED)
SEARCH_SECONDS = 0.5


class SearchUnfinished(Exception):
    """So much waits, or ended without a request, that the delivery was not found in time."""


async def find(
    database: Database, index: RouteIndex, tenant: str, wanted: UUID, *, event_id: str | None = None
) -> Pair | None:
    """The pair that an id stands for, by its event or by its requests, which may be kept longer; None if there is none,
    or if it must be searched for. Of several events with that id it is the newest.
    """
    found = None if event_id is None else await _by_event(database, index, tenant, wanted, event_id)
    if found is not None:
        return found
    for pair in await outcomes.by_key(database, tenant, key_of(wanted)):
        if delivery_id(pair.route_id, pair.event_id) == str(wanted) and event_id in (None, pair.event_id):
            return pair
    return None


async def search(database: Database, index: RouteIndex, tenant: str, wanted: UUID) -> Pair | None:
    """The same among what no request was made of: that takes long, the more so the more waits.

    Raises SearchUnfinished.
    """
    ends_at = time.monotonic() + SEARCH_SECONDS
    for standing in _WITHOUT_REQUEST:
        among = Filter(tenant=tenant, standing=standing)
        found = await _among(database, index, among, wanted, seconds=ends_at - time.monotonic())
        if found is not None:
            return _pair(found)
    return None


async def _by_event(database: Database, index: RouteIndex, tenant: str, wanted: UUID, event_id: str) -> Pair | None:
    """By the event's id; whether the route was due it is for others to say."""
    for event in await event_log.named(database, tenant, event_id):
        for timeline in index.candidates(tenant, event.type):
            route_id = timeline.current.id
            if delivery_id(route_id, event_id) == str(wanted):
                return Pair(seq=event.seq, route_id=route_id, event_id=event_id, event_time=event.event_time)
    return None


async def _among(database: Database, index: RouteIndex, among: Filter, wanted: UUID, *, seconds: float) -> Found | None:
    def is_it(found: Found) -> bool:
        return delivery_id(found.place.route_id, found.event_id) == str(wanted)

    found = await page(database, index, among, begin=None, limit=1, seconds=seconds, matches=is_it)
    if found.items:
        return found.items[0].found
    if found.next is not None:
        raise SearchUnfinished
    return None


def _pair(found: Found) -> Pair:
    place = found.place
    return Pair(seq=place.seq, route_id=place.route_id, event_id=found.event_id, event_time=place.event_time)
