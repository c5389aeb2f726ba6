"""The live tail: the newest deliveries of a filter, sent as Server-Sent Events whenever they change.

However many listeners a filter has, its deliveries are read at most once a second: the first listener reads, and the
others wait for the result. A stream ends after some minutes, and at once when the process stops; the browser then
connects again. It also ends when the connection is closed, or when the access of its listener has ended, which is
checked every CHECK_SECONDS.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime

from aiohttp import web

from daemon import deliveries
from daemon.deliveries import DeliveryFilter, DeliveryPage
from daemon.pipeline.wakeup import Wakeup
from daemon.web.access import auth
from daemon.web.access.queries import query_database
from daemon.web.dashboard.html.rendering import text_of
from daemon.web.http.connections import is_connected
from daemon.web.http.problems import Problem
from daemon.web.http.services import SERVICES
from daemon.web.http.shapes import moment
from eventstore.postgres.errors import StoreUnavailable

ROWS = 50
MAX_LISTENERS = 64
# One tenant cannot take the capacity of all.
MAX_LISTENERS_OF_TENANT = 16

POLL_SECONDS = 1.0
HEARTBEAT_SECONDS = 15.0
CHECK_SECONDS = 60.0
MAX_STREAM_SECONDS = 600.0
WRITE_TIMEOUT_SECONDS = 10.0

# An event of its own, and no comment: page.js hears it, and notices when it does not.
HEARTBEAT = b"event: heartbeat\ndata: still here\n\n"

HEADERS = {"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryRows:
    """A page of the log, for its template. `is_first` if it is the newest page. `of_events` is the query of the log of
    events with the same filter, but for the status.
    """

    found: DeliveryPage
    is_filtered: bool
    is_first: bool
    of_events: Mapping[str, str | None]

    @property
    def is_short(self) -> bool:
        """True if the page is not full although there are more pages."""
        return self.found.next is not None and len(self.found.items) < ROWS

    @property
    def searched_to(self) -> datetime | None:
        """Where a short page ended."""
        return self.found.next.event_time if self.is_short and self.found.next is not None else None


@dataclass(slots=True)
class LiveFeed:
    """The newest deliveries of one filter, shared by its listeners. `number` counts how often they changed."""

    listeners: int = 0
    number: int = 0
    text: str = ""
    _found: DeliveryPage | None = None
    _read_at: float = float("-inf")
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def refresh(self, request: web.Request, delivery_filter: DeliveryFilter) -> None:
        """Reads the deliveries again if they are older than POLL_SECONDS. Raises StoreUnavailable."""
        async with self._lock:
            clock, services = asyncio.get_running_loop().time, request.app[SERVICES]
            if clock() - self._read_at < POLL_SECONDS:
                return
            try:
                found = await deliveries.page(
                    query_database(request),
                    services.index,
                    delivery_filter,
                    begin=None,
                    limit=ROWS,
                    places=services.filter_places,
                )
            finally:  # also after a failure: an unavailable database is not read more often
                self._read_at = clock()
            if found != self._found:
                self._found = found
                self.number += 1
                self.text = text_of(request, "logs/deliveries_part.html", rows=rows_of(found, delivery_filter))


@dataclass(slots=True)
class LiveFeeds:
    """The feeds that have listeners. `stopping` is set when the process ends."""

    stopping: Wakeup = field(default_factory=Wakeup)
    _open: dict[DeliveryFilter, LiveFeed] = field(default_factory=dict)

    @contextmanager
    def listening(self, delivery_filter: DeliveryFilter) -> Iterator[LiveFeed]:
        """Adds a listener to the feed of a filter. Raises Problem if the tenant, or the process, has too many."""
        of_tenant = self._count(delivery_filter.tenant)
        if self.stopping.is_set or self._count() >= MAX_LISTENERS or of_tenant >= MAX_LISTENERS_OF_TENANT:
            raise Problem(
                503,
                "too many are following live now: refresh the page instead",
                headers={"Retry-After": "30"},
                is_busy=True,
            )
        feed = self._open.setdefault(delivery_filter, LiveFeed())
        feed.listeners += 1
        try:
            yield feed
        finally:
            feed.listeners -= 1
            if not feed.listeners:
                del self._open[delivery_filter]

    def _count(self, tenant: str | None = None) -> int:
        """The number of listeners of a tenant, or of all tenants."""
        return sum(feed.listeners for each, feed in self._open.items() if tenant in (None, each.tenant))


FEEDS = web.AppKey("feeds", LiveFeeds)


def set_up(application: web.Application) -> None:
    """Lets an application serve live feeds until it shuts down."""
    application[FEEDS] = LiveFeeds()
    application.on_shutdown.append(_stop)


def rows_of(found: DeliveryPage, delivery_filter: DeliveryFilter, *, is_first: bool = True) -> DeliveryRows:
    is_filtered = delivery_filter != DeliveryFilter(tenant=delivery_filter.tenant)
    where = delivery_filter.where
    of_events = {
        "route": None if delivery_filter.route_id is None else str(delivery_filter.route_id),
        "type": delivery_filter.event_type,
        "event": delivery_filter.event_id,
        "since": moment(delivery_filter.since),
        "until": moment(delivery_filter.until),
        "where": None if where is None else where.written,
    }
    return DeliveryRows(found=found, is_filtered=is_filtered, is_first=is_first, of_events=of_events)


def is_event_source(request: web.Request) -> bool:
    """True for a GET by a browser's EventSource. HEAD is no such request: its answer must not have a body."""
    return request.method == "GET" and "text/event-stream" in request.headers.get("Accept", "")


async def follow(request: web.Request, delivery_filter: DeliveryFilter) -> web.StreamResponse:
    """Sends the rows of a filter at once, and again whenever they change. Raises Problem."""
    with request.app[FEEDS].listening(delivery_filter) as feed:
        response = web.StreamResponse(headers=HEADERS)
        await response.prepare(request)
        with suppress(ConnectionError, TimeoutError):  # the listener left, or reads nothing
            await _stream(request, response, feed, delivery_filter)
        return response


async def _stream(
    request: web.Request, response: web.StreamResponse, feed: LiveFeed, delivery_filter: DeliveryFilter
) -> None:
    clock, stopping = asyncio.get_running_loop().time, request.app[FEEDS].stopping
    seen, sent_at, checked_at, ends_at = 0, clock(), clock(), clock() + MAX_STREAM_SECONDS
    while clock() < ends_at and is_connected(request):
        try:
            if clock() - checked_at >= CHECK_SECONDS:
                if await auth.has_ended(request):
                    return
                checked_at = clock()
            await feed.refresh(request, delivery_filter)
        except StoreUnavailable:
            pass  # the rows stay as they are, and are read again in a second
        if feed.number != seen:
            await _send(response, _message(feed.text))
            seen, sent_at = feed.number, clock()
        elif clock() - sent_at >= HEARTBEAT_SECONDS:
            await _send(response, HEARTBEAT)
            sent_at = clock()
        if await stopping.wait(POLL_SECONDS):
            return


async def _send(response: web.StreamResponse, message: bytes) -> None:
    """Raises TimeoutError if the listener does not read the message."""
    async with asyncio.timeout(WRITE_TIMEOUT_SECONDS):
        await response.write(message)


def _message(html: str) -> bytes:
    lines = (f"data: {line.strip()}\n" for line in html.splitlines() if line.strip())
    return f"{''.join(lines)}\n".encode()


async def _stop(application: web.Application) -> None:
    application[FEEDS].stopping.set()
