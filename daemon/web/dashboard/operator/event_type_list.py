"""Replaces the whole catalogue: a list is pasted as JSON, compared with the present catalogue, and then stored."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from daemon.catalogue import difference, sample_types
from daemon.commands import Invalid
from daemon.core.events.catalogue import MAX_TYPES, TypeDraft
from daemon.core.events.event import FieldProblem
from daemon.web.access.queries import query_database
from daemon.web.dashboard import form_data
from daemon.web.dashboard.form_data import FormData, FormErrors
from daemon.web.dashboard.html.rendering import redirect, render
from daemon.web.dashboard.html.text import whole_number
from daemon.web.dashboard.pages import page
from daemon.web.forms.catalogue_forms import drafts_of
from daemon.web.http.endpoints import Access
from daemon.web.http.problems import Problem
from daemon.web.http.services import SERVICES
from eventstore.domain_events import catalogue
from eventstore.postgres.errors import VersionConflict


@page(Access.ADMIN)
async def show(request: web.Request) -> web.Response:
    """The empty form."""
    return await _page(request, FormData({}))


@page(Access.ADMIN)
async def submit(request: web.Request) -> web.Response:
    """Compares the list with the catalogue, or replaces the catalogue with it.

    It replaces only the edition that the list was compared with, so that no change by somebody else is lost unseen.
    """
    form, services = await form_data.read(request), request.app[SERVICES]
    if form.one("intent") == "sample":
        form = FormData({"types": [sample_types().decode()], "edition": ["0"], "intent": ["replace"]})
    try:
        drafts = _drafts(form.one("types"))
    except Invalid as error:
        return await _page(request, form, form_errors=FormErrors.of(error))
    if form.one("intent") != "replace":
        return await _page(request, form, drafts=drafts)
    try:
        await services.catalogue.replace(drafts, edition=_edition(form))
    except VersionConflict:
        return await _page(request, form, drafts=drafts, is_changed=True)
    return redirect(request, "operator", "event-types", done="types_replaced")


async def _page(
    request: web.Request,
    form: FormData,
    *,
    drafts: Sequence[TypeDraft] | None = None,
    form_errors: FormErrors | None = None,
    is_changed: bool = False,
) -> web.Response:
    edition, rows = await catalogue.entries(query_database(request))
    return render(
        request,
        "operator/event_type_list.html",
        status=409 if is_changed else 422 if form_errors else 200,
        form=form,
        edition=edition,
        total=len(rows),
        max_types=MAX_TYPES,
        difference=None if drafts is None else difference(rows, drafts),
        form_errors=form_errors or FormErrors(),
        is_changed=is_changed,
    )


def _drafts(text: str) -> list[TypeDraft]:
    """The types in the text of the field. Raises Invalid."""
    if not text.strip():
        raise Invalid((FieldProblem(field="types", message="is empty: paste a JSON list of event types"),))
    try:
        return drafts_of(text.encode())
    except Problem as error:
        raise Invalid((FieldProblem(field="types", message=error.detail.removeprefix("the body ")),)) from error


def _edition(form: FormData) -> int:
    """The edition that the list was compared with; -1, which no catalogue has, if the field is not a number."""
    edition = whole_number(form.one("edition"))
    return -1 if edition is None else edition
