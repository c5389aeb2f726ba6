"""One delivery tried again at once, as a request asks for it."""

from __future__ import annotations

from aiohttp import web

from daemon import replays
from daemon.commands import Context, NotFound
from daemon.web.delivery_path import named_pair
from daemon.web.services import SERVICES
from eventstore.outcomes import Pair
from eventstore.requeue import Requeued


async def retry_now(request: web.Request, pair: Pair, context: Context) -> Requeued:
    """Puts a delivery in line. Raises Conflict if it may not be sent, and NotFound if there is none."""
    services = request.app[SERVICES]
    timeline = services.index.timeline(pair.route_id)
    if timeline is None:
        raise NotFound("there is no such delivery")
    return await replays.retry_now(services.database, timeline, pair, context)


async def wanted(request: web.Request) -> Pair:
    """The pair that a path names, be it one that was skipped: then it is refused with the reason. Raises NotFound."""
    services = request.app[SERVICES]
    try:
        return await named_pair(request)
    except NotFound:
        skipped = await replays.skipped(
            services.database, services.index, request.match_info["tenant"], request.match_info["delivery"].lower()
        )
        if skipped is None:
            raise
        return skipped
