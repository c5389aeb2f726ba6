"""The operator's view: one look that says whether webhooks go out, and if not, where they are stuck."""

from __future__ import annotations

from collections import Counter

from aiohttp import web

from daemon import __version__
from daemon.web import health, shapes
from daemon.web.api import status_shapes
from daemon.web.api.status_shapes import StatusShape
from daemon.web.endpoints import Access, endpoint
from daemon.web.services import SERVICES
from eventstore import status


@endpoint(Access.OPERATIONS, answers={200: StatusShape})
async def show(request: web.Request) -> web.Response:
    """Processes, shards, backlog and logs; `warnings` says in sentences what needs a person, empty if nothing does."""
    services = request.app[SERVICES]
    found = await status.read(services.database)
    statuses = Counter(route.status.value for route in services.index.routes())
    shown: StatusShape = {
        "at": shapes.moment(found.log.at),
        "version": __version__,
        "warnings": list(health.warnings(found)),
        "processes": [status_shapes.of_process(found, process) for process in found.processes],
        "shards": [status_shapes.of_shard(shard) for shard in found.shards],
        "backlog": status_shapes.of_backlog(found),
        "tick": {
            "number": found.log.tick,
            "at": shapes.moment(found.log.tick_at),
            "route_pos": found.log.tick_route_pos,
        },
        "routes": {
            "enabled": statuses["enabled"],
            "disabled": statuses["disabled"],
            "position": found.log.route_pos,
            "applied": services.index.position,
        },
    }
    return shapes.answer(shown)
