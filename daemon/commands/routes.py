"""The commands on routes. Each says what is to have happened and what that takes; `handling` does the rest."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from daemon.catalogue import Catalogue
from daemon.commands import route_secrets
from daemon.commands.errors import Conflict, Invalid
from daemon.commands.executor import CommandExecutor, CommandResult, Context, NewBody
from daemon.commands.route_secrets import SealedSecret
from daemon.core.drafts.route_draft import RouteDraft, canonical, check
from daemon.core.events.catalogue import KnownTypes
from daemon.core.routing.route import LifecycleEventType, Route, RouteConfig, config_to_body
from daemon.core.webhook.egress import EgressPolicy
from daemon.keys import Keychain
from eventstore.postgres.connect import Database

KEY_GRACE = timedelta(hours=24)

# What an edit may change; a name that is absent stays as it is.
EDITABLE = ("name", "target_url", "event_types", "payload", "headers", "ordered", "rate_limit_per_second")


class Commands:
    """The commands, over one database. `reached` is awaited with the position of each append before a command returns,
    so that the process that took a command acts on it from then on (contract.md §5).
    """

    def __init__(
        self,
        database: Database,
        keychain: Keychain,
        policy: EgressPolicy,
        *,
        signing_header: str,
        now: Callable[[], datetime],
        reached: Callable[[int], Awaitable[None]] | None = None,
        catalogue: Catalogue | None = None,
    ) -> None:
        self._handler = CommandExecutor(database, reached=reached)
        self._catalogue = catalogue
        self._keychain = keychain
        self._policy = policy
        self._signing_header = signing_header
        self._now = now

    async def create(self, tenant: str, draft: RouteDraft, context: Context) -> CommandResult:
        """Makes a route, enabled unless the draft says otherwise. Raises Invalid."""
        draft = self._checked(tenant, draft, await self._known_types())
        route_id = uuid4()
        headers = route_secrets.headers(self._keychain, tenant, route_id, draft.headers)
        key = route_secrets.key(self._keychain, tenant, route_id)
        body = {"config": config_to_body(_config(draft, headers)), "enabled": draft.enabled, "key": key.body}
        decision = NewBody(body=body, stored=(key.stored, *_present(headers)))
        return await self._handler.create(tenant, route_id, decision, context)

    async def edit(self, tenant: str, route_id: UUID, changes: Mapping[str, Any], context: Context) -> CommandResult:
        """Changes what `changes` names (keys of EDITABLE, values as in RouteDraft; of `payload` also a mapping of some
        of its options, and a header whose value is None keeps the stored one). Raises Invalid, NotFound, Stale.
        """
        known_types = await self._known_types()

        async def decide(route: Route) -> NewBody:
            may_name = None if known_types is None else known_types.and_also(route.config.event_types)
            edited = await self._with_kept_headers(route, changes)
            draft = self._checked(tenant, _edited(route, edited), may_name)
            if "headers" not in changes:
                before = route.config
                config = replace(_config(draft, None), header_names=before.header_names, headers_id=before.headers_id)
                return NewBody(body={"config": config_to_body(config)})
            headers = route_secrets.headers(self._keychain, tenant, route_id, draft.headers)
            return NewBody(body={"config": config_to_body(_config(draft, headers))}, stored=_present(headers))

        return await self._handler.change(tenant, route_id, LifecycleEventType.EDITED, decide, context)

    async def disable(self, tenant: str, route_id: UUID, context: Context) -> CommandResult:
        """Closes the window: nothing that happens from now on, and nothing that waits, is sent."""
        return await self._handler.change(tenant, route_id, LifecycleEventType.DISABLED, _as_it_is, context)

    async def enable(self, tenant: str, route_id: UUID, context: Context) -> CommandResult:
        """Opens a window: what happens from now on is sent, by the current configuration."""
        return await self._handler.change(tenant, route_id, LifecycleEventType.ENABLED, _as_it_is, context)

    async def delete(self, tenant: str, route_id: UUID, context: Context) -> CommandResult:
        """Ends the route for good; its history stays."""
        return await self._handler.change(tenant, route_id, LifecycleEventType.DELETED, _as_it_is, context)

    async def rotate_key(self, tenant: str, route_id: UUID, context: Context, *, force: bool = False) -> CommandResult:
        """Makes a new key; the present one signs along for 24 hours. Raises Conflict while an older one still does,
        unless forced.
        """

        async def decide(route: Route) -> NewBody:
            old_key = route.old_key_at(self._now())
            if old_key is not None and not force:
                raise Conflict(
                    f"the previous key is valid until {old_key.valid_until:%Y-%m-%d %H:%M:%S} UTC: rotating again "
                    "would cut it off; wait, revoke it, or force"
                )
            key = route_secrets.key(self._keychain, tenant, route_id)
            body = {"key": key.body, "grace_seconds": int(KEY_GRACE.total_seconds())}
            return NewBody(body=body, stored=(key.stored,))

        return await self._handler.change(tenant, route_id, LifecycleEventType.KEY_ROTATED, decide, context)

    async def revoke_old_key(self, tenant: str, route_id: UUID, context: Context) -> CommandResult:
        """Stops signing with the previous key at once. Raises Conflict if there is none."""

        async def decide(route: Route) -> NewBody:
            old_key = route.old_key_at(self._now())
            if old_key is None:
                raise Conflict("there is no previous key to revoke")
            return NewBody(body={"key_id": old_key.id})

        return await self._handler.change(tenant, route_id, LifecycleEventType.KEY_REVOKED, decide, context)

    async def reveal_key(self, tenant: str, route_id: UUID) -> str:
        """The text of the newest key. Raises NotFound."""
        return await self._keychain.reveal(await self._handler.load(tenant, route_id))

    async def _with_kept_headers(self, route: Route, changes: Mapping[str, Any]) -> Mapping[str, Any]:
        headers = changes.get("headers", {})
        if None not in headers.values():
            return changes
        return {**changes, "headers": await route_secrets.kept(self._keychain, route, headers)}

    async def _known_types(self) -> KnownTypes | None:
        return None if self._catalogue is None else await self._catalogue.known_types()

    def _checked(self, tenant: str, draft: RouteDraft, known_types: KnownTypes | None) -> RouteDraft:
        problems = check(
            draft,
            tenant=tenant,
            policy=self._policy,
            signing_header=self._signing_header,
            known_types=known_types,
        )
        if problems:
            raise Invalid(problems)
        return canonical(draft, self._policy)


def _edited(route: Route, changes: Mapping[str, Any]) -> RouteDraft:
    """The route as a draft with these changes; without custom headers, unless they are among them."""
    values = {name: getattr(route.config, name) for name in EDITABLE if name != "headers"} | dict(changes)
    if isinstance(values["payload"], Mapping):
        values["payload"] = replace(route.config.payload, **values["payload"])
    return RouteDraft(**values)


def _config(draft: RouteDraft, headers: SealedSecret | None) -> RouteConfig:
    """The configuration for the log."""
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


def _present(headers: SealedSecret | None) -> tuple[SealedSecret, ...]:
    return () if headers is None else (headers,)


async def _as_it_is(_route: Route) -> NewBody:
    return NewBody(body={})
