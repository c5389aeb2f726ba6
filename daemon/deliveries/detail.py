"""All there is to say of one delivery: how it stands, why, and each of its requests with its answer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from daemon import audit
from daemon.audit import Explanation
from daemon.core.index import RouteIndex
from daemon.core.payload import Source
from daemon.core.request import Dialect
from daemon.core.sentences import Verdict
from daemon.deliveries import rebuilding
from daemon.deliveries.listing import Item, described
from daemon.deliveries.rebuilding import Sent
from daemon.keys import Keychain
from eventstore import outcomes, stream
from eventstore.connect import Database
from eventstore.delivery_log import Found, Place
from eventstore.outcomes import Exchange, Pair
from eventstore.stream import StoredEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Detail:
    """A delivery. `exchanges` are its requests, and beside each the request as it was sent, None if there was none or
    it cannot be rebuilt. `explanation` is None if the event is no longer kept.
    """

    item: Item
    exchanges: tuple[Exchange, ...]
    sent: tuple[Sent | None, ...]
    explanation: Explanation | None


async def detail(
    database: Database, index: RouteIndex, keychain: Keychain, pair: Pair, *, dialect: Dialect
) -> Detail | None:
    """The delivery of a pair; None if nothing was due, or nothing of it is kept."""
    event = await stream.find_at(database, pair.seq, event_time=pair.event_time)
    explanation = None if event is None else await _explanation(database, index, pair, event)
    if explanation is not None and (explanation.delivery_id is None or explanation.verdict is Verdict.NO_LONGER_KEPT):
        return None
    recorded = await outcomes.exchanges(database, pair.route_id, pair.seq, event_time=pair.event_time)
    if event is not None:
        about = Found(_place(pair), event.id, event.type, event.test_route is not None)
    elif recorded:
        about = Found(_place(pair), pair.event_id, recorded[0].event_type, recorded[0].is_test)
    else:
        return None
    (item,) = await described(database, index, [about])
    requests = [exchange for exchange in recorded if exchange.number]
    sent: list[Sent | None] = [None] * len(requests)
    if event is not None:
        parts = await rebuilding.collect(database, keychain, requests)
        sent = await asyncio.to_thread(rebuilding.rebuild, _source(event, pair), parts, dialect)
    return Detail(item=item, exchanges=tuple(requests), sent=tuple(sent), explanation=explanation)


async def _explanation(database: Database, index: RouteIndex, pair: Pair, event: StoredEvent) -> Explanation | None:
    found = await audit.explain_event(database, event, route_id=pair.route_id, live=index)
    return found[0] if found else None


def _place(pair: Pair) -> Place:
    return Place(pair.event_time, pair.seq, pair.route_id)


def _source(event: StoredEvent, pair: Pair) -> Source:
    return Source(
        event_id=event.id,
        event_type=event.type,
        created=pair.event_time,
        data=event.data,
        context=event.context,
        snapshot=event.snapshot,
    )
