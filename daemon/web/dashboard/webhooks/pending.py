"""How many deliveries of a webhook wait, for whoever is about to end them: exactly, as long as they are few.

What is written down of those that wait is counted at once, but not exactly (eventstore/route_metrics.py), and without
what is in memory only. A list has each of them, and takes long if they are many.
"""

from __future__ import annotations

from dataclasses import dataclass

from daemon import deliveries
from daemon.core.index import RouteIndex
from daemon.core.route import Route
from daemon.core.standing import Standing
from daemon.deliveries import Filter
from eventstore import route_metrics
from eventstore.connect import Database

MAX_LISTED = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    number: int
    is_exact: bool


async def count(database: Database, index: RouteIndex, route: Route) -> Pending:
    """What waits for a route now."""
    wanted = Filter(tenant=route.tenant, route_id=route.id, standing=Standing.PENDING)
    listed = await deliveries.page(database, index, wanted, begin=None, limit=MAX_LISTED)
    if listed.next is None:
        return Pending(number=len(listed.items), is_exact=True)
    metrics = await route_metrics.read(database, route.id)
    return Pending(number=max(metrics.pending, len(listed.items)), is_exact=False)
