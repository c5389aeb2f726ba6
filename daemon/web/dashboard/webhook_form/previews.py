"""The live parts of the form: whether the target may be used, and the request that an event would cause."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from aiohttp import web

from daemon.core.events import raw_json
from daemon.core.events.catalogue import subscribed_types
from daemon.core.events.event import FieldProblem, IncomingEvent
from daemon.core.routing.route import Route, RouteStatus
from daemon.core.webhook.egress import UrlRefused, check_url
from daemon.deliveries import preview
from daemon.deliveries.preview import Preview
from daemon.web.access.limits import TENANT_LIMITS
from daemon.web.access.queries import query_database
from daemon.web.dashboard import form_data
from daemon.web.dashboard.form_data import FormData, FormErrors
from daemon.web.dashboard.html.rendering import render
from daemon.web.dashboard.html.text import in_merchants_words, pretty_json
from daemon.web.dashboard.pages import page
from daemon.web.dashboard.webhook_form import form_fields
from daemon.web.dashboard.webhook_form.form_fields import LABELS, errors_in_order
from daemon.web.http.endpoints import Access, RateLimit
from daemon.web.http.services import SERVICES
from daemon.web.http.shapes import MASK
from daemon.web.service import lookup
from daemon.web.service.events.offered_types import offered
from daemon.web.service.routes import previews
from eventstore.domain_events.catalogue import outline

MAX_CHARACTERS = 16_000
MAX_NAMES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewView:
    """The request that would be sent, or the `reason` why none would. `head` has the headers as lines, `text` is the
    body laid out for reading, and `size_bytes` is the length of the body as it would be sent.
    """

    reason: str | None
    url: str
    head: str
    text: str
    is_cut: bool
    size_bytes: int


@page(Access.MANAGE)
async def show(request: web.Request) -> web.Response:
    """A part of the form: the request that the chosen event would cause."""
    form = await form_data.read(request)
    stored = lookup.live_route_by_id(request, form.one("route")) if form.has("route") else None
    view, form_errors = await build(request, form, stored)
    return render(request, "webhook_form/preview_part.html", preview=view, form_errors=form_errors, labels=LABELS)


@page(Access.MANAGE)
async def target(request: web.Request) -> web.Response:
    """A part of the form: whether the target may be used, by the rules that apply when the webhook is created."""
    form = await form_data.read(request)
    services, url = request.app[SERVICES], form.one("target_url").strip()
    verdict, refusal = None, None
    try:
        verdict = check_url(url, services.config.egress_policy)
    except UrlRefused as error:
        refusal = in_merchants_words(str(error))
    others = [] if verdict is None else _same_target(request, verdict.url, except_id=form.one("route"))
    return render(
        request,
        "webhook_form/target_part.html",
        url=url,
        verdict=verdict,
        refusal=refusal,
        others=others[:MAX_NAMES],
        more=len(others[MAX_NAMES:]),
    )


async def build(request: web.Request, form: FormData, stored: Route | None) -> tuple[PreviewView | None, FormErrors]:
    """The preview of the form with the event that it names, or what is wrong with either."""
    tenant = request.match_info["tenant"]
    request.app[TENANT_LIMITS].take(RateLimit.PREVIEW, tenant, asyncio.get_running_loop().time())
    texts = form_fields.of_form(form)
    reading = form_fields.read(texts, stored_headers=() if stored is None else stored.config.header_names)
    is_enabled = texts.enabled if stored is None else stored.is_enabled
    values = {name: value for name, value in reading.values.items() if name in ("event_types", "payload", "headers")}
    drafted = preview.drafted(stored, form_fields.masked(values) | {"enabled": is_enabled}, mask=MASK)
    event = await _event(request, form)
    problems = [*reading.problems, *previews.draft_problems(drafted, request.app[SERVICES].config, stored=stored)]
    problems = [it for it in problems if it.field.startswith(("payload.", "headers"))]
    if not isinstance(event, IncomingEvent):
        problems += event
    if problems or not isinstance(event, IncomingEvent):
        return None, errors_in_order(problems)
    rendered = await previews.show(request.app, drafted, event, stored=stored)
    if not isinstance(rendered, Preview):
        return None, errors_in_order(rendered)
    return _view(rendered, texts.target_url), FormErrors()


async def _event(request: web.Request, form: FormData) -> IncomingEvent | Sequence[FieldProblem]:
    """The pasted event, else the example of the chosen type; or what is wrong with it."""
    services, tenant = request.app[SERVICES], request.match_info["tenant"]
    if raw := form.one("sample_event").strip():
        parsed = previews.parse_event(services, tenant, _as_published(raw).encode())
        return parsed if isinstance(parsed, IncomingEvent) else [_in_sample(problem) for problem in parsed]
    if not (name := form.one("sample_type").strip() or await _subscribed_type(request, form)):
        return [FieldProblem(field="sample_type", message="choose a type, or paste an event")]
    example = await previews.catalogue_example(query_database(request), tenant, name)
    return example if isinstance(example, IncomingEvent) else [FieldProblem(field="sample_type", message=example)]


def _as_published(text: str) -> str:
    """The event in a body as receivers get it, which is how merchants know events; any other text as it is."""
    try:
        body = raw_json.loads(text.encode())
        raw_json.check_depth(body)
    except (ValueError, RecursionError):
        return text
    match body:
        case {"created": _, "data": {"object": _, **others}} if not others:
            parts = dict(raw_json.members(text))
            parts["data"] = dict(raw_json.members(parts["data"]))["object"]
            named = (
                f'"{name}":{parts[name]}' for name in ("id", "type", "data", "context", "snapshot") if name in parts
            )
            return f"{{{','.join(named)}}}"
        case _:
            return text


async def _subscribed_type(request: web.Request, form: FormData) -> str:
    """The first type with an example that the draft subscribes to, empty if there is none."""
    whole = await outline(query_database(request), characters=1, with_seen=False)
    listed = offered(request, request.match_info["tenant"], whole)
    patterns = frozenset(form_fields.of_form(form).patterns)
    return next(iter(subscribed_types([it.name for it in listed], patterns)), "")


def _in_sample(problem: FieldProblem) -> FieldProblem:
    return replace(problem, field="sample_event", message=f"{problem.field} {problem.message}".strip())


def _view(rendered: Preview, url: str) -> PreviewView:
    body = rendered.request.body
    text = pretty_json(body.decode(), max_characters=MAX_CHARACTERS)
    return PreviewView(
        reason=None if rendered.reason is None else in_merchants_words(rendered.reason),
        url=url,
        head="".join(f"\n{name}: {value}" for name, value in rendered.request.headers.items()),
        text=text[:MAX_CHARACTERS],
        is_cut=len(text) > MAX_CHARACTERS,
        size_bytes=len(body),
    )


def _same_target(request: web.Request, url: str, *, except_id: str) -> list[str]:
    """The names of other webhooks with that target: each of them sends to it."""
    routes = request.app[SERVICES].index.routes(request.match_info["tenant"])
    return [
        route.config.name
        for route in routes
        if route.config.target_url == url and route.status is not RouteStatus.DELETED and str(route.id) != except_id
    ]
