"""How the installation is doing: first what needs a person, then the numbers behind it."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

from aiohttp import web

from daemon import __version__
from daemon.core.routing.route import RouteStatus
from daemon.web.dashboard.pages import page, wants_part
from daemon.web.dashboard.rendering import render
from daemon.web.http.endpoints import Access
from daemon.web.http.services import SERVICES
from daemon.web.service import health
from eventstore.queries import status

# A bar is full at this lag, and the longest one if that is longer.
LEAST_SCALE_SECONDS = health.LAG_SECONDS


@page(Access.OPERATIONS)
async def show(request: web.Request) -> web.Response:
    """The page, or the figures alone for whoever looks at it all the time."""
    services = request.app[SERVICES]
    found = await status.read(services.database)
    return render(
        request,
        "operator/status_part.html" if wants_part(request) else "operator/status.html",
        found=found,
        warnings=list(health.warnings(found)),
        version=__version__,
        shards_of=Counter(shard.owner for shard in found.shards),
        counts=Counter(route.status for route in services.index.routes()),
        statuses=RouteStatus,
        applied=services.index.position,
        scale=max(LEAST_SCALE_SECONDS, found.lag_seconds),
        late_seconds=health.LAG_SECONDS,
        timedelta=timedelta,
    )
