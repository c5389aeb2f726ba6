"""API tokens: list, create, revoke. For the administrator alone: whoever can make a token can do everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from aiohttp import web
from pydantic import ConfigDict, Field

from daemon import tokens
from daemon.commands import Invalid
from daemon.core.event import Problem as FieldProblem
from daemon.core.scope import Kind
from daemon.core.token_draft import MAX_NAME_CHARACTERS, TokenDraft, check
from daemon.web import paging, shapes, token_book
from daemon.web.access.auth import CALLER
from daemon.web.api import token_shapes
from daemon.web.api.token_shapes import CreatedTokenShape, TokenShape
from daemon.web.endpoints import Access, endpoint
from daemon.web.forms import BaseForm, Text, read
from daemon.web.services import SERVICES, Services


class NewToken(BaseForm):
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
        stand_in = {"scope": Kind.PRODUCER.value}  # which may have a tenant, and need not
        found = _checked(cls.model_validate({**stand_in, **sound}), services)
        return () if isinstance(found, TokenDraft) else [problem for problem in found if problem.field in sound]


@endpoint(Access.ADMIN, *paging.QUERY, answers={200: paging.Page[TokenShape]})
async def list_tokens(request: web.Request) -> web.Response:
    """All tokens, newest first: those that were revoked or have expired too."""
    found = await token_book.newest(request.app[SERVICES], paging.limit(request) + 1, after=paging.cursor(request))
    items, after = paging.first(request, found, key=token_book.key)
    page: paging.Page[TokenShape] = {"items": [token_shapes.of_token(each) for each in items], "next": after}
    return shapes.answer(page)


@endpoint(Access.ADMIN, takes=NewToken, answers={201: CreatedTokenShape})
async def create(request: web.Request) -> web.Response:
    """A new token: the answer shows it this once."""
    form = await read(request, NewToken)
    services = request.app[SERVICES]
    draft = _checked(form, services)
    if not isinstance(draft, TokenDraft):
        raise Invalid(draft)
    made, text = await tokens.create(services.database, draft, created_by=request[CALLER].actor)
    body: CreatedTokenShape = {**token_shapes.of_token(made), "token": text}
    return shapes.answer(body, status=201, headers={"Location": f"/v1/tokens/{made.id}"})


@endpoint(Access.ADMIN, answers={204: None}, refuses=(404,))
async def revoke_token(request: web.Request) -> web.Response:
    """Ends a token for good: it is dead in this process at once, and within 2 seconds everywhere."""
    await token_book.revoke(request.app[SERVICES], request.match_info["token"])
    return web.Response(status=204)


def _checked(form: NewToken, services: Services) -> TokenDraft | tuple[FieldProblem, ...]:
    return check(scope=form.scope, tenant=form.tenant, name=form.name, expires=form.expires, now=services.now())
