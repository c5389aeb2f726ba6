"""The route log folded into routes: one route, or all of them, now or at an earlier time.

Every reader of the log folds it with the same `evolve` of the core: commands, the live projection, rebuilds and
explanations. `rebuild` also verifies the hash chain, and computes the digest by which projections are compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import orjson

from daemon.core.routing.index import RouteIndex
from daemon.core.routing.route import LifecycleEvent, LifecycleEventType, Route, config_to_body, evolve
from eventstore import route_log
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import ChainBroken
from eventstore.postgres.snapshot import Snapshot
from eventstore.route_log import chain
from eventstore.route_log.chain import Chain
from eventstore.route_log.log import RouteEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """The routes at log position `position`, and the `digest` of them."""

    position: int
    index: RouteIndex
    routes: tuple[Route, ...]
    state_sha256: str


class FoldedLog:
    """The routes of a log that is read from its beginning, and verified on the way; `catch_up` goes on to its end.

    Both ways to catch up raise ChainBroken: also for a log whose chain is whole, but whose events cannot follow each
    other.
    """

    def __init__(self) -> None:
        self.index = RouteIndex()
        self._chain = Chain()

    async def catch_up(self, database: Database) -> None:
        """Applies what stands in the log by now."""
        async for event in route_log.read(database, after=self._chain.pos):
            self._apply(event)

    async def catch_up_within(self, connection: Snapshot) -> None:
        """Applies what the snapshot of the connection shows."""
        is_more = True
        while is_more:
            page = await route_log.read_page(connection, after=self._chain.pos)
            for event in page:
                self._apply(event)
            is_more = len(page) == route_log.PAGE_ROWS

    def _apply(self, event: RouteEvent) -> None:
        self._chain.check(event)
        try:
            self.index.apply(lifecycle(event))
        except (ValueError, TypeError, LookupError) as error:
            raise ChainBroken(f"position {event.pos} cannot have been written: {error}", pos=event.pos) from error


def lifecycle(event: RouteEvent) -> LifecycleEvent:
    """A row of the log as a lifecycle event."""
    return LifecycleEvent(
        pos=event.pos,
        route_id=event.route_id,
        tenant=event.tenant,
        version=event.version,
        type=LifecycleEventType(event.type),
        effective_at=event.effective_at,
        body=orjson.loads(event.body),
    )


async def route(database: Database, route_id: UUID, *, known: Route | None = None) -> Route | None:
    """The present state of one route, from the log. Deleted routes are returned, too.

    `known` is an earlier state of it, from which the fold goes on: a history may be long.
    """
    folded = known
    after_version = 0 if known is None else known.version
    for event in await route_log.history(database, route_id, after_version=after_version):
        folded = evolve(folded, lifecycle(event))
    return folded


async def index(
    database: Database, *, as_of: datetime | None = None, tenant: str | None = None, verify: bool = False
) -> RouteIndex:
    """All routes, folded from the beginning of the log up to `as_of` (inclusive), or to its end.

    With `verify` it raises ChainBroken if the log is not what was written. The hash chain links the events of all
    tenants, so the events of one tenant cannot be verified alone.
    """
    folded = RouteIndex()
    events: AsyncIterator[RouteEvent] = route_log.read(database, tenant=tenant)
    if verify:
        events = chain.verified(events)
    async for event in events:
        # With `verify` the rest of the log is read, too: the chain is verified as a whole.
        if as_of is None or event.effective_at <= as_of:
            folded.apply(lifecycle(event))
        elif not verify:
            break
    return folded


async def rebuild(database: Database, *, as_of: datetime | None = None, tenant: str | None = None) -> Rebuilt:
    """Folds the route log from its beginning and verifies its chain. Raises ChainBroken.

    With `tenant` the result has the routes of that tenant only; the chain of all tenants is verified.
    """
    folded = await index(database, as_of=as_of, verify=True)
    routes = tuple(folded.routes(tenant))
    return Rebuilt(position=folded.position, index=folded, routes=routes, state_sha256=digest(routes))


def state(routes: Iterable[Route]) -> list[dict[str, object]]:
    """The routes as plain JSON values, ordered by id. `rebuild` prints it, the digest covers it. It has no secrets."""
    return [
        {
            "id": str(item.id),
            "tenant": item.tenant,
            "status": item.status.value,
            "version": item.version,
            "pos": item.pos,
            "config": config_to_body(item.config),
            "windows": [[w.start.isoformat(), None if w.end is None else w.end.isoformat()] for w in item.windows],
            "keys": [
                [
                    *(k.id, k.fingerprint, None if k.valid_until is None else k.valid_until.isoformat()),
                    *([] if k.is_standard else ["text"]),
                ]
                for k in item.keys
            ],
            "created_at": item.created_at.isoformat(),
            "updated_at": item.updated_at.isoformat(),
        }
        for item in sorted(routes, key=lambda each: each.id.bytes)
    ]


def digest(routes: Iterable[Route]) -> str:
    """SHA-256 of the canonical JSON of `state`, in hexadecimal. Two projections are equal if their digests are."""
    return hashlib.sha256(orjson.dumps(state(routes), option=orjson.OPT_SORT_KEYS)).hexdigest()
