"""How a command is carried out, whichever it is: read the route from the log, decide, append one event.

The event goes on top of the version that was read. Whoever was faster makes the command start again, unless the caller
named a version. One that finds its wish fulfilled (disable a disabled route) appends nothing; one that was carried out
before, by its request id, answers with the route as it is. Secrets go into their tables in the same transaction.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from uuid import UUID

import orjson

import eventstore.route_log.sealed_secrets
from daemon import route_state
from daemon.commands.errors import Conflict, KeyReused, NotFound, Stale
from daemon.commands.route_secrets import SealedSecret, SecretKind
from daemon.core.routing.route import LifecycleEventType, Route, RouteStatus, config_to_body, evolve, may
from eventstore import route_log
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import RequestReused, VersionConflict
from eventstore.route_log import idempotency_keys
from eventstore.route_log.idempotency_keys import UsedKey
from eventstore.route_log.log import NewRouteEvent, RouteEvent

# So many commands for one route at the same moment all get their turn: in each round of trying somebody wins.
_TRIES = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Who commands, whence and why. `request_id` makes a repetition harmless, if `causation_id` is repeated with it;
    `if_version` insists on a version.
    """

    actor: str
    origin: str
    reason: str | None = None
    request_id: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    if_version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """The route after the command, and whether an event was appended for it."""

    route: Route
    appended: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBody:
    """What is to be appended: the event's body, and the secrets it names."""

    body: Mapping[str, object]
    stored: tuple[SealedSecret, ...] = ()


Decide = Callable[[Route], Awaitable[NewBody]]


class CommandExecutor:
    """`create` begins the log of a route, `change` goes on with it. `reached` is awaited with the position of each
    append.
    """

    def __init__(self, database: Database, *, reached: Callable[[int], Awaitable[None]] | None) -> None:
        self._database = database
        self._reached = reached

    async def create(self, tenant: str, route_id: UUID, decision: NewBody, context: Context) -> CommandResult:
        """Raises Conflict if the request id was used for something else."""
        lifecycle_type = LifecycleEventType.CREATED
        if (done := await self._repeated(lifecycle_type, context, tenant=tenant)) is not None:
            return done
        try:
            event = await self._append(tenant, route_id, 1, lifecycle_type, decision, context)
        except RequestReused:  # the same request, at the same time
            if (done := await self._repeated(lifecycle_type, context, tenant=tenant)) is not None:
                return done
            raise
        return CommandResult(route=evolve(None, route_state.lifecycle(event)), appended=True)

    async def change(
        self, tenant: str, route_id: UUID, lifecycle_type: LifecycleEventType, decide: Decide, context: Context
    ) -> CommandResult:
        """Raises NotFound, Stale, Conflict, and what `decide` raises."""
        for _ in range(_TRIES):
            if (done := await self._repeated(lifecycle_type, context, tenant=tenant, route_id=route_id)) is not None:
                return done
            route = await self.load(tenant, route_id)
            if context.if_version is not None and route.version != context.if_version:
                raise Stale(f"the route is at version {route.version}, not {context.if_version}: read it again")
            decision = await _decision(route, lifecycle_type, decide)
            if decision is None:
                return CommandResult(route=route, appended=False)
            try:
                event = await self._append(tenant, route_id, route.version + 1, lifecycle_type, decision, context)
            except (VersionConflict, RequestReused):
                continue
            return CommandResult(route=evolve(route, route_state.lifecycle(event)), appended=True)
        raise Conflict("the route is being changed by many others right now: repeat the command")

    async def load(self, tenant: str, route_id: UUID) -> Route:
        """The route as the log says. Raises NotFound."""
        route = await route_state.route(self._database, route_id)
        if route is None or route.tenant != tenant or route.status is RouteStatus.DELETED:
            raise NotFound("there is no such route")
        return route

    async def _repeated(
        self, lifecycle_type: LifecycleEventType, context: Context, *, tenant: str, route_id: UUID | None = None
    ) -> CommandResult | None:
        """The answer to a request that was carried out before: the route as it is now. None if it was not."""
        if context.request_id is None:
            return None
        event = await route_log.by_request(self._database, context.request_id)
        if event is None:
            if await idempotency_keys.is_used(self._database, context.request_id, besides=UsedKey.LOG):
                raise KeyReused
            return None
        if event.type != lifecycle_type or event.tenant != tenant or route_id not in (None, event.route_id):
            raise KeyReused
        if event.causation_id != context.causation_id:
            raise Conflict("this Idempotency-Key was used for the same command with other values: use a new one")
        route = await route_state.route(self._database, event.route_id)
        if route is None:
            raise NotFound("there is no such route")
        return CommandResult(route=route, appended=False)

    async def _append(
        self,
        tenant: str,
        route_id: UUID,
        version: int,
        lifecycle_type: LifecycleEventType,
        decision: NewBody,
        context: Context,
    ) -> RouteEvent:
        draft = NewRouteEvent(
            route_id=route_id,
            tenant=tenant,
            version=version,
            type=lifecycle_type.value,
            actor=context.actor,
            origin=context.origin,
            reason=context.reason,
            request_id=context.request_id,
            correlation_id=context.correlation_id,
            causation_id=context.causation_id,
            body=orjson.dumps(decision.body, option=orjson.OPT_SORT_KEYS).decode(),
        )
        async with self._database.transaction() as connection:
            for secret in decision.stored:
                add = (
                    eventstore.route_log.sealed_secrets.add_key
                    if secret.kind is SecretKind.KEY
                    else eventstore.route_log.sealed_secrets.add_headers
                )
                await add(connection, route_id, secret.id, secret.sealed)
            event = await route_log.append(connection, draft)
        if self._reached is not None:
            await self._reached(event.pos)
        return event


async def _decision(route: Route, lifecycle_type: LifecycleEventType, decide: Decide) -> NewBody | None:
    """What to append; None if all that is wanted is so already. Raises Conflict, and what `decide` raises."""
    if _is_fulfilled(route, lifecycle_type):
        return None
    refusal = may(route, lifecycle_type)
    if refusal is not None:
        raise Conflict(refusal.reason)
    decision = await decide(route)
    if lifecycle_type is LifecycleEventType.EDITED and decision.body["config"] == config_to_body(route.config):
        return None
    return decision


def _is_fulfilled(route: Route, lifecycle_type: LifecycleEventType) -> bool:
    return (lifecycle_type is LifecycleEventType.DISABLED and route.status is RouteStatus.DISABLED) or (
        lifecycle_type is LifecycleEventType.ENABLED and route.status is RouteStatus.ENABLED
    )
