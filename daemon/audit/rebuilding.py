"""The routes, folded from nothing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from daemon import replay
from daemon.core.index import RouteIndex
from daemon.core.route import Route
from eventstore.connect import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """The routes as the log says they are (or were), and a digest to compare projections by."""

    position: int
    index: RouteIndex
    routes: tuple[Route, ...]
    state_sha256: str


async def rebuild(database: Database, *, as_of: datetime | None = None, tenant: str | None = None) -> Rebuilt:
    """Folds the route log from nothing, verifying its chain. Raises ChainBroken."""
    index = await replay.index(database, as_of=as_of, verify=True)
    routes = tuple(index.routes(tenant))
    return Rebuilt(position=index.position, index=index, routes=routes, state_sha256=replay.digest(routes))
