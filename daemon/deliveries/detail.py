"""All there is to say of one delivery: how it stands, why, and each of its requests with its answer."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from uuid import UUID

from daemon import audit
from daemon.audit import Explanation
from daemon.core.delivery.answer import delivery_id, key_of
from daemon.core.delivery.explanation_text import ExplainedDecision
from daemon.core.delivery.status import DeliveryStatus
from daemon.core.routing.index import RouteIndex
from daemon.core.webhook.payload import PayloadSource
from daemon.core.webhook.request import RequestOptions
from daemon.deliveries import sent_requests
from daemon.deliveries.listing import DeliveryFilter, ListedDelivery, described, page
from daemon.deliveries.sent_requests import SentRequest
from daemon.keys import Keychain
from eventstore import domain_events
from eventstore.domain_events import listing
from eventstore.domain_events.events import StoredEvent
from eventstore.postgres.connect import Database
from eventstore.queries import attempts
from eventstore.queries.attempts import EventAndRoute, RecordedExchange
from eventstore.queries.delivery_log import FoundDelivery, ListPosition


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryDetail:
    """A delivery. `exchanges` are its requests, and beside each the request as it was sent, None if there was none or
    it cannot be rebuilt. `explanation` is None if the event is no longer kept.
    """

    item: ListedDelivery
    exchanges: tuple[RecordedExchange, ...]
    sent: tuple[SentRequest | None, ...]
    explanation: Explanation | None


async def detail(
    database: Database, index: RouteIndex, keychain: Keychain, pair: EventAndRoute, *, dialect: RequestOptions
) -> DeliveryDetail | None:
    """The delivery of a pair; None if nothing was due, or nothing of it is kept."""
    event = await domain_events.find_at(database, pair.seq, event_time=pair.event_time)
    explanation = None if event is None else await _explanation(database, index, pair, event)
    if explanation is not None and (
        explanation.delivery_id is None or explanation.verdict is ExplainedDecision.NO_LONGER_KEPT
    ):
        return None
    recorded = await attempts.exchanges(database, pair.route_id, pair.seq, event_time=pair.event_time)
    if event is not None:
        about = FoundDelivery(_place(pair), event.id, event.type, event.test_route is not None)
    elif recorded:
        about = FoundDelivery(_place(pair), pair.event_id, recorded[0].event_type, recorded[0].is_test)
    else:
        return None
    (item,) = await described(database, index, [about])
    requests = [exchange for exchange in recorded if exchange.number]
    sent: list[SentRequest | None] = [None] * len(requests)
    if event is not None:
        parts = await sent_requests.collect(database, keychain, requests)
        sent = await asyncio.to_thread(sent_requests.rebuild, _source(event, pair), parts, dialect)
    return DeliveryDetail(item=item, exchanges=tuple(requests), sent=tuple(sent), explanation=explanation)


async def _explanation(
    database: Database, index: RouteIndex, pair: EventAndRoute, event: StoredEvent
) -> Explanation | None:
    found = await audit.explain_event(database, event, route_id=pair.route_id, live=index)
    return found[0] if found else None


def _place(pair: EventAndRoute) -> ListPosition:
    return ListPosition(pair.event_time, pair.seq, pair.route_id)


def _source(event: StoredEvent, pair: EventAndRoute) -> PayloadSource:
    return PayloadSource(
        event_id=event.id,
        event_type=event.type,
        created=pair.event_time,
        data=event.data,
        context=event.context,
        snapshot=event.snapshot,
    )


# Pending ones first: they are the most recent, nearly always.
_WITHOUT_REQUEST = (DeliveryStatus.PENDING, DeliveryStatus.SUPPRESSED, DeliveryStatus.EXPIRED)
SEARCH_SECONDS = 0.5


class SearchUnfinished(Exception):
    """So much waits, or ended without a request, that the delivery was not found in time."""


async def find(
    database: Database, index: RouteIndex, tenant: str, wanted: UUID, *, event_id: str | None = None
) -> EventAndRoute | None:
    """The pair that an id stands for, by its event or by its requests, which may be kept longer; None if there is none,
    or if it must be searched for. Of several events with that id it is the newest.
    """
    found = None if event_id is None else await _by_event(database, index, tenant, wanted, event_id)
    if found is not None:
        return found
    for pair in await attempts.by_key(database, tenant, key_of(wanted)):
        if delivery_id(pair.route_id, pair.event_id) == str(wanted) and event_id in (None, pair.event_id):
            return pair
    return None


async def search(database: Database, index: RouteIndex, tenant: str, wanted: UUID) -> EventAndRoute | None:
    """The same among what no request was made of: that takes long, the more so the more waits.

    Raises SearchUnfinished.
    """
    ends_at = time.monotonic() + SEARCH_SECONDS
    for status in _WITHOUT_REQUEST:
        among = DeliveryFilter(tenant=tenant, status=status)
        found = await _among(database, index, among, wanted, seconds=ends_at - time.monotonic())
        if found is not None:
            return _pair(found)
    return None


async def _by_event(
    database: Database, index: RouteIndex, tenant: str, wanted: UUID, event_id: str
) -> EventAndRoute | None:
    """By the event's id; whether the route was due it is for others to say."""
    for event in await listing.named(database, tenant, event_id):
        for timeline in index.candidates(tenant, event.type):
            route_id = timeline.current.id
            if delivery_id(route_id, event_id) == str(wanted):
                return EventAndRoute(seq=event.seq, route_id=route_id, event_id=event_id, event_time=event.event_time)
    return None


async def _among(
    database: Database, index: RouteIndex, among: DeliveryFilter, wanted: UUID, *, seconds: float
) -> FoundDelivery | None:
    def is_it(found: FoundDelivery) -> bool:
        return delivery_id(found.place.route_id, found.event_id) == str(wanted)

    found = await page(database, index, among, begin=None, limit=1, seconds=seconds, matches=is_it)
    if found.items:
        return found.items[0].found
    if found.next is not None:
        raise SearchUnfinished
    return None


def _pair(found: FoundDelivery) -> EventAndRoute:
    place = found.place
    return EventAndRoute(seq=place.seq, route_id=place.route_id, event_id=found.event_id, event_time=place.event_time)
