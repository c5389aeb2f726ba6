"""Login links: a platform's own button leads a merchant into the dashboard, with their name and for a purpose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

from aiohttp import web
from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

from daemon.commands import Invalid
from daemon.core.drafts import login_link_draft
from daemon.core.drafts.login_link_draft import (
    DEFAULT_SECONDS,
    MAX_ACTOR_CHARACTERS,
    MAX_SECONDS,
    MAX_URL_CHARACTERS,
    DashboardRole,
    LoginLinkDraft,
)
from daemon.core.events.event import FieldProblem
from daemon.web.access import sessions
from daemon.web.access.auth import CALLER
from daemon.web.forms.request_forms import BaseForm, Text, read
from daemon.web.http import shapes
from daemon.web.http.endpoints import Access, endpoint
from daemon.web.http.problems import Problem
from daemon.web.http.services import SERVICES, Services
from daemon.web.http.shapes import Moment


class LoginLinkShape(TypedDict):
    """A link that works once, until `expires_at`: redirect the merchant's browser to it at once."""

    url: Annotated[str, Field(examples=["https://hooks.example.com/login/Tq1…"])]
    expires_at: Moment


class LoginLinkForm(BaseForm):
    """Who comes in, and what they may do there. `view` sees everything but keys, and changes nothing."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"actor": "jane@shop.example.com", "role": "view"}]})

    actor: Annotated[
        Text,
        Field(
            description="who stands in history and activity for what is done: printable, and no name of our own",
            json_schema_extra={"minLength": 1, "maxLength": MAX_ACTOR_CHARACTERS},
        ),
    ]
    role: Annotated[Text, Field(json_schema_extra={"enum": list(DashboardRole)})] = DashboardRole.MANAGE
    valid_seconds: Annotated[int, Field(json_schema_extra={"minimum": 1, "maximum": MAX_SECONDS})] = DEFAULT_SECONDS
    return_url: Annotated[
        Text | None,
        Field(
            description="where it leads back to, instead of `dashboard.return_url`: https, or http on loopback",
            json_schema_extra={"maxLength": MAX_URL_CHARACTERS},
        ),
    ] = None
    path: Annotated[
        Text | None,
        Field(
            description="the page of this tenant to begin with, like /webhooks/new",
            json_schema_extra={"maxLength": MAX_URL_CHARACTERS},
        ),
    ] = None

    @classmethod
    def semantic_problems(cls, well_formed: Mapping[str, object], services: Services) -> Sequence[FieldProblem]:  # noqa: ARG003
        found = _checked(cls.model_validate({"actor": "-", **well_formed}), tenant="-")
        return () if isinstance(found, LoginLinkDraft) else [it for it in found if it.field in well_formed]


@endpoint(Access.MANAGE, takes=LoginLinkForm, answers={201: LoginLinkShape})
async def create(request: web.Request) -> web.Response:
    """Makes a link into the dashboard of this tenant. Looking at it uses nothing up; the button of its page does."""
    form, tenant, caller = await read(request, LoginLinkForm), request.match_info["tenant"], request[CALLER]
    if caller.session is not None and caller.tenant is not None:
        raise Problem(403, "a session of the dashboard makes no login links, which would outlive it: send a token")
    draft = _checked(form, tenant)
    if not isinstance(draft, LoginLinkDraft):
        raise Invalid(draft)
    services = request.app[SERVICES]
    made = await sessions.new_link(
        services.command_database,
        services.config.server,
        draft,
        tenant=tenant,
        created_by=caller.actor,
        macs=services.keychain.macs,
    )
    body: LoginLinkShape = {"url": made.url, "expires_at": shapes.moment(made.expires_at)}
    return shapes.answer(body, status=201, headers={"Location": made.url})


def _checked(form: LoginLinkForm, tenant: str) -> LoginLinkDraft | tuple[FieldProblem, ...]:
    return login_link_draft.check(
        tenant,
        actor=form.actor,
        role=form.role,
        valid_seconds=form.valid_seconds,
        return_url=form.return_url,
        path=form.path,
    )
