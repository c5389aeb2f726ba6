"""API tokens for the API and the dashboard: pages of their list, finding one, and revoking one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from daemon.commands import NotFound
from daemon.core.events.event import instant
from daemon.credentials import tokens
from daemon.web.http import paging, shapes
from daemon.web.http.services import Services
from eventstore.access.macs import CredentialMacs
from eventstore.access.tokens import Token
from eventstore.access.tokens import find as find_token
from eventstore.access.tokens import newest as newest_tokens
from eventstore.access.tokens import revoke as revoke_token
from eventstore.postgres.connect import Database

# `forged`: it was not made by us, or was changed since, and opens nothing.
TokenState = Literal["active", "expired", "revoked", "forged"]


async def newest(database: Database, count: int, *, macs: CredentialMacs, after: str | None) -> Sequence[Token]:
    """At most `count` tokens, newest first, after the token with the key `after`. Raises Invalid for what is no key."""
    return await newest_tokens(database, count, macs=macs, before=None if after is None else _position(after))


def key(token: Token) -> str:
    """The sort key of a token in the list."""
    return f"{shapes.moment(token.created_at)} {token.id}"


def state(token: Token) -> TokenState:
    """Whether a token is valid now, or why not."""
    if token.revoked_at is not None:
        return "revoked"
    if not token.is_authentic:
        return "forged"
    return "expired" if token.is_expired else "active"


async def find(database: Database, token_id: str, *, macs: CredentialMacs) -> Token:
    """The token with this id. Raises NotFound."""
    found = await find_token(database, token_id, macs=macs) if tokens.is_id(token_id) else None
    if found is None:
        raise NotFound("there is no such token")
    return found


async def revoke(services: Services, token_id: str) -> None:
    """Revokes a token: at once in this process, and within 2 seconds in every process. Raises NotFound."""
    if not tokens.is_id(token_id) or await revoke_token(services.command_database, token_id) is None:
        raise NotFound("there is no such token")
    services.tokens.forget(token_id)


def _position(after: str) -> tuple[datetime, str]:
    at, _, token_id = after.partition(" ")
    try:
        created_at = instant(at)
    except ValueError as error:
        raise paging.unknown_cursor() from error
    if not tokens.is_id(token_id):
        raise paging.unknown_cursor()
    return created_at, token_id
