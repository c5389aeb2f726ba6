"""One delivery: its status and the reason, its attempts on a timeline, and sending it again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from aiohttp import web

from daemon.commands import Conflict, Invalid, NotFound
from daemon.core.delivery import resend
from daemon.core.delivery.status import DeliveryStatus
from daemon.deliveries import DeliveryDetail
from daemon.web.dashboard import form_data
from daemon.web.dashboard.form_data import new_form_id, request_id
from daemon.web.dashboard.html.rendering import redirect, render
from daemon.web.dashboard.html.text import in_merchants_words, whole_number
from daemon.web.dashboard.logs import timeline
from daemon.web.dashboard.pages import context, page, wants_part
from daemon.web.http import shapes
from daemon.web.http.endpoints import Access
from daemon.web.http.services import SERVICES
from daemon.web.service.auditing.delivery_proofs import proof_of, sealed_at_of
from daemon.web.service.deliveries import resending
from daemon.web.service.lookup import delivery_detail
from eventstore.progress.manual_retry import RetryResult

# A request that is due within this time is awaited: longer than one takes, whose row is due when it must have ended.
FOLLOWED = timedelta(seconds=60)

# The notice for what became of a retry: what is in line, or under way, is left alone.
_NOTICES: Mapping[RetryResult, str] = {
    RetryResult.DUE: "retried",
    RetryResult.UNDER_WAY: "retried_under_way",
    RetryResult.IN_LINE: "retried_in_line",
}

# The heading, which answers what a merchant wants to know first.
_TITLES: Mapping[DeliveryStatus, str] = {
    DeliveryStatus.DELIVERED: "It was delivered",
    DeliveryStatus.PENDING: "It is still to be delivered",
    DeliveryStatus.FAILED: "It was not delivered",
    DeliveryStatus.SUPPRESSED: "It was held back",
    DeliveryStatus.EXPIRED: "It expired",
}


@page(Access.READ)
async def show(request: web.Request) -> web.Response:
    """A delivery with its last attempt open, or with the attempt of `?attempt=`. Page.js polls its part."""
    try:
        detail = await delivery_detail(request)
    except (NotFound, Invalid) as error:
        return _missing(request, error)
    return await _page(request, detail)


@page(Access.READ)
async def proof(request: web.Request) -> web.Response:
    """The proof of the delivery, as a file."""
    headers = {"Content-Disposition": f'attachment; filename="proof-{request.match_info["delivery"]}.json"'}
    return shapes.answer(await proof_of(request), headers=headers)


@page(Access.READ)
async def body(request: web.Request) -> web.Response:
    """The whole body of an attempt, as a file."""
    detail = await delivery_detail(request)
    position = _attempt(request)
    sent = detail.sent[position - 1] if position is not None and 0 < position <= len(detail.sent) else None
    if sent is None or position is None:
        raise NotFound("there is no such request, or it is no longer kept")
    headers = {"Content-Disposition": f'attachment; filename="{timeline.file_name(position)}"'}
    return web.Response(body=sent.request.body, content_type="text/plain", charset="utf-8", headers=headers)


@page(Access.MANAGE)
async def retry(request: web.Request) -> web.Response:
    """Sends a delivery again now, and redirects to it with what became of that; if it is refused, the page says why."""
    form = await form_data.read(request)
    pair = await resending.resendable_pair(request)
    try:
        result = await resending.retry_now(request, pair, context(request, request_id=request_id(request, form)))
    except Conflict as error:
        detail = await delivery_detail(request)
        return await _page(request, detail, status=409, refusal=str(error))
    tenant, delivery = request.match_info["tenant"], request.match_info["delivery"]
    return redirect(request, "t", tenant, "deliveries", delivery, event=pair.event_id, done=_NOTICES[result])


async def _page(
    request: web.Request, detail: DeliveryDetail, *, status: int = 200, refusal: str | None = None
) -> web.Response:
    services, position = request.app[SERVICES], detail.item.found.position
    route = services.index.route(position.route_id)
    obstacle = None if route is None else resend.delivery(route, position.event_time)
    sealed_at = None if detail.explanation is None else await sealed_at_of(request, position)
    attempts = timeline.attempts(
        detail, selected=_attempt(request), timeout_seconds=services.config.delivery.timeout_seconds
    )
    return render(
        request,
        "logs/delivery_part.html" if wants_part(request) else "logs/delivery.html",
        status=status,
        is_awaited=_is_awaited(detail, services.now()),
        is_in_line=detail.item.status is DeliveryStatus.PENDING and detail.item.summary.due_at is None,
        titles=_TITLES,
        form_id=new_form_id(),
        detail=detail,
        item=detail.item,
        found=detail.item.found,
        summary=detail.item.summary,
        explanation=None if detail.explanation is None else in_merchants_words(detail.explanation.detail),
        route=route,
        attempts=attempts,
        sealed_at=sealed_at,
        total=len(detail.exchanges),
        timeout_seconds=services.config.delivery.timeout_seconds,
        refusal=None if refusal is None else in_merchants_words(refusal),
        obstacle=None if obstacle is None else in_merchants_words(obstacle.reason),
    )


def _is_awaited(detail: DeliveryDetail, now: datetime) -> bool:
    """True if a request is about to be made, or under way: the page follows it."""
    due_at = detail.item.summary.due_at
    if due_at is None:
        return detail.item.status is DeliveryStatus.PENDING and not detail.exchanges
    return due_at - now < FOLLOWED


def _missing(request: web.Request, error: NotFound | Invalid) -> web.Response:
    """The page of a delivery that does not exist, with a link to its event, which says whether it was skipped."""
    event_id = request.query.get("event")
    return render(
        request,
        "logs/delivery_missing.html",
        status=404 if isinstance(error, NotFound) else 422,
        is_search_unfinished=isinstance(error, Invalid),
        event_id=event_id,
        delivery=request.match_info["delivery"],
    )


def _attempt(request: web.Request) -> int | None:
    """The position of the attempt that the query names, from 1."""
    return whole_number(request.query.get("attempt", ""))
