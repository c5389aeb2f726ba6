"""One delivery: how it is found by its id, and its status, explanation and requests with their answers.

There is no table of deliveries, and an id is a hash of route and event. It is found by its event (`find`), by its
requests (`find`), or by comparing the ids of all deliveries that have no request (`search`), which takes long.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from daemon import audit
from daemon.audit import Explanation
from daemon.core.delivery import answer
from daemon.core.delivery.status import ListStatus
from daemon.core.routing.index import RouteIndex
from daemon.core.sentences.explanations import ExplainedDecision
from daemon.core.webhook.request import RequestOptions
from daemon.credentials.keys import Keychain
from daemon.deliveries import sent_requests
from daemon.deliveries.listing import DeliveryFilter, ListedDelivery, described, page
from daemon.deliveries.sent_requests import SentRequest
from daemon.expressions.judging import FilterPlaces
from daemon.expressions.stored_events import payload_event
from eventstore import domain_events
from eventstore.domain_events.events import StoredEvent
from eventstore.postgres.connect import Database
from eventstore.progress import manual_retry
from eventstore.progress.manual_retry import ManualRetry
from eventstore.queries.deliveries import attempts
from eventstore.queries.deliveries.attempts import EventAndRoute, RecordedExchange
from eventstore.queries.deliveries.delivery_log import FoundDelivery, ListPosition
from eventstore.queries.events import listing

SEARCH_SECONDS = 0.5
MAX_MANUAL_RETRIES = 10

# Pending first: a delivery that is searched for is nearly always a recent one.
_WITHOUT_REQUEST = (ListStatus.PENDING, ListStatus.SUPPRESSED, ListStatus.EXPIRED)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryDetail:
    """A delivery. `exchanges` are its requests with their answers, and `sent` has each request as it was sent.

    An item of `sent` is None if the request cannot be rebuilt. `explanation` is None if the event is no longer kept.
    `manual_retries` are the last MAX_MANUAL_RETRIES, the newest first.
    """

    item: ListedDelivery
    exchanges: tuple[RecordedExchange, ...]
    sent: tuple[SentRequest | None, ...]
    explanation: Explanation | None
    manual_retries: tuple[ManualRetry, ...]


class SearchUnfinished(Exception):
    """Too many deliveries have no request: this one was not found within SEARCH_SECONDS."""


async def detail(
    database: Database,
    index: RouteIndex,
    keychain: Keychain,
    pair: EventAndRoute,
    *,
    request_options: RequestOptions,
    places: FilterPlaces | None = None,
) -> DeliveryDetail | None:
    """The delivery of a pair. None if the event was not due to the route, or if nothing of it is kept."""
    event = await domain_events.find_at(database, pair.seq, event_time=pair.event_time)
    explanation = None if event is None else await _explanation(database, index, pair, event, places)
    if explanation is not None and (
        explanation.delivery_id is None or explanation.verdict is ExplainedDecision.NO_LONGER_KEPT
    ):
        return None
    recorded = await attempts.exchanges(database, pair.route_id, pair.seq, event_time=pair.event_time)
    if event is not None:
        found = FoundDelivery(_position(pair), event.id, event.type, event.test_route is not None)
    elif recorded:
        found = FoundDelivery(_position(pair), pair.event_id, recorded[0].event_type, recorded[0].is_test)
    else:
        return None
    (item,) = await described(database, index, [found])
    requests = [exchange for exchange in recorded if exchange.number]
    sent: list[SentRequest | None] = [None] * len(requests)
    if event is not None:
        parts = await sent_requests.collect(database, index, keychain, requests)
        as_sent = payload_event(event, event_time=pair.event_time)
        sent = await sent_requests.rebuild(as_sent, parts, request_options, tenant=event.tenant, places=places)
    by_hand = await manual_retry.of_delivery(database, route_id=pair.route_id, seq=pair.seq, limit=MAX_MANUAL_RETRIES)
    return DeliveryDetail(
        item=item,
        exchanges=tuple(requests),
        sent=tuple(sent),
        explanation=explanation,
        manual_retries=tuple(by_hand),
    )


async def find(
    database: Database, index: RouteIndex, tenant: str, delivery_id: UUID, *, event_id: str | None = None
) -> EventAndRoute | None:
    """The pair of a delivery, found by its event if `event_id` is given, or by its requests.

    Requests may be kept longer than the event. None if there is no such delivery, or if only `search` can find it.
    """
    pair = None if event_id is None else await _by_event(database, index, tenant, delivery_id, event_id)
    if pair is not None:
        return pair
    for candidate in await attempts.by_key(database, tenant, answer.delivery_key(str(delivery_id))):
        has_id = _has_id(candidate.route_id, candidate.event_id, candidate.event_time, delivery_id)
        if has_id and event_id in (None, candidate.event_id):
            return candidate
    return None


async def search(
    database: Database, index: RouteIndex, tenant: str, delivery_id: UUID, *, places: FilterPlaces | None = None
) -> EventAndRoute | None:
    """The pair of a delivery without a request, None if there is none. Takes the longer the more deliveries wait.

    Raises SearchUnfinished.
    """
    ends_at = time.monotonic() + SEARCH_SECONDS
    for status in _WITHOUT_REQUEST:
        delivery_filter = DeliveryFilter(tenant=tenant, status=status)
        found = await _search_in(
            database, index, delivery_filter, delivery_id, seconds=ends_at - time.monotonic(), places=places
        )
        if found is not None:
            return _pair(found)
    return None


async def _explanation(
    database: Database, index: RouteIndex, pair: EventAndRoute, event: StoredEvent, places: FilterPlaces | None
) -> Explanation | None:
    explanations = await audit.explain_event(database, event, route_id=pair.route_id, live=index, places=places)
    return explanations[0] if explanations else None


async def _by_event(
    database: Database, index: RouteIndex, tenant: str, delivery_id: UUID, event_id: str
) -> EventAndRoute | None:
    """The pair by the id of its event. The event need not be due to the route."""
    for event in await listing.by_id(database, tenant, event_id):
        for timeline in index.candidates(tenant, event.type):
            route_id = timeline.current.id
            if _has_id(route_id, event_id, event.event_time, delivery_id):
                return EventAndRoute(seq=event.seq, route_id=route_id, event_id=event_id, event_time=event.event_time)
    return None


async def _search_in(
    database: Database,
    index: RouteIndex,
    delivery_filter: DeliveryFilter,
    delivery_id: UUID,
    *,
    seconds: float,
    places: FilterPlaces | None,
) -> FoundDelivery | None:
    def matches(found: FoundDelivery) -> bool:
        return _has_id(found.position.route_id, found.event_id, found.position.event_time, delivery_id)

    result = await page(
        database, index, delivery_filter, begin=None, limit=1, seconds=seconds, matches=matches, places=places
    )
    if result.items:
        return result.items[0].found
    if result.next is not None:
        raise SearchUnfinished
    return None


def _has_id(route_id: UUID, event_id: str, event_time: datetime, delivery_id: UUID) -> bool:
    return answer.delivery_id(route_id, event_id, event_time) == str(delivery_id)


def _position(pair: EventAndRoute) -> ListPosition:
    return ListPosition(pair.event_time, pair.seq, pair.route_id)


def _pair(found: FoundDelivery) -> EventAndRoute:
    position = found.position
    return EventAndRoute(
        seq=position.seq, route_id=position.route_id, event_id=found.event_id, event_time=position.event_time
    )
