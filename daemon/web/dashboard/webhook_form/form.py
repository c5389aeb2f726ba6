"""Creates and edits webhooks with one form.

Two people may edit a webhook at once. The form contains the version with which it was opened. If there is a newer
version when it is sent, nothing is saved. The form is shown again: with the changes of the other person, with the new
version, and with untouched fields as they are now. Saving it once more then overwrites knowingly.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import replace

from aiohttp import web

from daemon.commands import Conflict, Invalid, Stale, TooManyCommands
from daemon.core.drafts import route_draft
from daemon.core.drafts.route_draft import RouteDraft
from daemon.core.events.event import FieldProblem
from daemon.core.routing.route import Route
from daemon.deliveries import preview
from daemon.web.access.queries import query_database
from daemon.web.dashboard import form_data, pages
from daemon.web.dashboard.form_data import FORM_ID_FIELD, FormData, FormErrors, new_form_id
from daemon.web.dashboard.html.rendering import redirect
from daemon.web.dashboard.html.text import in_merchants_words, whole_number
from daemon.web.dashboard.pages import context, page
from daemon.web.dashboard.webhook_form import form_fields, form_page, previews
from daemon.web.dashboard.webhook_form.form_fields import RouteTexts, errors_in_order
from daemon.web.dashboard.webhook_form.form_page import FormPage
from daemon.web.dashboard.webhooks import history_rows
from daemon.web.http.endpoints import Access
from daemon.web.http.problems import Problem
from daemon.web.http.services import SERVICES
from daemon.web.http.shapes import MASK
from daemon.web.service import lookup
from eventstore import route_log


@page(Access.MANAGE)
async def new(request: web.Request) -> web.Response:
    """The empty form; with `?copy=` filled in from another webhook, which may be deleted."""
    copied, texts = _copied(request), RouteTexts()
    if copied is not None:
        texts = form_fields.of_config(copied.config, values="")
        texts = replace(texts, name=f"Copy of {texts.name}"[: route_draft.MAX_NAME_CHARACTERS])
    return await form_page.show(request, FormPage(texts=texts, copied=copied, form_id=new_form_id()))


@page(Access.MANAGE)
async def create(request: web.Request) -> web.Response:
    """Creates a webhook. The same form sent twice creates one."""
    form = await form_data.read(request)
    texts = form_fields.of_form(form)
    form_id = form.one(FORM_ID_FIELD) or new_form_id()
    submitted = FormPage(texts=texts, form=form, copied=_copied(request), form_id=form_id)
    if not _is_to_be_saved(form):
        return await _previewed(request, submitted)
    reading = form_fields.read(texts)
    drafted = preview.drafted(None, reading.values, mask=MASK)
    tenant = request.match_info["tenant"]
    try:
        await _check(request, drafted, reading.problems)
        command_context = context(request, request_id=_request_id(tenant, form_id, form))
        created = await request.app[SERVICES].commands.create(tenant, drafted, command_context)
    except Invalid as error:
        return await form_page.show(
            request, replace(submitted, form_errors=errors_in_order(error.problems)), status=422
        )
    except (Conflict, TooManyCommands) as error:
        return await _refused(request, submitted, error)
    notice = "created" if texts.enabled else "created_disabled"
    return redirect(request, "t", tenant, "webhooks", done=notice, saved=str(created.route.id))


@page(Access.MANAGE)
async def edit(request: web.Request) -> web.Response:
    """The form with the present configuration."""
    route = lookup.live_route(request)
    return await form_page.show(request, FormPage(texts=form_fields.of_config(route.config), route=route))


@page(Access.MANAGE)
async def save(request: web.Request) -> web.Response:
    """Saves the touched fields, unless somebody else changed the webhook since the form was opened."""
    form = await form_data.read(request)
    route = lookup.live_route(request)
    opened = _opened(request, form, route)
    submitted = FormPage(texts=form_fields.of_form(form), form=form, route=opened)
    if not _is_to_be_saved(form):
        return await _previewed(request, submitted)
    if opened.version != route.version:
        return await _conflict(request, submitted, opened)
    try:
        notice = await _saved(request, submitted, route)
    except Invalid as error:
        return await form_page.show(
            request, replace(submitted, form_errors=errors_in_order(error.problems)), status=422
        )
    except Stale:
        return await _conflict(request, submitted, opened)
    except (Conflict, TooManyCommands) as error:
        return await _refused(request, submitted, error)
    return redirect(request, "t", route.tenant, "webhooks", done=notice, saved=str(route.id))


async def _saved(request: web.Request, submitted: FormPage, route: Route) -> str:
    """Saves the fields that differ from the route, and names the notice. Raises Invalid and Stale."""
    services = request.app[SERVICES]
    names = form_fields.touched(form_fields.of_config(route.config), submitted.texts)
    reading = form_fields.read(submitted.texts, stored_headers=route.config.header_names)
    changes = form_fields.only(reading.values, names)
    problems = [problem for problem in reading.problems if form_fields.field_of(problem) in names]
    drafted = preview.drafted(route, form_fields.masked(changes), mask=MASK)
    await _check(request, drafted, [*problems, *_reason_problems(request, submitted.form)], stored=route)
    if not changes:
        return "unchanged"
    command_context = context(request, reason=pages.reason(request, submitted.form), if_version=route.version)
    await services.commands.edit(route.tenant, route.id, changes, command_context)
    return "edited"


async def _check(
    request: web.Request, drafted: RouteDraft, problems: Sequence[FieldProblem], *, stored: Route | None = None
) -> None:
    """Raises Invalid with everything that is wrong: the problems of reading the texts, and those of the draft, which
    may change the route `stored`.
    """
    services = request.app[SERVICES]
    known = () if stored is None else stored.config.event_types
    known_types = await services.catalogue.known_types()
    draft_problems = route_draft.check(
        drafted,
        tenant=request.match_info["tenant"],
        policy=services.config.egress_policy,
        signing_header=services.config.signing.header,
        known_types=None if known_types is None else known_types.including(known),
        kept_target=None if stored is None else stored.config.target_url,
    )
    if problems or draft_problems:
        raise Invalid((*problems, *draft_problems))


async def _refused(request: web.Request, submitted: FormPage, error: Conflict | TooManyCommands) -> web.Response:
    """The form as it was sent, with what keeps it from being saved: nothing that was typed is lost."""
    form_errors = FormErrors([FieldProblem(field="", message=in_merchants_words(error.for_people))])
    status = 429 if isinstance(error, TooManyCommands) else 409
    response = await form_page.show(request, replace(submitted, form_errors=form_errors), status=status)
    if isinstance(error, TooManyCommands):
        response.headers["Retry-After"] = str(error.retry_after_seconds)
    return response


def _reason_problems(request: web.Request, form: FormData) -> Sequence[FieldProblem]:
    try:
        pages.reason(request, form)
    except Invalid as error:
        return error.problems
    return ()


async def _previewed(request: web.Request, submitted: FormPage) -> web.Response:
    """The form as it was sent, with a preview or other types to choose from: for browsers without scripts."""
    if submitted.form.one("intent") != "preview":
        return await form_page.show(request, submitted)
    try:
        view, errors = await previews.build(request, submitted.form, submitted.route)
    except Problem as error:  # too many previews: the form is still shown as it was sent
        view, errors = None, FormErrors([FieldProblem(field="sample_type", message=error.detail)])
    return await form_page.show(request, replace(submitted, preview=view, preview_errors=errors))


async def _conflict(request: web.Request, submitted: FormPage, opened: Route) -> web.Response:
    """The form merged with the present configuration, and the events since it was opened. Nothing is saved."""
    services = request.app[SERVICES]
    live = lookup.live_route(request)
    events = await route_log.history(query_database(request), live.id, after_version=opened.version)
    before, now = (form_fields.of_config(each.config) for each in (opened, live))
    texts = form_fields.merged(before, submitted.texts, now)
    their_fields = form_fields.touched(before, now)
    if opened.config.headers_id != live.config.headers_id:  # the same names with other values
        their_fields |= {"headers"}
    conflicts = form_fields.touched(before, submitted.texts) & their_fields & form_fields.touched(now, texts)
    submitted = replace(
        submitted,
        route=live,
        texts=texts,
        concurrent_changes=tuple(history_rows.rows(events[::-1], services.index)),
        conflicts=conflicts,
    )
    return await form_page.show(request, submitted, status=409)


def _copied(request: web.Request) -> Route | None:
    """The webhook of `?copy=`, from which a new one is filled in. Raises NotFound."""
    text = request.query.get("copy")
    if not text:
        return None
    return lookup.timeline_by_id(request, text).current


def _opened(request: web.Request, form: FormData, route: Route) -> Route:
    """The route as it was when the form was opened; as it is now if the form has no known version."""
    version = whole_number(form.one("version"))
    opened = None if version is None else lookup.timeline(request).of_version(version)
    return route if opened is None else opened


def _is_to_be_saved(form: FormData) -> bool:
    """False for the buttons that show a preview, find types or choose them singly. Enter saves, unless the form has a
    field that finds types: it may have been pressed there, and never saves from there.
    """
    match form.one("intent").partition(":")[0]:
        case "preview" | "find" | "single":
            return False
        case "enter":
            return "found" not in form.fields
        case _:
            return True


def _request_id(tenant: str, form_id: str, form: FormData) -> str:
    """The idempotency key of a form with its content, whichever button sent it. It is a keyed hash, as the content may
    hold secrets.
    """
    content = repr(sorted((name, texts) for name, texts in form.fields.items() if name != "intent")).encode()
    return hmac.new(f"{tenant}\n{form_id}".encode(), content, hashlib.sha256).hexdigest()
