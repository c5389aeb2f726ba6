"""What all pages share: the access they declare, the context of their commands, and problems as pages."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from daemon.commands import Context
from daemon.web.access import auth
from daemon.web.access.auth import CALLER, may
from daemon.web.dashboard.error_page import show
from daemon.web.dashboard.form_data import FormData
from daemon.web.dashboard.html.rendering import redirect
from daemon.web.forms import request_forms
from daemon.web.forms.request_forms import Command
from daemon.web.http.endpoints import Access, Endpoint, RateLimit, declared, endpoint
from daemon.web.http.problems import Problem
from daemon.web.http.services import SERVICES

# Paths for programs: a problem there is problem+json, whatever the request accepts.
_API = ("/v1/", "/openapi.json", "/healthz", "/readyz", "/metrics")


def page(access: Access, *, limit: RateLimit | None = None) -> Callable[[Endpoint], Endpoint]:
    """Declares a handler that answers with a page."""
    return endpoint(access, limit=limit, is_page=True)


def context(
    request: web.Request, *, reason: str | None = None, if_version: int | None = None, request_id: str | None = None
) -> Context:
    """The context of a command that is issued from a page."""
    return auth.context(request, reason=reason, if_version=if_version, request_id=request_id, causation_id=request_id)


def reason(request: web.Request, form: FormData) -> str | None:
    """The reason that was entered for a command; None if the field is empty. Raises Invalid."""
    text = form.one("reason").strip()
    return request_forms.validated(Command, {"reason": text}, request.app[SERVICES]).reason if text else None


def wants_part(request: web.Request) -> bool:
    """True if page.js requests only a part of the page."""
    return request.headers.get("X-Fragment") == "1"


async def page_of(request: web.Request, problem: Problem) -> web.Response | None:
    """The problem as a page; None if the request came from a program, which gets problem+json."""
    declaration = declared(request.match_info.handler)
    is_page = declaration is not None and declaration.is_page
    if "text/html" not in request.headers.get("Accept", "") or (not is_page and request.path.startswith(_API)):
        return None
    return await show(request, problem, is_part=wants_part(request))


@page(Access.ANYBODY)
async def home(request: web.Request) -> web.Response:
    """Redirects merchants to their webhooks, and operators to their first page."""
    caller = request[CALLER]
    if caller.tenant is not None:
        return redirect(request, "t", caller.tenant, "webhooks")
    return redirect(request, "operator", *(() if may(caller.scope, Access.ADMIN) else ("status",)))


@page(Access.READ)
async def home_of_tenant(request: web.Request) -> web.Response:
    """Redirects to the first page of a tenant, as from an address of which somebody has cut off the end."""
    return redirect(request, "t", request.match_info["tenant"], "webhooks")
