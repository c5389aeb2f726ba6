"""The catalogue of event types, by group: merchants subscribe to them, and each has an example."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

import orjson
from aiohttp import web

from daemon.commands import Invalid, NotFound
from daemon.core.events.catalogue import MAX_TYPES, TypeDraft, group_of
from daemon.core.events.event import FieldProblem
from daemon.core.routing.index import RouteIndex, patterns_of
from daemon.core.routing.route import RouteStatus
from daemon.web.access.queries import query_database
from daemon.web.dashboard import form_data
from daemon.web.dashboard.form_data import FormData, FormErrors
from daemon.web.dashboard.html.rendering import redirect, render
from daemon.web.dashboard.pages import page
from daemon.web.http.endpoints import Access
from daemon.web.http.services import SERVICES
from daemon.web.service.events import catalogue_edits
from daemon.web.service.events.catalogue_edits import EntryChanged, fingerprint
from eventstore.domain_events import catalogue
from eventstore.domain_events.catalogue import OutlinedType, TypeRow

PAGE_SIZE = 100
DESCRIPTION_CHARACTERS = 160
# With more groups the page has no list of them; types are found by the search.
MAX_GROUPS = 40

_EMPTY_EXAMPLE = '{\n  "data": {},\n  "context": {},\n  "snapshot": {}\n}'


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribers:
    """How many webhooks get a type: `by_name` name it, `by_pattern` subscribe to its group or to everything."""

    by_name: int
    by_pattern: int
    tenants: int


@page(Access.ADMIN)
async def show(request: web.Request) -> web.Response:
    """The types by group, also those that were seen in events but are not in the catalogue."""
    services, query = request.app[SERVICES], request.query
    all_types = await catalogue.outline(query_database(request), characters=DESCRIPTION_CHARACTERS + 1)
    text, group = query.get("q", "").strip().casefold(), query.get("group") or None
    matches = [each for each in all_types if _matches(each, text, group)]
    rest = [each for each in matches if each.name > query.get("after", "")]
    groups = [(name, len(list(members))) for name, members in groupby(all_types, _group)]
    return render(
        request,
        "operator/event_types.html",
        groups=groups if len(groups) <= MAX_GROUPS else [],
        listed=[(name, list(members)) for name, members in groupby(rest[:PAGE_SIZE], _group)],
        after=rest[PAGE_SIZE - 1].name if len(rest) > PAGE_SIZE else None,
        found=len(matches),
        total=sum(each.description is not None for each in all_types),
        seen=sum(each.description is None for each in all_types),
        characters=DESCRIPTION_CHARACTERS,
        max_types=MAX_TYPES,
        is_strict=services.config.events.strict_types,
        query=query,
    )


@page(Access.ADMIN)
async def new(request: web.Request) -> web.Response:
    """An empty form, or one with the name of a type that was seen in events."""
    return _form(request, FormData({"name": [request.query.get("name", "")], "example": [_EMPTY_EXAMPLE]}), row=None)


@page(Access.ADMIN)
async def add(request: web.Request) -> web.Response:
    """Puts a type into the catalogue."""
    form, services = await form_data.read(request), request.app[SERVICES]
    try:
        await catalogue_edits.add(services, _draft(request, form, form.one("name").strip()))
    except Invalid as error:
        return _form(request, form, row=None, form_errors=FormErrors.of(error))
    return redirect(request, "operator", "event-types", done="type_added")


@page(Access.ADMIN)
async def edit(request: web.Request) -> web.Response:
    """A type of the catalogue in a form."""
    row = await _entry(request)
    example = orjson.dumps(orjson.loads(row.example), option=orjson.OPT_INDENT_2).decode()
    form = FormData({"description": [row.description], "example": [example], "opened": [fingerprint(row)]})
    return _form(request, form, row=row)


@page(Access.ADMIN)
async def save(request: web.Request) -> web.Response:
    """Saves the form, unless somebody else changed the type since it was opened."""
    form, services, name = await form_data.read(request), request.app[SERVICES], request.match_info["name"]
    try:
        await catalogue_edits.put(services, _draft(request, form, name), expected=form.one("opened"))
    except Invalid as error:
        return _form(request, form, row=await _entry(request), form_errors=FormErrors.of(error))
    except EntryChanged as error:
        if error.now is None:
            raise NotFound("this event type was taken out of the catalogue meanwhile") from error
        form.fields["opened"] = [fingerprint(error.now)]
        return _form(request, form, row=error.now, is_changed=True)
    return redirect(request, "operator", "event-types", done="type_saved")


@page(Access.ADMIN)
async def ask_removal(request: web.Request) -> web.Response:
    """Asks whether to remove a type, and says how many webhooks get it."""
    return _removal(request, await _entry(request))


@page(Access.ADMIN)
async def remove(request: web.Request) -> web.Response:
    """Removes a type from the catalogue."""
    form = await form_data.read(request)
    try:
        await catalogue_edits.remove(request.app[SERVICES], request.match_info["name"], expected=form.one("opened"))
    except EntryChanged as error:
        if error.now is not None:
            return _removal(request, error.now, is_changed=True)
    return redirect(request, "operator", "event-types", done="type_removed")


def subscribers(index: RouteIndex, name: str) -> Subscribers:
    """How many webhooks get events of a type now, and of how many tenants they are."""
    exact, *wider = patterns_of(name)
    by_name, by_pattern, tenants = 0, 0, set()
    for timeline in index.candidates_everywhere(name):
        route = timeline.current
        if route.status is RouteStatus.DELETED:
            continue
        names_it = exact in route.config.event_types
        if names_it or any(pattern in route.config.event_types for pattern in wider):
            by_name += names_it
            by_pattern += not names_it
            tenants.add(route.tenant)
    return Subscribers(by_name=by_name, by_pattern=by_pattern, tenants=len(tenants))


def _matches(each: OutlinedType, text: str, group: str | None) -> bool:
    if group is not None and group_of(each.name) != group:
        return False
    return text in each.name or text in (each.description or "").casefold()


def _group(each: OutlinedType) -> str:
    return group_of(each.name)


async def _entry(request: web.Request) -> TypeRow:
    row = await catalogue.entry(query_database(request), request.match_info["name"])
    if row is None:
        raise NotFound("there is no such event type in the catalogue")
    return row


def _draft(request: web.Request, form: FormData, name: str) -> TypeDraft:
    """The type in the form. Raises Invalid."""
    example: Mapping[str, object] = {}
    example_problems: Sequence[FieldProblem] = ()
    try:
        example = catalogue_edits.parse_example(request.app[SERVICES], form.one("example"))
    except Invalid as error:
        example_problems = error.problems
    draft = TypeDraft(name=name, description=form.one("description").strip(), example=example)
    if problems := (*catalogue_edits.problems(draft), *example_problems):
        raise Invalid(problems)
    return draft


def _form(
    request: web.Request,
    form: FormData,
    *,
    row: TypeRow | None,
    form_errors: FormErrors | None = None,
    is_changed: bool = False,
) -> web.Response:
    return render(
        request,
        "operator/event_type_form.html",
        status=409 if is_changed else 422 if form_errors else 200,
        form=form,
        row=row,
        form_errors=form_errors or FormErrors(),
        is_changed=is_changed,
        subscribers=None if row is None else subscribers(request.app[SERVICES].index, row.name),
    )


def _removal(request: web.Request, row: TypeRow, *, is_changed: bool = False) -> web.Response:
    services = request.app[SERVICES]
    return render(
        request,
        "operator/event_type_remove.html",
        status=409 if is_changed else 200,
        row=row,
        opened=fingerprint(row),
        is_changed=is_changed,
        subscribers=subscribers(services.index, row.name),
        is_strict=services.config.events.strict_types,
    )
