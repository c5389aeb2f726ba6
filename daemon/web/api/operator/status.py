"""The status of the installation: whether webhooks are delivered, and if not, where they are stuck.

All values are of the present moment, by the database's clock.
"""

from __future__ import annotations

from typing import Annotated

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from daemon import __version__
from daemon.core.routing.route import RouteStatus
from daemon.web.access.queries import query_database
from daemon.web.api.events.sources import SourcesShape, of_sources
from daemon.web.http import shapes
from daemon.web.http.endpoints import Access, endpoint
from daemon.web.http.services import SERVICES
from daemon.web.http.shapes import Moment, moment
from daemon.web.service.operator import status_warnings
from eventstore.queries.metrics import status
from eventstore.queries.metrics.status import InstallationStatus, ProcessState, ShardStatus

NonNegative = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(examples=[0.25])]
Owner = Annotated[str, Field(examples=["node-1:4711:5f2c9a"])]


class ProcessShape(TypedDict):
    """A daemon process. `is_alive`: it was seen within the validity of a lease."""

    owner: Owner
    host: Annotated[str, Field(examples=["node-1"])]
    pid: Annotated[int, Field(examples=[4711])]
    version: Annotated[str, Field(examples=["0.1.0"])]
    started_at: Moment
    seen_at: Moment
    is_alive: bool
    shards: list[int]


class ShardShape(TypedDict):
    """A shard of the tenants. `owner` is null if no process has a valid lease."""

    shard: NonNegative
    owner: Owner | None
    epoch: NonNegative
    expires_at: Moment | None
    checkpoint: NonNegative
    lag_seconds: Seconds
    retrying: NonNegative
    parked: NonNegative


class BacklogShape(TypedDict):
    """What waits. `unread`: events were published that no tick has read yet."""

    retrying: NonNegative
    parked: NonNegative
    oldest_seconds: Seconds
    checkpoint_lag_seconds: Seconds
    unread: bool


class TickShape(TypedDict):
    """The newest tick. `number` is 0 if there is none."""

    number: NonNegative
    at: Moment | None
    route_pos: int | None


class RouteCountShape(TypedDict):
    """Routes by status. `position` is the end of the route log; `applied` is how far this process has read it."""

    enabled: NonNegative
    disabled: NonNegative
    position: NonNegative
    applied: NonNegative


class ReportShape(TypedDict):
    """What the database tells of the installation."""

    at: Moment
    processes: list[ProcessShape]
    shards: list[ShardShape]
    backlog: BacklogShape
    tick: TickShape
    sources: SourcesShape


class StatusShape(ReportShape):
    """The state of the installation. `warnings` are sentences about what needs a person, empty if nothing does."""

    version: Annotated[str, Field(examples=["0.1.0"])]
    warnings: Annotated[list[str], Field(examples=[["nobody delivers for shard 3"]])]
    routes: RouteCountShape


@endpoint(Access.OPERATIONS, answers={200: StatusShape})
async def show(request: web.Request) -> web.Response:
    """Processes, shards, backlog and logs. `warnings` are sentences about what needs a person."""
    services = request.app[SERVICES]
    found = await status.read(query_database(request))
    statuses = services.index.statuses()
    body: StatusShape = {
        **of_report(found),
        "version": __version__,
        "warnings": status_warnings.of(found, services),
        "routes": {
            "enabled": statuses[RouteStatus.ENABLED],
            "disabled": statuses[RouteStatus.DISABLED],
            "position": found.log.route_pos,
            "applied": services.index.position,
        },
    }
    return shapes.answer(body)


def of_report(found: InstallationStatus) -> ReportShape:
    return {
        "at": moment(found.log.at),
        "processes": [_of_process(found, process) for process in found.processes],
        "shards": [_of_shard(shard) for shard in found.shards],
        "backlog": _of_backlog(found),
        "tick": {
            "number": found.log.tick,
            "at": moment(found.log.tick_at),
            "route_pos": found.log.tick_route_pos,
        },
        "sources": of_sources(found.sources),
    }


def _of_process(found: InstallationStatus, process: ProcessState) -> ProcessShape:
    return {
        "owner": process.owner,
        "host": process.host,
        "pid": process.pid,
        "version": process.version,
        "started_at": moment(process.started_at),
        "seen_at": moment(process.seen_at),
        "is_alive": process.is_alive,
        "shards": [shard.shard for shard in found.shards if shard.owner == process.owner],
    }


def _of_shard(shard: ShardStatus) -> ShardShape:
    return {
        "shard": shard.shard,
        "owner": shard.owner,
        "epoch": shard.epoch,
        "expires_at": moment(shard.expires_at),
        "checkpoint": shard.checkpoint,
        "lag_seconds": shard.lag_seconds,
        "retrying": shard.retrying,
        "parked": shard.parked,
    }


def _of_backlog(found: InstallationStatus) -> BacklogShape:
    return {
        "retrying": found.retrying,
        "parked": found.parked,
        "oldest_seconds": found.oldest_seconds,
        "checkpoint_lag_seconds": found.lag_seconds,
        "unread": found.log.is_unread,
    }
