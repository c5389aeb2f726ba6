"""The operator's view: one look that says whether webhooks go out, and if not, where they are stuck."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from aiohttp import web

from daemon import __version__
from daemon.web import shapes
from daemon.web.api import status_shapes
from daemon.web.api.status_shapes import StatusShape
from daemon.web.endpoints import Access, endpoint
from daemon.web.services import SERVICES
from eventstore import status
from eventstore.status import Status

# A shard so far behind does not keep up, or nobody reads it: a healthy one is behind by less than a second.
LAG_SECONDS = 10.0


@endpoint(Access.OPERATIONS, answers={200: StatusShape})
async def show(request: web.Request) -> web.Response:
    """Processes, shards, backlog and logs; `warnings` says in sentences what needs a person, empty if nothing does."""
    services = request.app[SERVICES]
    found = await status.read(services.database)
    statuses = Counter(route.status.value for route in services.index.routes())
    shown: StatusShape = {
        "at": shapes.moment(found.log.at),
        "version": __version__,
        "warnings": list(warnings(found)),
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


def warnings(found: Status) -> Iterator[str]:
    """What a person should look at, the worst first."""
    if orphans := [shard.shard for shard in found.shards if shard.owner is None]:
        yield f"nobody delivers for {_shards(orphans)}"
    for shard in found.shards:
        if shard.lag_seconds > LAG_SECONDS and shard.owner is not None:
            yield f"{_shards([shard.shard])} is {shard.lag_seconds:.0f} s behind"
    for process in found.processes:
        if not process.is_alive:
            yield f"process {process.pid} on {process.host} was last seen at {shapes.moment(process.seen_at)}"
    versions = sorted({process.version for process in found.processes if process.is_alive})
    if len(versions) > 1:
        yield f"processes of different versions are running: {', '.join(versions)}"


def _shards(numbers: list[int]) -> str:
    return f"shard{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"
