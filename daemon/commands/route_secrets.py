"""The secrets of a route on their way into their own tables: the log carries ids, names and a fingerprint of them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from daemon.commands.errors import Invalid
from daemon.core.events.event import FieldProblem
from daemon.core.routing.route import Route
from daemon.keys import Keychain, new_key


class SecretKind(StrEnum):
    """In which table a secret lies."""

    KEY = "key"
    HEADERS = "headers"


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedSecret:
    """A sealed value, to be stored along with the event that names it."""

    kind: SecretKind
    id: str
    sealed: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """A new verification key: what the log says of it, and the key itself."""

    body: dict[str, str]
    stored: SealedSecret


def key(keychain: Keychain, tenant: str, route_id: UUID) -> NewKey:
    """Makes a verification key for a route."""
    key_id, text, fingerprint = new_key()
    return NewKey(
        body={"id": key_id, "fingerprint": fingerprint},
        stored=SealedSecret(kind=SecretKind.KEY, id=key_id, sealed=keychain.seal_key(tenant, route_id, key_id, text)),
    )


def headers(keychain: Keychain, tenant: str, route_id: UUID, values: Mapping[str, str]) -> SealedSecret | None:
    """The custom headers of a route, under a new id; None if it has none."""
    if not values:
        return None
    headers_id = f"hdr_{secrets.token_hex(6)}"
    sealed = keychain.seal_headers(tenant, route_id, headers_id, dict(values))
    return SealedSecret(kind=SecretKind.HEADERS, id=headers_id, sealed=sealed)


async def kept(keychain: Keychain, route: Route, values: Mapping[str, str | None]) -> dict[str, str]:
    """Custom headers, with the value that the route has where None is given. Raises Invalid if it has none."""
    found = await keychain.secrets_of(route, ())
    stored = {} if found is None else {name.lower(): value for name, value in found[1].items()}
    full = {name: stored.get(name.lower()) if value is None else value for name, value in values.items()}
    if problems := tuple(_not_stored(name) for name, value in full.items() if value is None):
        raise Invalid(problems)
    return {name: value for name, value in full.items() if value is not None}


def _not_stored(name: str) -> FieldProblem:
    return FieldProblem(
        field=f"headers.{name}", message="has no stored value that could be kept: give the value itself"
    )
