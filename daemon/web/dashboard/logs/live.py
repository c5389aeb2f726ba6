"""The live tail: the newest deliveries of a filter, sent as Server-Sent Events whenever they changed.

However many listen, a filter is read once a second at most: whoever comes first reads, and the others wait for that.
A listener ends after some minutes, and at once when the process stops; his browser comes again. That he left is seen by
his connection, and that he may listen no longer by asking again from time to time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from aiohttp import web

from daemon import deliveries
from daemon.deliveries import DeliveryFilter, DeliveryPage
from daemon.pipeline.wakeup import Wakeup
from daemon.web.access import auth
from daemon.web.dashboard.rendering import text_of
from daemon.web.http.problems import Problem
from daemon.web.http.services import SERVICES
from eventstore.postgres.errors import StoreUnavailable

ROWS = 50
MOST_LISTENERS = 64
# So that one tenant leaves places to the others.
MOST_OF_TENANT = 16

POLL_SECONDS = 1.0
HEARTBEAT_SECONDS = 15.0
CHECK_SECONDS = 60.0
LONGEST_SECONDS = 600.0
WRITE_SECONDS = 10.0

HEADERS = {"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """A part of the log, for its template: its newest part, unless it is not `is_first`."""

    found: DeliveryPage
    is_filtered: bool
    is_first: bool

    @property
    def is_short(self) -> bool:
        """True if more may be found by looking on."""
        return self.found.next is not None and len(self.found.items) < ROWS


@dataclass(slots=True)
class Feed:
    """The newest deliveries of one filter; `number` counts how often they changed."""

    listeners: int = 0
    number: int = 0
    text: str = ""
    _found: DeliveryPage | None = None
    _read_at: float = float("-inf")
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def refresh(self, request: web.Request, wanted: DeliveryFilter) -> None:
        """Has them no older than a second. Raises StoreUnavailable."""
        async with self._turn:
            clock, services = asyncio.get_running_loop().time, request.app[SERVICES]
            if clock() - self._read_at < POLL_SECONDS:
                return
            try:
                found = await deliveries.page(services.database, services.index, wanted, begin=None, limit=ROWS)
            finally:  # a database that does not answer is asked no more often
                self._read_at = clock()
            if found != self._found:
                self._found = found
                self.number += 1
                self.text = text_of(request, "logs/deliveries_live.html", rows=rows_of(found, wanted))


@dataclass(slots=True)
class Feeds:
    """All that somebody listens to; `stopping` rings when the process ends."""

    stopping: Wakeup = field(default_factory=Wakeup)
    _open: dict[DeliveryFilter, Feed] = field(default_factory=dict)

    @contextmanager
    def listening(self, wanted: DeliveryFilter) -> Iterator[Feed]:
        """One more listener of a filter. Raises Problem if there are too many, of the tenant's or of all."""
        if self.stopping.is_set or self._count() >= MOST_LISTENERS or self._count(wanted.tenant) >= MOST_OF_TENANT:
            raise Problem(
                503, "too many are following live now: refresh the page instead", headers={"Retry-After": "30"}
            )
        feed = self._open.setdefault(wanted, Feed())
        feed.listeners += 1
        try:
            yield feed
        finally:
            feed.listeners -= 1
            if not feed.listeners:
                del self._open[wanted]

    def _count(self, tenant: str | None = None) -> int:
        """The listeners of a tenant, or all."""
        return sum(feed.listeners for wanted, feed in self._open.items() if tenant in (None, wanted.tenant))


FEEDS = web.AppKey("feeds", Feeds)


def set_up(application: web.Application) -> None:
    """Lets an application be followed live, until it shuts down."""
    application[FEEDS] = Feeds()
    application.on_shutdown.append(_stop)


def rows_of(found: DeliveryPage, wanted: DeliveryFilter, *, is_first: bool = True) -> Rows:
    return Rows(found=found, is_filtered=wanted != DeliveryFilter(tenant=wanted.tenant), is_first=is_first)


def is_wanted(request: web.Request) -> bool:
    """True if it is a browser's EventSource that asks. Behind the head that HEAD asks for there must be no rows."""
    return request.method == "GET" and "text/event-stream" in request.headers.get("Accept", "")


async def follow(request: web.Request, wanted: DeliveryFilter) -> web.StreamResponse:
    """Sends the rows of a filter, at first and whenever they changed. Raises Problem."""
    with request.app[FEEDS].listening(wanted) as feed:
        response = web.StreamResponse(headers=HEADERS)
        await response.prepare(request)
        with suppress(ConnectionError, TimeoutError):  # he left, or reads nothing
            await _stream(request, response, feed, wanted)
        return response


async def _stream(request: web.Request, response: web.StreamResponse, feed: Feed, wanted: DeliveryFilter) -> None:
    clock, stopping = asyncio.get_running_loop().time, request.app[FEEDS].stopping
    seen, said_at, checked_at, ends_at = 0, clock(), clock(), clock() + LONGEST_SECONDS
    while clock() < ends_at and _is_there(request):
        try:
            if clock() - checked_at >= CHECK_SECONDS:
                if await auth.has_ended(request):
                    return
                checked_at = clock()
            await feed.refresh(request, wanted)
        except StoreUnavailable:
            pass  # what is shown stays, and the next second asks again
        if feed.number != seen:
            await _send(response, _message(feed.text))
            seen, said_at = feed.number, clock()
        elif clock() - said_at >= HEARTBEAT_SECONDS:
            await _send(response, b": still here\n\n")
            said_at = clock()
        if await stopping.wait(POLL_SECONDS):
            return


def _is_there(request: web.Request) -> bool:
    return request.transport is not None and not request.transport.is_closing()


async def _send(response: web.StreamResponse, message: bytes) -> None:
    """Raises TimeoutError if it is not taken."""
    async with asyncio.timeout(WRITE_SECONDS):
        await response.write(message)


def _message(html: str) -> bytes:
    lines = (f"data: {line.strip()}\n" for line in html.splitlines() if line.strip())
    return f"{''.join(lines)}\n".encode()


async def _stop(application: web.Application) -> None:
    application[FEEDS].stopping.set()
