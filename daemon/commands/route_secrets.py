"""The secrets of a route, sealed for their own tables. The log has only ids, header names and a key's fingerprint."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from daemon.commands.errors import Invalid
from daemon.core.events.event import FieldProblem
from daemon.core.routing.route import Route
from daemon.core.webhook.signing import SigningKey
from daemon.credentials.keys import Keychain, new_key


class SecretKind(StrEnum):
    """The table of a secret: verification keys or custom headers."""

    KEY = "key"
    HEADERS = "headers"


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedSecret:
    """A sealed value, to be stored in one transaction with the event that names it."""

    kind: SecretKind
    id: str
    sealed: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A new verification key: `body` is what the log says of it, `secret` the sealed key."""

    body: dict[str, object]
    secret: SealedSecret


def key(keychain: Keychain, tenant: str, route_id: UUID, brought: str | None = None) -> NewKey:
    """A new verification key for a route, sealed: the text that was brought along, or else a random one."""
    key_id, text, fingerprint = new_key(brought)
    body: dict[str, object] = {"id": key_id, "fingerprint": fingerprint}
    if SigningKey(text).standard is None:
        body["is_standard"] = False
    return NewKey(
        body=body,
        secret=SealedSecret(kind=SecretKind.KEY, id=key_id, sealed=keychain.seal_key(tenant, route_id, key_id, text)),
    )


def headers(keychain: Keychain, tenant: str, route_id: UUID, values: Mapping[str, str]) -> SealedSecret | None:
    """The custom headers of a route, sealed, under a new id. None if `values` is empty."""
    if not values:
        return None
    headers_id = f"hdr_{secrets.token_hex(6)}"
    sealed = keychain.seal_headers(tenant, route_id, headers_id, dict(values))
    return SealedSecret(kind=SecretKind.HEADERS, id=headers_id, sealed=sealed)


async def with_stored_values(keychain: Keychain, route: Route, values: Mapping[str, str | None]) -> dict[str, str]:
    """Custom headers, with the stored value in place of each None. Raises Invalid if a header has no stored value."""
    secrets_of_route = await keychain.secrets_of(route, ())
    stored = {} if secrets_of_route is None else {name.lower(): value for name, value in secrets_of_route[1].items()}
    completed = {name: stored.get(name.lower()) if value is None else value for name, value in values.items()}
    if problems := tuple(_not_stored(name) for name, value in completed.items() if value is None):
        raise Invalid(problems)
    return {name: value for name, value in completed.items() if value is not None}


def _not_stored(name: str) -> FieldProblem:
    return FieldProblem(
        field=f"headers.{name}", message="has no stored value that could be kept: give the value itself"
    )
