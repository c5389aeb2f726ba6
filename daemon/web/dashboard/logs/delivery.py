"""One delivery: how it stands and why, each of its attempts on a timeline, and sending it again."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from daemon.commands import Conflict, Invalid, NotFound
from daemon.core.delivery import resend
from daemon.core.delivery.status import DeliveryStatus
from daemon.deliveries import DeliveryDetail
from daemon.web.dashboard import form_data
from daemon.web.dashboard.form_data import new_form_id, request_id
from daemon.web.dashboard.logs import timeline
from daemon.web.dashboard.pages import context, page
from daemon.web.dashboard.rendering import redirect, render
from daemon.web.dashboard.text import in_merchants_words, whole_number
from daemon.web.http.endpoints import Access
from daemon.web.http.services import SERVICES
from daemon.web.service import resending
from daemon.web.service.lookup import named_detail

# What a merchant wants to know first.
_TITLES: Mapping[DeliveryStatus, str] = {
    DeliveryStatus.DELIVERED: "It was delivered",
    DeliveryStatus.PENDING: "It is still to be delivered",
    DeliveryStatus.FAILED: "It was not delivered",
    DeliveryStatus.SUPPRESSED: "It was held back",
    DeliveryStatus.EXPIRED: "It expired",
}


@page(Access.READ)
async def show(request: web.Request) -> web.Response:
    """A delivery, open at its last attempt or at the one that the query names."""
    try:
        detail = await named_detail(request)
    except (NotFound, Invalid) as error:
        return _missing(request, error)
    return _page(request, detail)


@page(Access.READ)
async def body(request: web.Request) -> web.Response:
    """The whole body of an attempt, as a file."""
    detail = await named_detail(request)
    place = _attempt(request)
    sent = detail.sent[place - 1] if place is not None and 0 < place <= len(detail.sent) else None
    if sent is None or place is None:
        raise NotFound("there is no such request, or it is no longer kept")
    headers = {"Content-Disposition": f'attachment; filename="{timeline.file_name(place)}"'}
    return web.Response(body=sent.request.body, content_type="text/plain", charset="utf-8", headers=headers)


@page(Access.MANAGE)
async def retry(request: web.Request) -> web.Response:
    """Sends it again now, and leads back to it; what may not be sent is refused on the page, with the reason."""
    form = await form_data.read(request)
    pair = await resending.wanted(request)
    try:
        await resending.retry_now(request, pair, context(request, request_id=request_id(request, form)))
    except Conflict as error:
        detail = await named_detail(request)
        return _page(request, detail, status=409, refusal=str(error))
    tenant, delivery = request.match_info["tenant"], request.match_info["delivery"]
    return redirect(request, "t", tenant, "deliveries", delivery, event=pair.event_id, done="retried")


def _page(
    request: web.Request, detail: DeliveryDetail, *, status: int = 200, refusal: str | None = None
) -> web.Response:
    services, place = request.app[SERVICES], detail.item.found.place
    known = services.index.timeline(place.route_id)
    refused = None if known is None else resend.delivery(known.current, place.event_time)
    shown = timeline.attempts(
        detail, looked_at=_attempt(request), timeout_seconds=services.config.delivery.timeout_seconds
    )
    return render(
        request,
        "logs/delivery.html",
        status=status,
        titles=_TITLES,
        once=new_form_id(),
        detail=detail,
        item=detail.item,
        found=detail.item.found,
        gist=detail.item.gist,
        because=None if detail.explanation is None else in_merchants_words(detail.explanation.detail),
        route=None if known is None else known.current,
        attempts=shown,
        total=len(detail.exchanges),
        limit_seconds=services.config.delivery.timeout_seconds,
        refusal=None if refusal is None else in_merchants_words(refusal),
        refused=None if refused is None else in_merchants_words(refused.reason),
    )


def _missing(request: web.Request, error: NotFound | Invalid) -> web.Response:
    """What to do about a delivery that is not there: perhaps it was skipped, which the page of its event explains."""
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
    """The place of the attempt that the query names."""
    return whole_number(request.query.get("attempt", ""))
