"""The commands on routes. Each builds the body of its lifecycle event; `executor` does what all of them share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from daemon import operations
from daemon.catalogue import Catalogue
from daemon.commands import route_secrets
from daemon.commands.errors import Conflict, Invalid
from daemon.commands.executor import CommandExecutor, CommandResult, Context, NewBody
from daemon.commands.limits import UNLIMITED, CommandLimits
from daemon.commands.route_secrets import SealedSecret
from daemon.core.drafts.route_draft import RouteDraft, canonical, check
from daemon.core.drafts.verification_key import key_problem
from daemon.core.events.catalogue import KnownTypes
from daemon.core.events.event import FieldProblem
from daemon.core.routing.index import RouteIndex
from daemon.core.routing.route import LifecycleEventType, Route, RouteConfig, config_to_body
from daemon.core.webhook.egress import EgressPolicy
from daemon.credentials.keys import Keychain
from daemon.operations import NOBODY, Audience
from eventstore.postgres.connect import Database

KEY_GRACE = timedelta(hours=24)

# What an edit may change. A value that an edit does not name stays as it is.
EDITABLE = ("name", "target_url", "event_types", "payload", "headers", "ordered", "rate_limit_per_second")


class Commands:
    """The commands on the routes of one database.

    `on_appended` is awaited with the log position of each event before the command returns. The process that takes a
    command catches up its projection there: once a disable is acknowledged, this process starts no new request. `index`
    is that projection. Every command may raise TooManyCommands.
    """

    def __init__(  # noqa: PLR0913 - what a command may touch
        self,
        database: Database,
        keychain: Keychain,
        policy: EgressPolicy,
        *,
        signing_header: str,
        now: Callable[[], datetime],
        on_appended: Callable[[int], Awaitable[None]] | None = None,
        catalogue: Catalogue | None = None,
        index: RouteIndex | None = None,
        limits: CommandLimits = UNLIMITED,
        audience: Audience = NOBODY,
    ) -> None:
        self._executor = CommandExecutor(
            database, on_appended=on_appended, index=index, limits=limits, sign=keychain.sign_lifecycle
        )
        self._catalogue = catalogue
        self._keychain = keychain
        self._policy = policy
        self._signing_header = signing_header
        self._now = now
        self._audience = audience

    async def create(self, tenant: str, draft: RouteDraft, context: Context) -> CommandResult:
        """Creates a route, enabled unless the draft says otherwise. Raises Invalid and TooManyRoutes."""
        route_id = uuid4()

        async def decide() -> NewBody:
            checked = self._checked(tenant, draft, await self._known_types())
            headers = route_secrets.headers(self._keychain, tenant, route_id, checked.headers)
            key = route_secrets.key(self._keychain, tenant, route_id, checked.verification_key)
            body = {"config": config_to_body(_config(checked, headers)), "enabled": checked.enabled, "key": key.body}
            return NewBody(body=body, secrets=(key.secret, *_present(headers)))

        return await self._executor.create(tenant, route_id, decide, context)

    async def edit(self, tenant: str, route_id: UUID, changes: Mapping[str, Any], context: Context) -> CommandResult:
        """Changes the values that `changes` names: keys of EDITABLE, values as in RouteDraft.

        `payload` may also be a mapping of some of its options. A header whose value is None keeps its stored value.
        Raises Invalid, NotFound, Stale.
        """
        known_types = await self._known_types()

        async def decide(route: Route) -> NewBody:
            allowed_types = None if known_types is None else known_types.including(route.config.event_types)
            edited = await self._with_stored_headers(route, changes)
            draft = self._checked(tenant, _edited(route, edited), allowed_types, kept_target=route.config.target_url)
            if "headers" not in changes:
                before = route.config
                config = replace(_config(draft, None), header_names=before.header_names, headers_id=before.headers_id)
                return NewBody(body={"config": config_to_body(config)})
            headers = route_secrets.headers(self._keychain, tenant, route_id, draft.headers)
            return NewBody(body={"config": config_to_body(_config(draft, headers))}, secrets=_present(headers))

        return await self._executor.change(tenant, route_id, LifecycleEventType.EDITED, decide, context)

    async def disable(
        self, tenant: str, route_id: UUID, context: Context, *, only_if: Callable[[Route], bool] | None = None
    ) -> CommandResult:
        """Closes the window: from now on neither new events nor waiting deliveries are sent.

        Raises Conflict if `only_if` is false of the route as it is in the log: another process may have changed it.
        """

        async def decide(route: Route) -> NewBody:
            if only_if is not None and not only_if(route):
                raise Conflict("the reason to disable the route does not hold any more")
            told = operations.webhook_disabled(self._audience, route, actor=context.actor, reason=context.reason)
            return NewBody(body={}, told=told)

        return await self._executor.change(tenant, route_id, LifecycleEventType.DISABLED, decide, context)

    async def enable(self, tenant: str, route_id: UUID, context: Context) -> CommandResult:
        """Opens a window: events that happen from now on are sent, by the current configuration."""
        return await self._executor.change(tenant, route_id, LifecycleEventType.ENABLED, _empty_body, context)

    async def delete(self, tenant: str, route_id: UUID, context: Context) -> CommandResult:
        """Deletes the route for good. Its history stays."""
        return await self._executor.change(tenant, route_id, LifecycleEventType.DELETED, _empty_body, context)

    async def rotate_key(
        self,
        tenant: str,
        route_id: UUID,
        context: Context,
        *,
        force: bool = False,
        verification_key: str | None = None,
    ) -> CommandResult:
        """Makes a new key, or takes the one that is brought along. For KEY_GRACE the present key signs as well.

        Raises Conflict while an older one still signs, unless `force`, and Invalid for a text that may be no key.
        """
        if verification_key is not None and (message := key_problem(verification_key)) is not None:
            raise _invalid_key(message)

        async def decide(route: Route) -> NewBody:
            old_key = route.old_key_at(self._now())
            if old_key is not None and not force:
                raise Conflict(
                    f"the previous key is valid until {old_key.valid_until:%Y-%m-%d %H:%M:%S} UTC: rotating again "
                    "would cut it off; wait, revoke it, or force"
                )
            key = route_secrets.key(self._keychain, tenant, route_id, verification_key)
            if key.body["fingerprint"] == route.keys[0].fingerprint:
                raise _invalid_key("is the present key: give another one, or leave it out for a random one")
            body = {"key": key.body, "grace_seconds": int(KEY_GRACE.total_seconds())}
            return NewBody(body=body, secrets=(key.secret,))

        return await self._executor.change(tenant, route_id, LifecycleEventType.KEY_ROTATED, decide, context)

    async def revoke_old_key(self, tenant: str, route_id: UUID, context: Context) -> CommandResult:
        """Stops signing with the previous key at once. Raises Conflict if there is none."""

        async def decide(route: Route) -> NewBody:
            old_key = route.old_key_at(self._now())
            if old_key is None:
                raise Conflict("there is no previous key to revoke")
            return NewBody(body={"key_id": old_key.id})

        return await self._executor.change(tenant, route_id, LifecycleEventType.KEY_REVOKED, decide, context)

    async def load(self, tenant: str, route_id: UUID) -> Route:
        """The present state of the route, from the log. Raises NotFound."""
        return await self._executor.load(tenant, route_id)

    async def reveal_key(self, route: Route) -> str:
        """The text of the newest key that the route had in this state: another one may have been made since."""
        return await self._keychain.reveal(route)

    async def _with_stored_headers(self, route: Route, changes: Mapping[str, Any]) -> Mapping[str, Any]:
        headers = changes.get("headers", {})
        if None not in headers.values():
            return changes
        return {**changes, "headers": await route_secrets.with_stored_values(self._keychain, route, headers)}

    async def _known_types(self) -> KnownTypes | None:
        return None if self._catalogue is None else await self._catalogue.known_types()

    def _checked(
        self, tenant: str, draft: RouteDraft, known_types: KnownTypes | None, *, kept_target: str | None = None
    ) -> RouteDraft:
        problems = check(
            draft,
            tenant=tenant,
            policy=self._policy,
            signing_header=self._signing_header,
            known_types=known_types,
            kept_target=kept_target,
        )
        if problems:
            raise Invalid(problems)
        return canonical(draft, self._policy, kept_target=kept_target)


def _edited(route: Route, changes: Mapping[str, Any]) -> RouteDraft:
    """The route as a draft with these changes. It has custom headers only if they are among the changes."""
    values = {name: getattr(route.config, name) for name in EDITABLE if name != "headers"} | dict(changes)
    if isinstance(values["payload"], Mapping):
        values["payload"] = replace(route.config.payload, **values["payload"])
    return RouteDraft(**values)


def _config(draft: RouteDraft, headers: SealedSecret | None) -> RouteConfig:
    """The draft as it is written into the log: names and id of the headers instead of their values."""
    return RouteConfig(
        name=draft.name,
        target_url=draft.target_url,
        event_types=draft.event_types,
        payload=draft.payload,
        header_names=tuple(draft.headers),
        headers_id=None if headers is None else headers.id,
        ordered=draft.ordered,
        rate_limit_per_second=draft.rate_limit_per_second,
    )


def _invalid_key(message: str) -> Invalid:
    return Invalid((FieldProblem(field="verification_key", message=message),))


def _present(headers: SealedSecret | None) -> tuple[SealedSecret, ...]:
    return () if headers is None else (headers,)


async def _empty_body(_route: Route) -> NewBody:
    return NewBody(body={})
