"""Replays: a form that counts the deliveries before it sends them again, and the progress of a replay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import TypedDict

from aiohttp import web

from daemon.commands import Conflict, Invalid
from daemon.core.events.event import FieldProblem
from daemon.core.routing.route import Route
from daemon.deliveries import replays
from daemon.deliveries.replays import ReplayCount, ReplayPeriod, ReplayStatus
from daemon.web.access.queries import query_database
from daemon.web.dashboard import form_data, pages
from daemon.web.dashboard.form_data import FormData, FormErrors, new_form_id, request_id
from daemon.web.dashboard.html import periods
from daemon.web.dashboard.html.rendering import redirect, render
from daemon.web.dashboard.html.text import actor, parse_moment
from daemon.web.dashboard.pages import page, wants_part
from daemon.web.http import paging
from daemon.web.http.endpoints import Access, RateLimit
from daemon.web.http.services import SERVICES
from daemon.web.service.deliveries import resending
from daemon.web.service.lookup import live_route
from daemon.web.service.routes import route_healths
from eventstore.progress.replays import Replay

PAGE_SIZE = 20
SPANS = (("Last hour", timedelta(hours=1)), periods.LAST_DAY, periods.LAST_WEEK)

_FIELDS = ("from", "to", "which", "reason")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayInput:
    """The values of the form."""

    period: ReplayPeriod
    wanted: ReplayStatus
    reason: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayProgress:
    """The progress of a replay, in deliveries. `tried` leaves out those that no longer had to be sent at their turn."""

    replay: Replay

    @property
    def tried(self) -> int:
        return self.replay.scheduled - self.replay.waiting - self.replay.withdrawn

    @property
    def left(self) -> int:
        """How many it may still send; for a cancelled replay, how many it did not reach."""
        return max(0, self.replay.total - self.replay.scheduled + self.replay.waiting + self.replay.withdrawn)

    @property
    def is_running(self) -> bool:
        return self.replay.state == "running"

    @property
    def by(self) -> str:
        return actor(self.replay.actor)


@page(Access.MANAGE)
async def show(request: web.Request) -> web.Response:
    """The form, with the period of the query or the last 24 hours, and the list of replays."""
    return await _form(request, live_route(request), _initial_values(request))


@page(Access.MANAGE, limit=RateLimit.REPLAY)
async def submit(request: web.Request) -> web.Response:
    """Counts the deliveries that would be sent again, or begins the replay."""
    route, form = live_route(request), await form_data.read(request)
    values = {name: form.one(name) for name in _FIELDS}
    try:
        replay_input = _read_form(request, form)
        if form.one("intent") == "begin":
            context = pages.context(request, reason=replay_input.reason, request_id=_request_id(request, form))
            begun = await resending.begin(request, route, replay_input.period, replay_input.wanted, context)
            return redirect(request, "t", route.tenant, "webhooks", str(route.id), "replays", str(begun.id))
        counted = await resending.count(request, route, replay_input.period, replay_input.wanted)
    except Invalid as error:
        return await _form(request, route, values, form_errors=FormErrors.of(error), status=422)
    except Conflict as error:
        return await _form(request, route, values, refusal=str(error), status=409)
    return await _form(request, route, values, counted=counted)


@page(Access.READ)
async def show_replay(request: web.Request) -> web.Response:
    """The progress of a replay."""
    route = live_route(request)
    progress = ReplayProgress(replay=await resending.find(request, route))
    if wants_part(request):
        return render(request, "webhook_actions/replay_part.html", route=route, progress=progress)
    return _progress_page(request, route, progress)


@page(Access.MANAGE)
async def cancel(request: web.Request) -> web.Response:
    """Cancels a replay; deliveries that are not being sent yet stay as they were."""
    route = live_route(request)
    found = await resending.find(request, route)
    try:
        await replays.cancel(request.app[SERVICES].command_database, found, pages.context(request))
    except Conflict as error:
        found = await resending.find(request, route)
        return _progress_page(request, route, ReplayProgress(replay=found), refusal=str(error), status=409)
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
        "webhook_actions/replay.html",
        status=status,
        route=route,
        health=await route_healths.of_route(query_database(request), route),
        values=values,
        counted=counted,
        since=parse_moment(values["from"]) if counted else None,
        form_errors=form_errors or FormErrors(),
        refusal=refusal,
        form_id=new_form_id(),
        spans=periods.spans(request.app[SERVICES].now(), SPANS),
        **await _list(request, route),
    )


def _progress_page(
    request: web.Request, route: Route, progress: ReplayProgress, *, refusal: str | None = None, status: int = 200
) -> web.Response:
    return render(
        request, "webhook_actions/replay_progress.html", status=status, route=route, progress=progress, refusal=refusal
    )


class _ReplayList(TypedDict):
    listed: list[ReplayProgress]
    is_first: bool
    after: str | None
    running: ReplayProgress | None


async def _list(request: web.Request, route: Route) -> _ReplayList:
    """A page of the replays, and the one that runs. An invalid cursor gives the first page."""
    after = paging.decoded(request.query.get("after", ""))
    try:
        found, further = await resending.page(request, route, after=after, size=PAGE_SIZE)
    except Invalid:
        after = None
        found, further = await resending.page(request, route, after=None, size=PAGE_SIZE)
    newest = found if after is None else (await resending.page(request, route, after=None, size=1))[0]
    listed = [ReplayProgress(replay=each) for each in found]
    return {
        "listed": listed,
        "is_first": after is None,
        "after": None if further is None else paging.encoded(further),
        "running": next((ReplayProgress(replay=each) for each in newest[:1] if each.state == "running"), None),
    }


def _initial_values(request: web.Request) -> dict[str, str]:
    """The values of the form before it is sent; links from other pages give a period."""
    now, query = request.app[SERVICES].now(), request.query
    return {
        "from": query.get("from") or periods.value(now - periods.DEFAULT_SPAN),
        "to": query.get("to") or periods.value(periods.until(now)),
        "which": query["which"] if query.get("which") in [*ReplayStatus] else ReplayStatus.FAILED,
        "reason": "",
    }


def _read_form(request: web.Request, form: FormData) -> ReplayInput:
    """The values of the form. Raises Invalid with everything that is wrong."""
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
    at = periods.moment(form, name, problems)
    if at is None and not form.one(name).strip():
        problems.append(FieldProblem(field=name, message="is missing: give a date and a time"))
    return at


def _request_id(request: web.Request, form: FormData) -> str | None:
    """The idempotency key of the form with its values: the same form with other values begins another replay."""
    form_key = request_id(request, form)
    if form_key is None:
        return None
    return sha256("\n".join([form_key, *(form.one(name) for name in _FIELDS)]).encode()).hexdigest()
