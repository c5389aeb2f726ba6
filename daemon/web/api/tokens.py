"""API tokens: list, create, revoke. For the administrator alone: whoever can make a token can do everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from aiohttp import web
from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

from daemon import tokens
from daemon.commands import Invalid
from daemon.core.drafts.scope import Scope, ScopeKind
from daemon.core.drafts.token_draft import MAX_NAME_CHARACTERS, TokenDraft, check
from daemon.core.events.event import FieldProblem
from daemon.web.access.auth import CALLER
from daemon.web.forms.request_forms import BaseForm, Text, read
from daemon.web.http import paging, shapes
from daemon.web.http.endpoints import Access, endpoint
from daemon.web.http.services import SERVICES, Services
from daemon.web.http.shapes import Moment, moment
from daemon.web.service import token_pages
from daemon.web.service.token_pages import TokenState, state
from eventstore.access.tokens import Token

# Tokens as the API and the command line show them. The token itself is shown once, to whoever has made it.


class TokenShape(TypedDict):
    """A token, but not the secret. `last_used_at` is exact to the minute."""

    id: Annotated[str, Field(pattern="^[0-9a-f]{12}$", examples=["5f2c9a0e41b7"])]
    scope: Annotated[str, Field(examples=["producer:acme"])]
    name: Annotated[str, Field(examples=["shop backend"])]
    status: TokenState
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
        "scope": str(Scope(kind=ScopeKind(token.kind), tenant=token.tenant)),
        "name": token.name,
        "status": state(token),
        "created_at": moment(token.created_at),
        "created_by": token.created_by,
        "expires_at": moment(token.expires_at),
        "revoked_at": moment(token.revoked_at),
        "last_used_at": moment(token.last_used_at),
    }


class TokenForm(BaseForm):
    """What POST takes. `expires` is a time or a span like 30d; left out, the token is good until it is revoked."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"scope": "producer:acme", "expires": "30d"}]})

    scope: Annotated[
        Text,
        Field(description="admin, producer[:tenant], tenant:<id>, auditor[:tenant] or metrics", examples=["admin"]),
    ]
    tenant: Annotated[Text | None, Field(description="the scope's, if it is not named there")] = None
    name: Annotated[
        Text, Field(description="what people know it by", json_schema_extra={"maxLength": MAX_NAME_CHARACTERS})
    ] = ""
    expires: Text | None = None

    @classmethod
    def wrong_in_meaning(cls, sound: Mapping[str, object], services: Services) -> Sequence[FieldProblem]:
        stand_in = {"scope": ScopeKind.PRODUCER.value}  # which may have a tenant, and need not
        found = _checked(cls.model_validate({**stand_in, **sound}), services)
        return () if isinstance(found, TokenDraft) else [problem for problem in found if problem.field in sound]


@endpoint(Access.ADMIN, *paging.QUERY, answers={200: paging.Page[TokenShape]})
async def list_tokens(request: web.Request) -> web.Response:
    """All tokens, newest first: those that were revoked or have expired too."""
    found = await token_pages.newest(request.app[SERVICES], paging.limit(request) + 1, after=paging.cursor(request))
    items, after = paging.first(request, found, key=token_pages.key)
    page: paging.Page[TokenShape] = {"items": [of_token(each) for each in items], "next": after}
    return shapes.answer(page)


@endpoint(Access.ADMIN, takes=TokenForm, answers={201: CreatedTokenShape})
async def create(request: web.Request) -> web.Response:
    """A new token: the answer shows it this once."""
    form = await read(request, TokenForm)
    services = request.app[SERVICES]
    draft = _checked(form, services)
    if not isinstance(draft, TokenDraft):
        raise Invalid(draft)
    made, text = await tokens.create(services.database, draft, created_by=request[CALLER].actor)
    body: CreatedTokenShape = {**of_token(made), "token": text}
    return shapes.answer(body, status=201, headers={"Location": f"/v1/tokens/{made.id}"})


@endpoint(Access.ADMIN, answers={204: None}, refuses=(404,))
async def revoke_token(request: web.Request) -> web.Response:
    """Ends a token for good: it is dead in this process at once, and within 2 seconds everywhere."""
    await token_pages.revoke(request.app[SERVICES], request.match_info["token"])
    return web.Response(status=204)


def _checked(form: TokenForm, services: Services) -> TokenDraft | tuple[FieldProblem, ...]:
    return check(scope=form.scope, tenant=form.tenant, name=form.name, expires=form.expires, now=services.now())
