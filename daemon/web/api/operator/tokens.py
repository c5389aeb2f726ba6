"""API tokens: list, create, revoke. For the administrator only, since a caller who creates tokens has all access.

The command line shows tokens in the same shapes. The secret of a token is shown once, when it is created.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from aiohttp import web
from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

from daemon.commands import Invalid
from daemon.core.drafts.scope import Scope, ScopeKind
from daemon.core.drafts.token_draft import MAX_NAME_CHARACTERS, TokenDraft, check
from daemon.core.events.event import FieldProblem
from daemon.credentials import tokens
from daemon.web.access.auth import CALLER
from daemon.web.access.queries import query_database
from daemon.web.forms.request_forms import BaseForm, Text, read
from daemon.web.http import paging, shapes
from daemon.web.http.endpoints import Access, endpoint
from daemon.web.http.services import SERVICES, Services
from daemon.web.http.shapes import Moment, moment
from daemon.web.service.operator import token_pages
from daemon.web.service.operator.token_pages import TokenState, state
from eventstore.access.tokens import Token


class TokenShape(TypedDict):
    """A token without its secret. `last_used_at` is exact to the minute. One that is `forged` was written into the
    database by somebody else, or changed there, and opens nothing.
    """

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
    """A new token. `token` is shown only this once: send it as `Authorization: Bearer …`."""

    token: Annotated[str, Field(examples=["hl_producer_5f2c9a0e41b7_" + "9f86d081884c7d65" * 4])]


def of_token(token: Token) -> TokenShape:
    """A token without its secret."""
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
    """A new token. `expires` is a time or a duration like 30d. Without it the token is valid until it is revoked."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"scope": "producer:acme", "expires": "30d"}]})

    scope: Annotated[
        Text,
        Field(description="admin, producer[:tenant], tenant:<id>, auditor[:tenant] or metrics", examples=["admin"]),
    ]
    tenant: Annotated[Text | None, Field(description="the tenant of the scope, if `scope` does not have it")] = None
    name: Annotated[
        Text, Field(description="the name that people see", json_schema_extra={"maxLength": MAX_NAME_CHARACTERS})
    ] = ""
    expires: Text | None = None

    @classmethod
    def semantic_problems(cls, well_formed: Mapping[str, object], services: Services) -> Sequence[FieldProblem]:
        stand_in = {"scope": ScopeKind.PRODUCER.value}  # with or without a tenant
        found = _checked(cls.model_validate({**stand_in, **well_formed}), services)
        return () if isinstance(found, TokenDraft) else [problem for problem in found if problem.field in well_formed]


@endpoint(Access.ADMIN, *paging.QUERY, answers={200: paging.Page[TokenShape]})
async def list_tokens(request: web.Request) -> web.Response:
    """All tokens, newest first, also those that were revoked or have expired."""
    found = await token_pages.newest(
        query_database(request),
        paging.limit(request) + 1,
        macs=request.app[SERVICES].keychain.macs,
        after=paging.cursor(request),
    )
    items, after = paging.first(request, found, key=token_pages.key)
    page: paging.Page[TokenShape] = {"items": [of_token(each) for each in items], "next": after}
    return shapes.answer(page)


@endpoint(Access.ADMIN, takes=TokenForm, answers={201: CreatedTokenShape})
async def create(request: web.Request) -> web.Response:
    """Creates a token. Only this answer shows its secret."""
    form = await read(request, TokenForm)
    services = request.app[SERVICES]
    draft = _checked(form, services)
    if not isinstance(draft, TokenDraft):
        raise Invalid(draft)
    token, text = await tokens.create(
        services.command_database, draft, created_by=request[CALLER].actor, macs=services.keychain.macs
    )
    body: CreatedTokenShape = {**of_token(token), "token": text}
    return shapes.answer(body, status=201, headers={"Location": f"/v1/tokens/{token.id}"})


@endpoint(Access.ADMIN, answers={204: None}, refuses=(404,))
async def revoke_token(request: web.Request) -> web.Response:
    """Revokes a token: at once in this process, and within 2 seconds in every process."""
    await token_pages.revoke(request.app[SERVICES], request.match_info["token"])
    return web.Response(status=204)


def _checked(form: TokenForm, services: Services) -> TokenDraft | tuple[FieldProblem, ...]:
    return check(scope=form.scope, tenant=form.tenant, name=form.name, expires=form.expires, now=services.now())
