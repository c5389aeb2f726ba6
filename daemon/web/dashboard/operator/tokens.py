"""API tokens: the list, the form for a new token, which is shown once, and revoking a token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from aiohttp import web

from daemon.commands import Invalid
from daemon.core.drafts.scope import Scope, ScopeKind
from daemon.core.drafts.token_draft import TokenDraft, check
from daemon.core.events.event import FieldProblem
from daemon.credentials import tokens
from daemon.web.access.auth import CALLER
from daemon.web.access.queries import query_database
from daemon.web.dashboard import form_data
from daemon.web.dashboard.form_data import FormData, FormErrors
from daemon.web.dashboard.html.rendering import redirect, render
from daemon.web.dashboard.pages import page
from daemon.web.http import paging
from daemon.web.http.endpoints import Access
from daemon.web.http.services import SERVICES
from daemon.web.service.operator import token_pages
from eventstore.access.tokens import Token

PAGE_SIZE = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class ScopeChoice:
    """A kind of token as the form offers it."""

    label: str
    text: str


CHOICES: Mapping[ScopeKind, ScopeChoice] = {
    ScopeKind.PRODUCER: ScopeChoice(
        label="Publish events", text="For the platform: it publishes events, and reads nothing."
    ),
    ScopeKind.TENANT: ScopeChoice(
        label="Manage one tenant", text="For a merchant’s own programs: webhooks, keys and deliveries of one tenant."
    ),
    ScopeKind.AUDITOR: ScopeChoice(
        label="Look, change nothing", text="For support: reads webhooks and deliveries, but no keys."
    ),
    ScopeKind.METRICS: ScopeChoice(label="Read metrics", text="For Prometheus: /metrics, and nothing else."),
    ScopeKind.ADMIN: ScopeChoice(label="Everything", text="Can do whatever can be done here, and make more tokens."),
}

LIVES: Mapping[str, str] = {
    "30d": "in 30 days",
    "90d": "in 90 days",
    "365d": "in a year",
    "never": "never",
    "other": "at another time…",
}

_EMPTY = FormData({"scope": [ScopeKind.PRODUCER], "expires": ["90d"]})


@page(Access.ADMIN)
async def show(request: web.Request) -> web.Response:
    """All tokens, the newest first."""
    return await _page(request, _EMPTY)


@page(Access.ADMIN)
async def create(request: web.Request) -> web.Response:
    """Makes a token, and shows it only once."""
    form = await form_data.read(request)
    services, tenant = request.app[SERVICES], form.one("tenant").strip() or None
    draft = check(
        scope=form.one("scope"),
        tenant=tenant,
        name=form.one("name").strip(),
        expires=_expiry(form),
        now=services.now(),
    )
    if not isinstance(draft, TokenDraft):
        return await _page(request, form, form_errors=FormErrors([_in_form(each, tenant) for each in draft]))
    made, text = await tokens.create(
        services.command_database, draft, created_by=request[CALLER].actor, macs=services.keychain.macs
    )
    return render(request, "operator/token_created.html", made=made, scope=scope_of(made), text=text)


@page(Access.ADMIN)
async def ask_revoke(request: web.Request) -> web.Response:
    """Asks whether to revoke a token, and says what that means."""
    macs = request.app[SERVICES].keychain.macs
    found = await token_pages.find(query_database(request), request.match_info["token"], macs=macs)
    return render(
        request, "operator/token_revoke.html", token=found, scope=scope_of(found), state=token_pages.state(found)
    )


@page(Access.ADMIN)
async def revoke(request: web.Request) -> web.Response:
    """Revokes a token for good."""
    await token_pages.revoke(request.app[SERVICES], request.match_info["token"])
    return redirect(request, "operator", "tokens", done="token_revoked")


def scope_of(token: Token) -> Scope:
    return Scope(kind=ScopeKind(token.kind), tenant=token.tenant)


async def _page(request: web.Request, form: FormData, *, form_errors: FormErrors | None = None) -> web.Response:
    try:
        found = await token_pages.newest(
            query_database(request),
            PAGE_SIZE + 1,
            macs=request.app[SERVICES].keychain.macs,
            after=paging.decoded(request.query.get("after", "")),
        )
    except Invalid:
        return redirect(request, "operator", "tokens")
    return render(
        request,
        "operator/tokens.html",
        status=422 if form_errors else 200,
        tokens=[(token, scope_of(token), token_pages.state(token)) for token in found[:PAGE_SIZE]],
        after=paging.encoded(token_pages.key(found[PAGE_SIZE - 1])) if len(found) > PAGE_SIZE else None,
        is_first="after" not in request.query,
        form=form,
        form_errors=form_errors or FormErrors(),
        choices=CHOICES,
        lives=LIVES,
    )


def _in_form(problem: FieldProblem, tenant: str | None) -> FieldProblem:
    """The problem in the words of the form: here the tenant has a field of its own, and is not part of the scope."""
    is_missing = problem.field == "tenant" and tenant is None
    return replace(problem, message="is missing: name the tenant that it stands for") if is_missing else problem


def _expiry(form: FormData) -> str | None:
    """The expiry as the API takes it; None for never."""
    chosen = form.one("expires")
    return None if chosen == "never" else form.one("expires_other").strip() if chosen == "other" else chosen
