"""A replay as pages: the form of what is to be sent again, which counts before it sends, and how far a replay is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import TypedDict

from aiohttp import web

from daemon import replays
from daemon.commands import Conflict, Invalid
from daemon.core.events.event import FieldProblem
from daemon.core.routing.route import Route
from daemon.replays import ReplayCount, ReplayPeriod, ReplayStatus
from daemon.web.dashboard import form_data, pages
from daemon.web.dashboard.form_data import FormData, FormErrors, new_form_id, request_id
from daemon.web.dashboard.pages import page, wants_part
from daemon.web.dashboard.rendering import redirect, render
from daemon.web.dashboard.text import moment_field, typed_moment
from daemon.web.dashboard.webhooks.history_rows import actor
from daemon.web.http import paging
from daemon.web.http.endpoints import Access, RateLimit
from daemon.web.http.services import SERVICES
from daemon.web.service import resending
from daemon.web.service.lookup import live_route
from eventstore.progress.replays import Replay

PAGE_SIZE = 20
# What the form begins with, and what one press of a link fills in.
DEFAULT_SPAN = timedelta(hours=24)
SPANS = (("Last hour", timedelta(hours=1)), ("Last 24 hours", DEFAULT_SPAN), ("Last 7 days", timedelta(days=7)))

FIELDS = ("from", "to", "which", "reason")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayInput:
    """What a form asks for."""

    period: ReplayPeriod
    wanted: ReplayStatus
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayProgress:
    """How far a replay is, in deliveries. What was no longer to be sent when its turn came is left out of `tried`."""

    replay: Replay

    @property
    def tried(self) -> int:
        return self.replay.scheduled - self.replay.waiting - self.replay.withdrawn

    @property
    def left(self) -> int:
        """How many it may still send: of one that was cancelled, what it never came to."""
        return max(0, self.replay.total - self.replay.scheduled + self.replay.waiting + self.replay.withdrawn)

    @property
    def is_running(self) -> bool:
        return self.replay.state == "running"

    @property
    def by(self) -> str:
        return actor(self.replay.actor)


@page(Access.READ)
async def show(request: web.Request) -> web.Response:
    """The form, for the period that the query names or the last 24 hours; and the replays there were."""
    return await _form(request, live_route(request), _offered(request))


@page(Access.MANAGE, limit=RateLimit.REPLAY)
async def submit(request: web.Request) -> web.Response:
    """Counts what would be sent again, or begins to send it."""
    route, form = live_route(request), await form_data.read(request)
    values = {name: form.one(name) for name in FIELDS}
    try:
        asked = _asked(request, form)
        if form.one("intent") == "begin":
            context = pages.context(request, reason=asked.reason, request_id=_request_id(request, form))
            begun = await resending.begin(request, route, asked.period, asked.wanted, context)
            return redirect(request, "t", route.tenant, "webhooks", str(route.id), "replays", str(begun.id))
        counted = await resending.count(request, route, asked.period, asked.wanted)
    except Invalid as error:
        return await _form(request, route, values, form_errors=FormErrors.of(error), status=422)
    except Conflict as error:
        return await _form(request, route, values, refusal=str(error), status=409)
    return await _form(request, route, values, counted=counted)


@page(Access.READ)
async def show_replay(request: web.Request) -> web.Response:
    """How far a replay is."""
    route = live_route(request)
    progress = ReplayProgress(replay=await resending.named(request, route))
    if wants_part(request):
        return render(request, "webhooks/replay_part.html", route=route, progress=progress)
    return _progress(request, route, progress)


@page(Access.MANAGE)
async def cancel(request: web.Request) -> web.Response:
    """Ends a replay; what nobody is sending yet stays as it was."""
    route = live_route(request)
    found = await resending.named(request, route)
    try:
        await replays.cancel(request.app[SERVICES].database, found, pages.context(request))
    except Conflict as error:
        found = await resending.named(request, route)
        return _progress(request, route, ReplayProgress(replay=found), refusal=str(error), status=409)
    parts = ("t", route.tenant, "webhooks", str(route.id), "replays", str(found.id))
    return redirect(request, *parts, done="replay_cancelled")


async def _form(
    request: web.Request,
    route: Route,
    values: Mapping[str, str],
    *,
    counted: ReplayCount | None = None,
    form_errors: FormErrors | None = None,
    refusal: str | None = None,
    status: int = 200,
) -> web.Response:
    return render(
        request,
        "webhooks/replay.html",
        status=status,
        route=route,
        values={**values, "from": moment_field(values["from"]), "to": moment_field(values["to"])},
        counted=counted,
        since=typed_moment(values["from"]) if counted else None,
        form_errors=form_errors or FormErrors(),
        refusal=refusal,
        once=new_form_id(),
        spans=_spans(request),
        **await _list(request, route),
    )


def _progress(
    request: web.Request, route: Route, progress: ReplayProgress, *, refusal: str | None = None, status: int = 200
) -> web.Response:
    return render(
        request, "webhooks/replay_progress.html", status=status, route=route, progress=progress, refusal=refusal
    )


class _Listed(TypedDict):
    listed: list[ReplayProgress]
    is_first: bool
    after: str | None
    running: ReplayProgress | None


async def _list(request: web.Request, route: Route) -> _Listed:
    """A page of the replays there were, and the one that runs. What is no cursor begins at the newest."""
    behind = paging.decoded(request.query.get("after", ""))
    try:
        found, further = await resending.listed(request, route, behind=behind, size=PAGE_SIZE)
    except Invalid:
        behind = None
        found, further = await resending.listed(request, route, behind=None, size=PAGE_SIZE)
    newest = found if behind is None else (await resending.listed(request, route, behind=None, size=1))[0]
    listed = [ReplayProgress(replay=each) for each in found]
    return {
        "listed": listed,
        "is_first": behind is None,
        "after": None if further is None else paging.encoded(further),
        "running": next((ReplayProgress(replay=each) for each in newest[:1] if each.state == "running"), None),
    }


def _offered(request: web.Request) -> dict[str, str]:
    """What the form begins with. Other pages lead here with a period of theirs."""
    now, query = request.app[SERVICES].now(), request.query
    return {
        "from": query.get("from") or _text(now - DEFAULT_SPAN),
        "to": query.get("to") or _text(_end(now)),
        "which": query["which"] if query.get("which") in [*ReplayStatus] else ReplayStatus.FAILED,
        "reason": "",
    }


def _spans(request: web.Request) -> list[tuple[str, str, str]]:
    now = request.app[SERVICES].now()
    return [(text, _text(now - span), _text(_end(now))) for text, span in SPANS]


def _asked(request: web.Request, form: FormData) -> ReplayInput:
    """Raises Invalid, with all that is wrong."""
    problems: list[FieldProblem] = []
    since, until = (_moment(form, name, problems) for name in ("from", "to"))
    wanted = next((each for each in ReplayStatus if each == form.one("which")), None)
    if wanted is None:
        problems.append(FieldProblem(field="which", message="choose which deliveries to send again"))
    period, reason = None, None
    try:
        if since is not None and until is not None:
            period = resending.period(since, until)
        reason = pages.reason(request, form)
    except Invalid as error:
        problems += error.problems
    if problems or period is None or wanted is None:
        raise Invalid(tuple(problems))
    return ReplayInput(period=period, wanted=wanted, reason=reason)


def _moment(form: FormData, name: str, problems: list[FieldProblem]) -> datetime | None:
    try:
        at = typed_moment(form.one(name))
    except ValueError as error:
        problems.append(FieldProblem(field=name, message=str(error)))
        return None
    if at is None:
        problems.append(FieldProblem(field=name, message="is missing: give a date and a time in UTC"))
    return at


def _request_id(request: web.Request, form: FormData) -> str | None:
    """By what the form asks for too: sent once more with other values, it asks for another replay."""
    known_by = request_id(request, form)
    if known_by is None:
        return None
    return sha256("\n".join([known_by, *(form.one(name) for name in FIELDS)]).encode()).hexdigest()


def _end(now: datetime) -> datetime:
    """The end of the present minute: all that has happened by now is before it."""
    return now.replace(second=0, microsecond=0) + timedelta(minutes=1)


def _text(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M}:00"
