"""Tokens as the API and the command line show them. The token itself is shown once, to whoever has made it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from typing_extensions import TypedDict

from daemon.core.scope import Kind, Scope
from daemon.web.shapes import Moment, moment
from daemon.web.token_book import State, state
from eventstore.tokens import Token


class TokenShape(TypedDict):
    """A token, but not the secret. `last_used_at` is exact to the minute."""

    id: Annotated[str, Field(pattern="^[0-9a-f]{12}$", examples=["5f2c9a0e41b7"])]
    scope: Annotated[str, Field(examples=["producer:acme"])]
    name: Annotated[str, Field(examples=["shop backend"])]
    status: State
    created_at: Moment
    created_by: Annotated[str, Field(examples=["admin"])]
    expires_at: Annotated[Moment | None, Field(examples=[None])]
    revoked_at: Annotated[Moment | None, Field(examples=[None])]
    last_used_at: Annotated[Moment | None, Field(examples=[None])]


class CreatedTokenShape(TokenShape):
    """A token that was just made. `token` is shown this once: send it as `Authorization: Bearer …`."""

    token: Annotated[str, Field(examples=["hl_producer_5f2c9a0e41b7_" + "9f86d081884c7d65" * 4])]


def of_token(token: Token) -> TokenShape:
    return {
        "id": token.id,
        "scope": str(Scope(kind=Kind(token.kind), tenant=token.tenant)),
        "name": token.name,
        "status": state(token),
        "created_at": moment(token.created_at),
        "created_by": token.created_by,
        "expires_at": moment(token.expires_at),
        "revoked_at": moment(token.revoked_at),
        "last_used_at": moment(token.last_used_at),
    }
