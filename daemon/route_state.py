"""The route log folded into routes: one route, or all of them, now or at an earlier time.

Every reader of the log folds it with the same `evolve` of the core: commands, the live projection, rebuilds and
explanations. A row that no command can have written raises ChainBroken for every reader. `rebuild` also verifies the
hash chain, and computes the digest by which projections are compared.
"""

from __future__ import annotations

import gc
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Protocol, TypeVar
from uuid import UUID

import orjson

from daemon.core.routing.current import CurrentRoutes
from daemon.core.routing.index import RouteIndex
from daemon.core.routing.route import (
    BrokenHistory,
    LifecycleEvent,
    LifecycleEventType,
    Route,
    config_to_body,
    evolve,
)
from eventstore import route_log
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import ChainBroken
from eventstore.postgres.snapshot import Snapshot
from eventstore.route_log.chain import Chain
from eventstore.route_log.log import RouteEvent

# Ten times as quick as to call the enum, which raises ValueError for what is none of them.
_TYPES: Mapping[str, LifecycleEventType] = {each.value: each for each in LifecycleEventType}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """The routes at log position `position`, whose hash is `head`, and the `digest` of them.

    `end` is the last position of the log, and `hash_at` the hash at the position that was asked for. `state_json` is
    what the digest covers.
    """

    position: int
    head: bytes
    end: int
    hash_at: bytes | None
    routes: tuple[Route, ...]
    state_json: bytes
    state_sha256: str


class RouteFold(Protocol):
    """What events are applied to: RouteIndex, which has the past of each route too, or CurrentRoutes."""

    @property
    def position(self) -> int: ...

    def apply(self, event: LifecycleEvent) -> Route: ...

    def routes(self, tenant: str | None = None) -> Iterator[Route]: ...


_Fold = TypeVar("_Fold", bound=RouteFold)


class FoldedLog(Generic[_Fold]):
    """The routes of a log that is read from its beginning, and verified on the way; `catch_up` goes on to its end.

    `index` is what the events are applied to, empty at first. With `as_of` what took effect later is verified and not
    applied. `head` is the hash of the last event that was applied, and `hash_at` that of position `marked`, None if the
    log has not come so far. Both ways to catch up raise ChainBroken: also for a log whose chain is whole, but whose
    events cannot follow each other.
    """

    def __init__(self, index: _Fold, *, as_of: datetime | None = None, marked: int | None = None) -> None:
        self.index = index
        self.head = b""
        self.hash_at: bytes | None = None
        self._as_of = as_of
        self._marked = marked
        self._chain = Chain()

    @property
    def end(self) -> int:
        """The last position that was read."""
        return self._chain.pos

    async def catch_up(self, database: Database, *, upto: int | None = None) -> None:
        """Applies what stands in the log by now, or what of it stands up to a position."""
        async with aclosing(route_log.read_ahead(database, after=self._chain.pos)) as read:
            async for events in read:
                for event in events:
                    if upto is not None and event.pos > upto:
                        return
                    self._apply(event)

    async def catch_up_within(self, connection: Snapshot) -> None:
        """Applies what the snapshot of the connection shows."""
        while page := await route_log.read_page(connection, after=self._chain.pos):
            for event in page:
                self._apply(event)

    def rebuilt(self, *, tenant: str | None = None) -> Rebuilt:
        """The routes, or those of a tenant, with their digest."""
        routes = tuple(self.index.routes(tenant))
        state_json = _canonical(routes)
        return Rebuilt(
            position=self.index.position,
            head=self.head,
            end=self.end,
            hash_at=self.hash_at,
            routes=routes,
            state_json=state_json,
            state_sha256=_sha256(state_json),
        )

    def _apply(self, event: RouteEvent) -> None:
        self._chain.check(event)
        if event.pos == self._marked:
            self.hash_at = event.hash
        if self._as_of is not None and event.effective_at > self._as_of:
            return
        apply(self.index, event)
        self.head = event.hash


def collect_seldom() -> None:
    """Has the garbage collector of a process that folds a log, and does nothing else yet, look less often.

    It looks through all that is new after each 700 objects, and routes have no cycles to be found. Measured: a seventh
    of the CPU time of a rebuild.
    """
    gc.set_threshold(50_000, 20, 20)


def apply(index: RouteFold, event: RouteEvent) -> tuple[Route, LifecycleEvent]:
    """Applies a row of the log; returns the changed route and the event. Raises ChainBroken if it cannot follow."""
    lifecycle = _lifecycle(event)
    try:
        return index.apply(lifecycle), lifecycle
    except BrokenHistory as error:
        raise _impossible(event, error) from error


def following(route: Route | None, event: RouteEvent) -> Route:
    """The route after a row of the log. Raises ChainBroken if the row cannot follow."""
    try:
        return evolve(route, _lifecycle(event))
    except BrokenHistory as error:
        raise _impossible(event, error) from error


async def route(database: Database, route_id: UUID, *, known: Route | None = None) -> Route | None:
    """The present state of one route, from the log. Deleted routes are returned, too. Raises ChainBroken.

    `known` is an earlier state of it, from which the fold goes on: a history may be long. If the log does not have it
    (any more), as after the promotion of a standby that was behind, the fold begins anew.
    """
    after_version = 0 if known is None else known.version - 1
    events = await route_log.history(database, route_id, after_version=after_version)
    folded = None
    if known is not None:
        if events and _is_of(events[0], known):
            folded, events = known, events[1:]
        else:
            events = await route_log.history(database, route_id)
    for event in events:
        folded = following(folded, event)
    return folded


def _is_of(event: RouteEvent, route: Route) -> bool:
    """True if it was this row of the log that made the route what it is. No other one has its time."""
    return (event.version, event.pos, event.effective_at) == (route.version, route.pos, route.updated_at)


async def index(database: Database, *, as_of: datetime | None = None, tenant: str | None = None) -> RouteIndex:
    """All routes, or those of a tenant, folded from the beginning of the log up to `as_of` (inclusive), or to its end.

    The chain is not verified. Raises ChainBroken for a row that cannot follow.
    """
    folded = RouteIndex()
    async for event in route_log.read(database, tenant=tenant):
        if as_of is not None and event.effective_at > as_of:
            break
        apply(folded, event)
    return folded


async def rebuild(
    database: Database, *, as_of: datetime | None = None, tenant: str | None = None, marked: int | None = None
) -> Rebuilt:
    """Folds the route log from its beginning and verifies its chain. Raises ChainBroken.

    With `tenant` the result has the routes of that tenant only; the chain of all tenants is verified. With `marked` it
    has the hash at that position.
    """
    folded = FoldedLog(CurrentRoutes(), as_of=as_of, marked=marked)
    await folded.catch_up(database)
    return folded.rebuilt(tenant=tenant)


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
    return _sha256(_canonical(routes))


def _canonical(routes: Iterable[Route]) -> bytes:
    return orjson.dumps(state(routes), option=orjson.OPT_SORT_KEYS)


def _sha256(state_json: bytes) -> str:
    return hashlib.sha256(state_json).hexdigest()


def _lifecycle(event: RouteEvent) -> LifecycleEvent:
    """A row of the log as a lifecycle event."""
    try:
        return LifecycleEvent(
            pos=event.pos,
            route_id=event.route_id,
            tenant=event.tenant,
            version=event.version,
            type=_TYPES.get(event.type) or LifecycleEventType(event.type),
            effective_at=event.effective_at,
            body=orjson.loads(event.body),
        )
    except ValueError as error:
        raise _impossible(event, error) from error


def _impossible(event: RouteEvent, error: ValueError) -> ChainBroken:
    return ChainBroken(f"position {event.pos} cannot have been written: {error}", pos=event.pos)
