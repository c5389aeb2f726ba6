"""Sending several deliveries again from their list: those that were chosen there, or all that its filters match.

What was chosen is sent at once. All that match are counted first, and sent once that is confirmed, by a replay for each
webhook.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from uuid import UUID

from aiohttp import web

from daemon import deliveries
from daemon.commands import Conflict, Invalid, NotFound
from daemon.core import texts
from daemon.core.delivery.status import ListStatus
from daemon.web.access.queries import query_database
from daemon.web.dashboard import form_data, pages
from daemon.web.dashboard.form_data import FormData, request_id
from daemon.web.dashboard.html.rendering import redirect, render
from daemon.web.dashboard.logs import live, log_filter
from daemon.web.dashboard.logs.log_filter import LogFilter
from daemon.web.dashboard.pages import page
from daemon.web.http.endpoints import Access, RateLimit
from daemon.web.http.services import SERVICES
from daemon.web.service.deliveries import bulk_retries, resending
from daemon.web.service.deliveries.bulk_retries import BulkRetry
from eventstore.progress.manual_retry import RetryResult

# A page has no more of them.
MAX_CHOSEN = live.ROWS
# As many as the reason of a command may have.
_REASON_CHARACTERS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenRetry:
    """What became of the chosen deliveries: how many of each result, and why the others are not sent, with how many."""

    results: Mapping[RetryResult, int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return sum(self.results.values())


@page(Access.MANAGE, limit=RateLimit.REPLAY)
async def submit(request: web.Request) -> web.Response:
    """Sends what was chosen; or counts what matches; or, once that is confirmed, sends it."""
    form = await form_data.read(request)
    tenant, index = request.match_info["tenant"], request.app[SERVICES].index
    values = {name: form.one(name) for name in log_filter.DELIVERY_FIELDS}
    criteria = log_filter.read(index, tenant, values, log_filter.DELIVERY_FIELDS)
    if criteria.form_errors:
        raise Invalid(tuple(criteria.form_errors))
    if form.one("intent") == "chosen":
        return await _send_chosen(request, form, criteria)
    if form.one("intent") == "begin":
        context = pages.context(request, reason=_reason(criteria), request_id=_key(request, form, criteria))
        begun = await bulk_retries.begin(request, criteria.delivery_filter, context)
        if len(begun.replays) == 1 and not begun.refused:
            replay = begun.replays[0]
            return redirect(request, "t", tenant, "webhooks", str(replay.route_id), "replays", str(replay.id))
        return _result(request, criteria, begun=begun)
    matching = await bulk_retries.collect(request, criteria.delivery_filter)
    return render(
        request,
        "logs/bulk_retry.html",
        criteria=criteria,
        matching=matching,
        most=bulk_retries.MAX_DELIVERIES,
        form_id=form_data.new_form_id(),
    )


async def _send_chosen(request: web.Request, form: FormData, criteria: LogFilter) -> web.Response:
    chosen = list(dict.fromkeys(form.all("delivery")))[:MAX_CHOSEN]
    results: Counter[RetryResult] = Counter()
    refused: Counter[str] = Counter()
    key = request_id(request, form)
    for text in chosen:
        try:
            results[await _send(request, text, key)] += 1
        except (Conflict, NotFound) as error:
            refused[str(error)] += 1
    return _result(request, criteria, chosen=ChosenRetry(results=results, refused=refused))


async def _send(request: web.Request, text: str, form_key: str | None) -> RetryResult:
    """Sends one of the chosen deliveries, `<id> <event id>`. Raises Conflict and NotFound."""
    delivery, _, event_id = text.partition(" ")
    try:
        delivery_id = UUID(delivery)
    except ValueError as error:
        raise NotFound("there is no such delivery") from error
    services, tenant = request.app[SERVICES], request.match_info["tenant"]
    if "\0" in event_id:  # PostgreSQL has no such text, so there is no such event
        raise NotFound("there is no such delivery")
    pair = await deliveries.find(query_database(request), services.index, tenant, delivery_id, event_id=event_id)
    if pair is None:
        raise NotFound("there is no such delivery")
    key = None if form_key is None else sha256(f"{form_key}\n{delivery_id}".encode()).hexdigest()
    return await resending.retry_now(request, pair, pages.context(request, request_id=key))


def _result(
    request: web.Request, criteria: LogFilter, *, chosen: ChosenRetry | None = None, begun: BulkRetry | None = None
) -> web.Response:
    names = {} if begun is None else {replay.id: _name(request, replay.route_id) for replay in begun.replays}
    return render(request, "logs/retried.html", criteria=criteria, chosen=chosen, begun=begun, names=names)


def _name(request: web.Request, route_id: UUID) -> str:
    timeline = request.app[SERVICES].index.timeline(route_id)
    return str(route_id) if timeline is None else timeline.current.config.name


def _reason(criteria: LogFilter) -> str | None:
    """What the replays were narrowed down to. Their pages have a period, and whether what was delivered is sent too."""
    narrowing = [chip.text for chip in criteria.chips if chip.field in ("type", "event", "where")]
    if criteria.status is ListStatus.DELIVERED:
        narrowing.insert(0, f"Status {criteria.status}")
    text = f"Only: {', '.join(narrowing)}"[:_REASON_CHARACTERS]
    return text if narrowing and texts.problem(text) is None else None


def _key(request: web.Request, form: FormData, criteria: LogFilter) -> str | None:
    """The idempotency key of the form with its filter: the same form with another filter begins other replays."""
    form_key = request_id(request, form)
    if form_key is None:
        return None
    return sha256("\n".join([form_key, *_texts(criteria.values)]).encode()).hexdigest()


def _texts(values: Mapping[str, str]) -> Sequence[str]:
    return [f"{name}={text}" for name, text in values.items()]
