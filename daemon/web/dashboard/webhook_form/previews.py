"""What the form shows while one types: whether the target may be used, and what would be sent of an event."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from aiohttp import web

from daemon import preview
from daemon.core.events.event import FieldProblem, IncomingEvent
from daemon.core.routing.route import Route, RouteStatus
from daemon.core.webhook.egress import UrlRefused, check_url
from daemon.preview import Preview
from daemon.web.access.limits import TENANT_LIMITS
from daemon.web.dashboard import form_data
from daemon.web.dashboard.form_data import FormData, FormErrors
from daemon.web.dashboard.pages import page
from daemon.web.dashboard.rendering import render
from daemon.web.dashboard.text import in_merchants_words, laid_out_json
from daemon.web.dashboard.webhook_form import form_fields
from daemon.web.dashboard.webhook_form.form_fields import LABELS, placed
from daemon.web.http.endpoints import Access, RateLimit
from daemon.web.http.services import SERVICES
from daemon.web.http.shapes import MASK
from daemon.web.service import lookup, previews

SHOWN_CHARACTERS = 16_000
MAX_NAMED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewView:
    """What would go out. `head` has the lines of the headers, `text` is the body laid out to be read, and `size_bytes`
    are those that are sent.
    """

    reason: str | None
    url: str
    head: str
    text: str
    is_cut: bool
    size_bytes: int


@page(Access.MANAGE)
async def show(request: web.Request) -> web.Response:
    """A part of the form: what it would send of the chosen event."""
    given = await form_data.read(request)
    stored = lookup.live_route_of(request, given.one("route")) if given.has("route") else None
    shown, form_errors = await of(request, given, stored)
    return render(request, "webhooks/preview_part.html", shown=shown, form_errors=form_errors, labels=LABELS)


@page(Access.MANAGE)
async def target(request: web.Request) -> web.Response:
    """A part of the form: the verdict on the target, as it is made when the webhook is created."""
    given = await form_data.read(request)
    services, url = request.app[SERVICES], given.one("target_url").strip()
    verdict, refusal = None, None
    try:
        verdict = check_url(url, services.config.egress_policy)
    except UrlRefused as error:
        refusal = str(error)
    others = [] if verdict is None else _same_target(request, verdict.url, but=given.one("route"))
    return render(
        request,
        "webhooks/target_part.html",
        url=url,
        verdict=verdict,
        refusal=refusal,
        others=others[:MAX_NAMED],
        more=len(others[MAX_NAMED:]),
    )


async def of(request: web.Request, given: FormData, stored: Route | None) -> tuple[PreviewView | None, FormErrors]:
    """What the form would send of the event it names, or what is wrong with either."""
    tenant = request.match_info["tenant"]
    request.app[TENANT_LIMITS].take(RateLimit.PREVIEW, tenant, asyncio.get_running_loop().time())
    texts = form_fields.typed_in(given)
    reading = form_fields.read(texts, stored_headers=() if stored is None else stored.config.header_names)
    is_enabled = texts.enabled if stored is None else stored.is_enabled
    values = {name: value for name, value in reading.values.items() if name in ("event_types", "payload", "headers")}
    drafted = preview.drafted(stored, form_fields.masked(values) | {"enabled": is_enabled}, mask=MASK)
    found = await _event(request, given)
    problems = [*reading.problems, *previews.wrong(drafted, request.app[SERVICES].config)]
    problems = [it for it in problems if it.field.startswith(("payload.", "headers"))]
    if not isinstance(found, IncomingEvent):
        problems += found
    if problems or not isinstance(found, IncomingEvent):
        return None, placed(problems)
    shown = await previews.show(request.app, drafted, found, stored=stored)
    if not isinstance(shown, Preview):
        return None, placed(shown)
    return _laid_out(shown, texts.target_url), FormErrors()


async def _event(request: web.Request, given: FormData) -> IncomingEvent | Sequence[FieldProblem]:
    """The event that was pasted, else the example of the type that was chosen."""
    services, tenant = request.app[SERVICES], request.match_info["tenant"]
    if raw := given.one("sample_event").strip():
        parsed = previews.published(services, tenant, raw.encode())
        return parsed if isinstance(parsed, IncomingEvent) else [_in_sample(problem) for problem in parsed]
    if not (name := given.one("sample_type").strip()):
        return [FieldProblem(field="sample_type", message="choose a type, or paste an event")]
    example = await previews.example(services, tenant, name)
    return example if isinstance(example, IncomingEvent) else [FieldProblem(field="sample_type", message=example)]


def _in_sample(problem: FieldProblem) -> FieldProblem:
    return replace(problem, field="sample_event", message=f"{problem.field} {problem.message}".strip())


def _laid_out(shown: Preview, url: str) -> PreviewView:
    body = shown.request.body
    text = laid_out_json(body.decode(), most=SHOWN_CHARACTERS)
    return PreviewView(
        reason=None if shown.reason is None else in_merchants_words(shown.reason),
        url=url,
        head="".join(f"\n{name}: {value}" for name, value in shown.request.headers.items()),
        text=text[:SHOWN_CHARACTERS],
        is_cut=len(text) > SHOWN_CHARACTERS,
        size_bytes=len(body),
    )


def _same_target(request: web.Request, url: str, *, but: str) -> list[str]:
    """Names of other webhooks with that target: each of them sends."""
    routes = request.app[SERVICES].index.routes(request.match_info["tenant"])
    return [
        route.config.name
        for route in routes
        if route.config.target_url == url and route.status is not RouteStatus.DELETED and str(route.id) != but
    ]
