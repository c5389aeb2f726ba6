"""Creating and editing a webhook, by one form.

Two may edit at once. The form knows the version it was opened with; if there is a newer one by the time it is sent,
nothing is saved: it comes back with what the other changed, with fields that were left alone as they are now, and with
the new version, so that saving it once more is done knowingly.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Sequence
from dataclasses import replace

from aiohttp import web

from daemon import preview
from daemon.commands import Invalid, Stale
from daemon.core.drafts import route_draft
from daemon.core.drafts.route_draft import RouteDraft
from daemon.core.events.event import FieldProblem
from daemon.core.routing.route import Route
from daemon.web.dashboard import form_data, pages
from daemon.web.dashboard.form_data import ONCE_FIELD, FormData, FormErrors, new_form_id
from daemon.web.dashboard.pages import context, page
from daemon.web.dashboard.rendering import redirect
from daemon.web.dashboard.text import whole_number
from daemon.web.dashboard.webhook_form import form_fields, previews
from daemon.web.dashboard.webhook_form.form_fields import RouteTexts, placed
from daemon.web.dashboard.webhook_form.form_page import FormPage, answer
from daemon.web.dashboard.webhooks import history_rows
from daemon.web.http.endpoints import Access
from daemon.web.http.problems import Problem
from daemon.web.http.services import SERVICES
from daemon.web.http.shapes import MASK
from daemon.web.service import lookup
from eventstore import route_log


@page(Access.MANAGE)
async def new(request: web.Request) -> web.Response:
    """The empty form, or with `copy` filled in like another webhook, that may be deleted."""
    copied, texts = _copied(request), RouteTexts()
    if copied is not None:
        texts = form_fields.of_config(copied.config, values="")
        texts = replace(texts, name=f"Copy of {texts.name}"[: route_draft.MAX_NAME_CHARACTERS])
    return await answer(request, FormPage(texts=texts, copied=copied, once=new_form_id()))


@page(Access.MANAGE)
async def create(request: web.Request) -> web.Response:
    """A new webhook. The same form sent twice makes one."""
    given = await form_data.read(request)
    texts = form_fields.typed_in(given)
    sheet_id = given.one(ONCE_FIELD) or new_form_id()
    sheet = FormPage(texts=texts, given=given, copied=_copied(request), once=sheet_id)
    if not _is_to_be_saved(given):
        return await _previewed(request, sheet)
    reading = form_fields.read(texts)
    drafted = preview.drafted(None, reading.values, mask=MASK)
    tenant = request.match_info["tenant"]
    try:
        await _check(request, drafted, reading.problems)
        asked = context(request, request_id=_request_id(tenant, sheet_id, given))
        done = await request.app[SERVICES].commands.create(tenant, drafted, asked)
    except Invalid as error:
        return await answer(request, replace(sheet, form_errors=placed(error.problems)), status=422)
    notice = "created" if texts.enabled else "created_disabled"
    return redirect(request, "t", tenant, "webhooks", str(done.route.id), done=notice)


@page(Access.MANAGE)
async def edit(request: web.Request) -> web.Response:
    """The form with what is set now."""
    route = lookup.live_route(request)
    return await answer(request, FormPage(texts=form_fields.of_config(route.config), route=route))


@page(Access.MANAGE)
async def save(request: web.Request) -> web.Response:
    """Changes what was changed in the form, unless somebody else was faster."""
    given = await form_data.read(request)
    route = lookup.live_route(request)
    opened = _opened(request, given, route)
    sheet = FormPage(texts=form_fields.typed_in(given), given=given, route=opened)
    if not _is_to_be_saved(given):
        return await _previewed(request, sheet)
    if opened.version != route.version:
        return await _overtaken(request, sheet, opened)
    try:
        notice = await _saved(request, sheet, route)
    except Invalid as error:
        return await answer(request, replace(sheet, form_errors=placed(error.problems)), status=422)
    except Stale:
        return await _overtaken(request, sheet, opened)
    return redirect(request, "t", route.tenant, "webhooks", str(route.id), done=notice)


async def _saved(request: web.Request, sheet: FormPage, route: Route) -> str:
    """Saves what differs from the route. Raises Invalid and Stale."""
    services = request.app[SERVICES]
    names = form_fields.touched(form_fields.of_config(route.config), sheet.texts)
    reading = form_fields.read(sheet.texts, stored_headers=route.config.header_names)
    changes = form_fields.only(reading.values, names)
    problems = [problem for problem in reading.problems if form_fields.field_of(problem) in names]
    drafted = preview.drafted(route, form_fields.masked(changes), mask=MASK)
    await _check(request, drafted, [*problems, *_wrong_reason(request, sheet.given)], known=route.config.event_types)
    if not changes:
        return "unchanged"
    asked = context(request, reason=pages.reason(request, sheet.given), if_version=route.version)
    await services.commands.edit(route.tenant, route.id, changes, asked)
    return "edited"


async def _check(
    request: web.Request, drafted: RouteDraft, problems: Sequence[FieldProblem], *, known: Collection[str] = ()
) -> None:
    """Raises Invalid with all that is wrong at once: with texts that could not be read, and with what was."""
    services = request.app[SERVICES]
    known_types = await services.catalogue.known_types()
    found = route_draft.check(
        drafted,
        tenant=request.match_info["tenant"],
        policy=services.config.egress_policy,
        signing_header=services.config.signing.header,
        known_types=None if known_types is None else known_types.and_also(known),
    )
    if problems or found:
        raise Invalid((*problems, *found))


def _wrong_reason(request: web.Request, given: FormData) -> Sequence[FieldProblem]:
    try:
        pages.reason(request, given)
    except Invalid as error:
        return error.problems
    return ()


async def _previewed(request: web.Request, sheet: FormPage) -> web.Response:
    """The form as it was typed, with a preview or other types to choose from: for browsers without scripts."""
    if sheet.given.one("intent") != "preview":
        return await answer(request, sheet)
    try:
        shown, found = await previews.of(request, sheet.given, sheet.route)
    except Problem as error:  # too many previews: what was typed is not lost for that
        shown, found = None, FormErrors([FieldProblem(field="sample_type", message=error.detail)])
    return await answer(request, replace(sheet, shown=shown, unsent=found))


async def _overtaken(request: web.Request, sheet: FormPage, opened: Route) -> web.Response:
    """Nothing is saved: the form on top of what is set by now, and what happened since it was opened."""
    services = request.app[SERVICES]
    live = lookup.live_route(request)
    since = [event for event in await route_log.history(services.database, live.id) if event.version > opened.version]
    before, now = (form_fields.of_config(each.config) for each in (opened, live))
    texts = form_fields.merged(before, sheet.texts, now)
    theirs = form_fields.touched(before, now)
    if opened.config.headers_id != live.config.headers_id:  # the same names, with other values
        theirs |= {"headers"}
    both = form_fields.touched(before, sheet.texts) & theirs & form_fields.touched(now, texts)
    sheet = replace(
        sheet,
        route=live,
        texts=texts,
        meanwhile=tuple(history_rows.rows(since[::-1], services.index)),
        both=both,
    )
    return await answer(request, sheet, status=409)


def _copied(request: web.Request) -> Route | None:
    """The webhook that a new one is to be like. Raises NotFound."""
    text = request.query.get("copy")
    if not text:
        return None
    return lookup.timeline_of(request, text).current


def _opened(request: web.Request, given: FormData, route: Route) -> Route:
    """The route as it was when the form was opened; as it is now if the form does not say."""
    version = whole_number(given.one("version"))
    found = None if version is None else lookup.timeline(request).of_version(version)
    return route if found is None else found


def _is_to_be_saved(given: FormData) -> bool:
    """False if a button asks for something else, or if Enter was pressed in the field that finds types."""
    match given.one("intent").partition(":")[0]:
        case "preview" | "find":
            return False
        case "enter":
            return given.one("find") == given.one("found")
        case _:
            return True


def _request_id(tenant: str, sheet_id: str, given: FormData) -> str:
    """Of one sheet of the form, sent with the same content by whichever button. Keyed: the content may hold secrets."""
    content = repr(sorted((name, texts) for name, texts in given.fields.items() if name != "intent")).encode()
    return hmac.new(f"{tenant}\n{sheet_id}".encode(), content, hashlib.sha256).hexdigest()
