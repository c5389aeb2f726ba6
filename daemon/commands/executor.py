"""How every command is executed: read the route from the log, decide, append one event.

The event is appended on top of the version that was read. If another command was faster, this one starts again, unless
the caller named a version. A command whose effect is already there (disable a disabled route) appends nothing. A
command whose request id was executed before returns the route as it is now. Secrets are stored in the same transaction
as the event that names them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from uuid import UUID

import orjson

import eventstore.route_log.sealed_secrets
from daemon import route_state
from daemon.commands.errors import CommandError, Conflict, KeyReused, NotFound, Stale
from daemon.commands.limits import CommandLimits, CommandQuota
from daemon.commands.route_secrets import SealedSecret, SecretKind
from daemon.core.routing.index import RouteIndex
from daemon.core.routing.route import LifecycleEventType, Route, RouteStatus, config_to_body, may
from eventstore import domain_events, route_log
from eventstore.domain_events.events import NewEvent
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import RequestReused, VersionConflict
from eventstore.route_log import idempotency_keys, signatures
from eventstore.route_log.chain import require_appended
from eventstore.route_log.idempotency_keys import UsedKey
from eventstore.route_log.log import NewRouteEvent, RouteCount, RouteEvent

# So many commands on one route at the same moment all succeed: one of them wins in each round.
_TRIES = 25

_NO_ROUTE = "there is no such route"


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The actor of a command, its origin (`api`, `cli`, `dashboard` or `delivery`) and its reason.

    A repetition with the same `request_id` is harmless, if `causation_id` is the same, too. With `if_version` the
    command is refused if the route is at another version. The limits of tenants do not hold for a command that
    `is_unlimited`.
    """

    actor: str
    origin: str
    reason: str | None = None
    request_id: str | None = None
    correlation_id: str | None = None
    causation_id: str | None = None
    if_version: int | None = None
    is_unlimited: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandResult:
    """The route after the command, and whether an event was appended for it."""

    route: Route
    appended: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NewBody:
    """The body of the event to append, the secrets that it names, and the domain events that tell of it."""

    body: Mapping[str, object]
    secrets: tuple[SealedSecret, ...] = ()
    told: tuple[NewEvent, ...] = ()


Decide = Callable[[Route], Awaitable[NewBody]]


class CommandExecutor:
    """`create` appends the first event of a route, `change` the next one.

    `on_appended` is awaited with the log position of each event. `index` is a live projection, if there is one: what it
    knows of a route need not be read and folded again for each command. `sign` makes the signature of an event by its
    position and hash. Both raise TooManyCommands and TooMuchConfigured.
    """

    def __init__(
        self,
        database: Database,
        *,
        on_appended: Callable[[int], Awaitable[None]] | None,
        index: RouteIndex | None,
        limits: CommandLimits,
        sign: Callable[[int, bytes], bytes],
    ) -> None:
        self._sign = sign
        self._quota = CommandQuota(limits)
        self._database = database
        self._on_appended = on_appended
        self._index = index

    async def create(
        self, tenant: str, route_id: UUID, decide: Callable[[], Awaitable[NewBody]], context: Context
    ) -> CommandResult:
        """Raises Conflict if the request id was used for another command, or the tenant has too many routes, and what
        `decide` raises.
        """
        self._count(tenant, context)
        lifecycle_type = LifecycleEventType.CREATED
        if (previous := await self._previous_result(lifecycle_type, context, tenant=tenant)) is not None:
            return previous
        decision = await decide()
        try:
            event = await self._append(tenant, route_id, 1, lifecycle_type, decision, context)
        except (RequestReused, CommandError):  # the same request, at the same time, perhaps the last one allowed
            if (previous := await self._previous_result(lifecycle_type, context, tenant=tenant)) is not None:
                return previous
            raise
        return CommandResult(route=route_state.following(None, event), appended=True)

    async def change(
        self, tenant: str, route_id: UUID, lifecycle_type: LifecycleEventType, decide: Decide, context: Context
    ) -> CommandResult:
        """Raises NotFound, Stale, Conflict, and what `decide` raises."""
        self._count(tenant, context)
        for _ in range(_TRIES):
            previous = await self._previous_result(lifecycle_type, context, tenant=tenant, route_id=route_id)
            if previous is not None:
                return previous
            try:
                route = await self.load(tenant, route_id)
                if context.if_version is not None and route.version != context.if_version:
                    raise Stale(f"the route is at version {route.version}, not {context.if_version}: read it again")
                decision = await _decision(route, lifecycle_type, decide)
            except CommandError:  # perhaps for what the same request, at the same time, has done since
                previous = await self._previous_result(lifecycle_type, context, tenant=tenant, route_id=route_id)
                if previous is None:
                    raise
                return previous
            if decision is None:
                return CommandResult(route=route, appended=False)
            try:
                event = await self._append(tenant, route_id, route.version + 1, lifecycle_type, decision, context)
            except (VersionConflict, RequestReused):
                continue
            return CommandResult(route=route_state.following(route, event), appended=True)
        raise Conflict("the route is being changed by many others right now: repeat the command")

    async def load(self, tenant: str, route_id: UUID) -> Route:
        """The present state of the route, from the log. Raises NotFound."""
        route = await self._newest(route_id)
        if route is None or route.tenant != tenant or route.status is RouteStatus.DELETED:
            raise NotFound(_NO_ROUTE)
        return route

    def _count(self, tenant: str, context: Context) -> None:
        if not context.is_unlimited:
            self._quota.take_command(tenant)

    async def _newest(self, route_id: UUID) -> Route | None:
        known = None if self._index is None else self._index.route(route_id)
        return await route_state.route(self._database, route_id, known=known)

    async def _previous_result(
        self, lifecycle_type: LifecycleEventType, context: Context, *, tenant: str, route_id: UUID | None = None
    ) -> CommandResult | None:
        """The result for a request id that was executed before: the route as it is now. None if it was not.

        Raises NotFound if the route was deleted since, unless the request was to delete it.
        """
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
        route = await self._newest(event.route_id)
        if route is None or (route.status is RouteStatus.DELETED and lifecycle_type is not LifecycleEventType.DELETED):
            raise NotFound(_NO_ROUTE)
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
        if "config" in decision.body and self._index is not None and not context.is_unlimited:
            self._quota.check_configs(tenant, self._index.config_bytes(tenant))
        async with self._database.transaction() as connection:
            before: RouteCount | None = None
            if version == 1 and self._quota.counts_routes and not context.is_unlimited:
                before = await route_log.count_routes(connection, tenant)
                self._quota.check_routes(tenant, before.routes)
            for secret in decision.secrets:
                add = (
                    eventstore.route_log.sealed_secrets.add_key
                    if secret.kind is SecretKind.KEY
                    else eventstore.route_log.sealed_secrets.add_headers
                )
                await add(connection, route_id, secret.id, secret.sealed)
            if decision.told:
                await domain_events.publish_within(connection, decision.told)
            event = await route_log.append(connection, draft)
            require_appended(draft, event)
            await signatures.add(connection, event.pos, self._sign(event.pos, event.hash))
            if before is not None:
                # From the append to the commit the log is ours. Only what was appended meanwhile is counted again, so
                # that the lock, for which ticks wait, is not held for long.
                created = await route_log.count_routes(connection, tenant, after=before.position)
                self._quota.check_routes(tenant, before.routes + created.routes - 1)
        if self._on_appended is not None:
            await self._on_appended(event.pos)
        return event


async def _decision(route: Route, lifecycle_type: LifecycleEventType, decide: Decide) -> NewBody | None:
    """What to append; None if the command would change nothing. Raises Conflict, and what `decide` raises."""
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
