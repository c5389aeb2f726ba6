"""What may be done to a route: check, decide, append. The only place that writes the route log.

Each command reads the route from the log, decides by the table in `daemon.core.route`, and appends one event on top of
the version it has read; whoever was faster makes it start again, unless the caller named a version. A command that
finds its wish fulfilled (disable a disabled route) appends nothing. Secrets go into their own tables in the same
transaction.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson

import eventstore.keys
from daemon import replay
from daemon.core.draft import RouteDraft, canonical, check
from daemon.core.egress import EgressPolicy
from daemon.core.event import Problem
from daemon.core.route import (
    Happening,
    Route,
    RouteConfig,
    Status,
    config_to_body,
    evolve,
    may,
)
from daemon.keys import Keychain, new_key
from eventstore import log
from eventstore.connect import Database
from eventstore.errors import RequestReused, VersionConflict
from eventstore.log import Draft, RouteEvent

KEY_GRACE = timedelta(hours=24)

# So many commands for one route at the same moment all get their turn: in each round of trying somebody wins.
_TRIES = 25


class CommandError(Exception):
    """A command that was not carried out; `str()` says why."""


class Invalid(CommandError):
    """The values given cannot be; all problems at once."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("; ".join(f"{p.field}: {p.message}" if p.field else p.message for p in problems))
        self.problems = problems


class NotFound(CommandError):
    """There is no such route, or it belongs to another tenant, or it was deleted."""


class Conflict(CommandError):
    """The route's state does not allow it."""


class Stale(CommandError):
    """The route was changed since the caller read it."""


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


# What an edit may change; a name that is absent stays as it is.
EDITABLE = ("name", "target_url", "event_types", "payload", "headers", "ordered", "rate_limit_per_second")


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The route after the command, and whether an event was appended for it."""

    route: Route
    appended: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Secret:
    """A sealed value to store along with the event."""

    kind: str
    id: str
    sealed: bytes


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
    ) -> None:
        self._database = database
        self._keychain = keychain
        self._policy = policy
        self._signing_header = signing_header
        self._now = now
        self._reached = reached

    async def create(self, tenant: str, draft: RouteDraft, context: Context) -> Done:
        """Makes a route, enabled unless the draft says otherwise. Raises Invalid."""
        draft = self._checked(tenant, draft)
        route_id = uuid4()
        if (done := await self._repeated(Happening.CREATED, context, tenant=tenant)) is not None:
            return done
        key_id, key_text, key_fingerprint = new_key()
        stored = [_Secret(kind="key", id=key_id, sealed=self._keychain.seal_key(tenant, route_id, key_id, key_text))]
        config = self._config(draft, tenant, route_id, stored)
        body = {
            "config": config_to_body(config),
            "enabled": draft.enabled,
            "key": {"id": key_id, "fingerprint": key_fingerprint},
        }
        try:
            event = await self._append(tenant, route_id, 1, Happening.CREATED, body, context, stored)
        except RequestReused:  # the same request, at the same time
            if (done := await self._repeated(Happening.CREATED, context, tenant=tenant)) is not None:
                return done
            raise
        return Done(route=evolve(None, replay.lifecycle(event)), appended=True)

    async def edit(self, tenant: str, route_id: UUID, changes: Mapping[str, Any], context: Context) -> Done:
        """Changes what `changes` names (keys of EDITABLE, values as in RouteDraft; of `payload` also a mapping of some
        of its options). Raises Invalid, NotFound, Stale.
        """

        def decide(route: Route) -> tuple[dict[str, Any], list[_Secret]]:
            stored: list[_Secret] = []
            values = {name: getattr(route.config, name) for name in EDITABLE if name != "headers"}
            wanted = values | dict(changes)
            if isinstance(wanted["payload"], Mapping):
                wanted["payload"] = replace(route.config.payload, **wanted["payload"])
            draft = self._checked(tenant, RouteDraft(**wanted))
            config = self._config(draft, tenant, route_id, stored)
            if "headers" not in changes:
                config = replace(config, header_names=route.config.header_names, headers_id=route.config.headers_id)
                stored = []
            return {"config": config_to_body(config)}, stored

        return await self._change(tenant, route_id, Happening.EDITED, decide, context)

    async def disable(self, tenant: str, route_id: UUID, context: Context) -> Done:
        """Closes the window: nothing that happens from now on, and nothing that waits, is sent."""
        return await self._change(tenant, route_id, Happening.DISABLED, _nothing, context)

    async def enable(self, tenant: str, route_id: UUID, context: Context) -> Done:
        """Opens a window: what happens from now on is sent, by the current configuration."""
        return await self._change(tenant, route_id, Happening.ENABLED, _nothing, context)

    async def delete(self, tenant: str, route_id: UUID, context: Context) -> Done:
        """Ends the route for good; its history stays."""
        return await self._change(tenant, route_id, Happening.DELETED, _nothing, context)

    async def rotate_key(self, tenant: str, route_id: UUID, context: Context, *, force: bool = False) -> Done:
        """Makes a new key; the present one signs along for 24 hours. Raises Conflict while an older one still does,
        unless forced.
        """

        def decide(route: Route) -> tuple[dict[str, Any], list[_Secret]]:
            if len(route.keys_at(self._now())) > 1 and not force:
                until = route.keys[1].valid_until
                raise Conflict(
                    f"the previous key is valid until {until:%Y-%m-%d %H:%M:%S} UTC: rotating again would cut it off; "
                    "wait, revoke it, or force"
                )
            key_id, text, fingerprint = new_key()
            body = {"key": {"id": key_id, "fingerprint": fingerprint}, "grace_seconds": int(KEY_GRACE.total_seconds())}
            return body, [
                _Secret(kind="key", id=key_id, sealed=self._keychain.seal_key(tenant, route_id, key_id, text))
            ]

        return await self._change(tenant, route_id, Happening.KEY_ROTATED, decide, context)

    async def revoke_old_key(self, tenant: str, route_id: UUID, context: Context) -> Done:
        """Stops signing with the previous key at once. Raises Conflict if there is none."""

        def decide(route: Route) -> tuple[dict[str, Any], list[_Secret]]:
            if len(route.keys_at(self._now())) < 2:
                raise Conflict("there is no previous key to revoke")
            return {"key_id": route.keys[1].id}, []

        return await self._change(tenant, route_id, Happening.KEY_REVOKED, decide, context)

    async def reveal_key(self, tenant: str, route_id: UUID) -> str:
        """The text of the newest key. Raises NotFound."""
        return await self._keychain.reveal(await self._load(tenant, route_id))

    async def _change(
        self,
        tenant: str,
        route_id: UUID,
        happening: Happening,
        decide: Callable[[Route], tuple[dict[str, Any], list[_Secret]]],
        context: Context,
    ) -> Done:
        for _ in range(_TRIES):
            if (done := await self._repeated(happening, context, tenant=tenant, route_id=route_id)) is not None:
                return done
            route = await self._load(tenant, route_id)
            if context.if_version is not None and route.version != context.if_version:
                raise Stale(f"the route is at version {route.version}, not {context.if_version}: read it again")
            if _is_fulfilled(route, happening):
                return Done(route=route, appended=False)
            refusal = may(route, happening)
            if refusal is not None:
                raise Conflict(refusal.reason)
            body, stored = decide(route)
            if happening is Happening.EDITED and body["config"] == config_to_body(route.config):
                return Done(route=route, appended=False)
            try:
                event = await self._append(tenant, route_id, route.version + 1, happening, body, context, stored)
            except (VersionConflict, RequestReused):
                continue
            return Done(route=evolve(route, replay.lifecycle(event)), appended=True)
        raise Conflict("the route is being changed by many others right now: repeat the command")

    async def _append(
        self,
        tenant: str,
        route_id: UUID,
        version: int,
        happening: Happening,
        body: dict[str, Any],
        context: Context,
        stored: list[_Secret],
    ) -> RouteEvent:
        draft = Draft(
            route_id=route_id,
            tenant=tenant,
            version=version,
            type=happening.value,
            actor=context.actor,
            origin=context.origin,
            reason=context.reason,
            request_id=context.request_id,
            correlation_id=context.correlation_id,
            causation_id=context.causation_id,
            body=orjson.dumps(body, option=orjson.OPT_SORT_KEYS).decode(),
        )
        async with self._database.transaction() as connection:
            for secret in stored:
                add = eventstore.keys.add_key if secret.kind == "key" else eventstore.keys.add_headers
                await add(connection, route_id, secret.id, secret.sealed)
            event = await log.append(connection, draft)
        if self._reached is not None:
            await self._reached(event.pos)
        return event

    async def _load(self, tenant: str, route_id: UUID) -> Route:
        route = await replay.route(self._database, route_id)
        if route is None or route.tenant != tenant or route.status is Status.DELETED:
            raise NotFound("there is no such route")
        return route

    async def _repeated(
        self, happening: Happening, context: Context, *, tenant: str, route_id: UUID | None = None
    ) -> Done | None:
        """The answer to a request that was carried out before: the route as it is now. None if it was not."""
        if context.request_id is None:
            return None
        event = await log.by_request(self._database, context.request_id)
        if event is None:
            return None
        if event.type != happening or event.tenant != tenant or route_id not in (None, event.route_id):
            raise Conflict("this Idempotency-Key was used for another command: use a new one for each command")
        if event.causation_id != context.causation_id:
            raise Conflict("this Idempotency-Key was used for the same command with other values: use a new one")
        route = await replay.route(self._database, event.route_id)
        if route is None:
            raise NotFound("there is no such route")
        return Done(route=route, appended=False)

    def _checked(self, tenant: str, draft: RouteDraft) -> RouteDraft:
        problems = check(draft, tenant=tenant, policy=self._policy, signing_header=self._signing_header)
        if problems:
            raise Invalid(problems)
        return canonical(draft, self._policy)

    def _config(self, draft: RouteDraft, tenant: str, route_id: UUID, stored: list[_Secret]) -> RouteConfig:
        """The configuration for the log; sealed header values are added to `stored`."""
        headers_id = None
        if draft.headers:
            headers_id = f"hdr_{secrets.token_hex(6)}"
            sealed = self._keychain.seal_headers(tenant, route_id, headers_id, dict(draft.headers))
            stored.append(_Secret(kind="headers", id=headers_id, sealed=sealed))
        return RouteConfig(
            name=draft.name,
            target_url=draft.target_url,
            event_types=draft.event_types,
            payload=draft.payload,
            header_names=tuple(draft.headers),
            headers_id=headers_id,
            ordered=draft.ordered,
            rate_limit_per_second=draft.rate_limit_per_second,
        )


def _is_fulfilled(route: Route, happening: Happening) -> bool:
    return (happening is Happening.DISABLED and route.status is Status.DISABLED) or (
        happening is Happening.ENABLED and route.status is Status.ENABLED
    )


def _nothing(_route: Route) -> tuple[dict[str, Any], list[_Secret]]:
    return {}, []
