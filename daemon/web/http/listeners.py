"""The sockets that the daemon listens on, and the HTTP server that serves them.

Sockets are bound once, then served by this process or by the worker processes that inherit them. A bound socket does
not listen yet: until a process serves it, connections are refused and not kept waiting.

aiohttp answers a malformed request by itself, in plain text, without asking the application. Our server overrides
`RequestHandler.handle_error`, which is public, and answers with a problem instead. Its connections are counted and
limited (connections.py). aiohttp takes 32 requests ahead of the one that is answered, each with a head of a megabyte;
our server takes what comes in one read. How a handler class of our own gets into the server, what a connection does at
the moment, and how its reading is paused is not public; tests pin it.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast

import structlog
from aiohttp import http_exceptions, web
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler

from daemon.config import ListenAddress
from daemon.config.sections import ServerSection
from daemon.web.http import problems
from daemon.web.http.connections import ConnectionLimits, Connections
from daemon.web.http.problems import DEFAULT_HEADERS, Problem

log = structlog.get_logger()

SHUTDOWN_SECONDS = 3.0
BACKLOG = 512

# aiohttp's own limits. We pass them on, so that what we say about them is true.
MAX_LINE_BYTES = 8190
MAX_HEADERS = 128

# What may help if an address cannot be bound. Another reason is that a name leads nowhere.
_REMEDIES = {
    errno.EADDRINUSE: "stop what listens there",
    errno.EACCES: "grant the right to use a port below 1024 (CAP_NET_BIND_SERVICE)",
    errno.EADDRNOTAVAIL: "give this machine that address",
}

_NOT_HTTP = "this is not a valid HTTP request"

DEFAULT_LIMITS = ConnectionLimits()


def _nobody(_change: int) -> None:
    """Is told of connections where nobody counts them."""


# Family and socket address: host, port, and two more numbers for IPv6.
SocketAddress = tuple[int, tuple[Any, ...]]


class ListenFailed(Exception):
    """An address cannot be bound. `str()` says which and why, `hint` what to do about it."""

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener:
    """`address` has the port that was really bound. A name like `localhost` may have several sockets."""

    address: ListenAddress
    sockets: tuple[socket.socket, ...]

    def duplicate(self) -> Listener:
        return Listener(address=self.address, sockets=tuple(each.dup() for each in self.sockets))

    def close(self) -> None:
        for each in self.sockets:
            each.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Listeners:
    """`ops` is None if the main listener serves the ops endpoints."""

    main: Listener
    ops: Listener | None

    def duplicate(self) -> Listeners:
        """The same sockets, to be closed apart from these: they accept until the last duplicate is closed."""
        return Listeners(main=self.main.duplicate(), ops=None if self.ops is None else self.ops.duplicate())

    def close(self) -> None:
        self.main.close()
        if self.ops is not None:
            self.ops.close()


def open_listeners(server: ServerSection) -> Listeners:
    """Binds the addresses of the configuration. Raises ListenFailed."""
    main = bind(server.listen)
    try:
        ops = None if server.ops_listen is None else bind(server.ops_listen, key="server.ops_listen")
        return Listeners(main=main, ops=ops)
    except ListenFailed:
        main.close()
        raise


def bind(address: ListenAddress, *, key: str = "server.listen, or --listen") -> Listener:
    """Sockets bound to every address that the host resolves to, all with the same port. Raises ListenFailed, which says
    that `key` is to have another value.
    """
    bound: list[socket.socket] = []
    try:
        with ExitStack() as undo:
            for family, name in _socket_addresses(address):
                each = undo.enter_context(socket.socket(family, socket.SOCK_STREAM))
                _bind(each, name if not bound else (name[0], bound[0].getsockname()[1], *name[2:]))
                bound.append(each)
            undo.pop_all()
    except OSError as error:
        hint = f"{_REMEDIES.get(error.errno or 0, 'see whether the name is right')}, or choose another address in {key}"
        raise ListenFailed(f"cannot listen on {address}: {error.strerror or error}", hint=hint) from error
    port = int(bound[0].getsockname()[1])
    return Listener(address=ListenAddress(host=address.host, port=port), sockets=tuple(bound))


@asynccontextmanager
async def serving(
    application: web.Application,
    listener: Listener,
    limits: ConnectionLimits = DEFAULT_LIMITS,
    *,
    on_connections: Callable[[int], None] = _nobody,
) -> AsyncIterator[None]:
    """Serves an application on the sockets of a listener, and closes them at the end. Raises ListenFailed if another
    program that had bound the address, too, listens there by now.

    `on_connections` is told by how many the number of open connections changed.
    """
    runner = OwnRunner(application, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_SECONDS)
    runner.limits, runner.on_connections = limits, on_connections
    await runner.setup()
    backlog = min(BACKLOG, limits.most)
    try:
        for each in listener.sockets:
            _listen(each, listener.address, backlog)
            await web.SockSite(runner, each, backlog=backlog).start()
        yield
    finally:
        await runner.cleanup()
        listener.close()


class OwnRunner(web.AppRunner):
    """web.AppRunner with a server that answers malformed requests with problems, and limits its connections.

    Set `limits` and `on_connections` before `setup`.
    """

    limits: ConnectionLimits = DEFAULT_LIMITS
    on_connections: Callable[[int], None] = staticmethod(_nobody)

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        settings = {
            "max_line_size": MAX_LINE_BYTES,
            "max_field_size": MAX_LINE_BYTES,
            "max_headers": MAX_HEADERS,
            "keepalive_timeout": self.limits.idle_seconds,
            "auto_decompress": False,  # inflation.py does it, within limits and for those who have access
        }

        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            try:
                return await server.request_handler(request)
            except web.HTTPException as error:  # raised before any middleware, for an unknown Expect
                problem = problems.of(error)
                if problem is None:
                    raise
                return problem.response()

        own = _Server(
            answer,
            request_factory=server.request_factory,
            handler_cancellation=server.handler_cancellation,
            **server._kwargs | settings,  # noqa: SLF001
        )
        own.places = Connections(self.limits, on_change=self.on_connections)
        return own


def _listen(bound: socket.socket, address: ListenAddress, backlog: int) -> None:
    """Two sockets may be bound to one address as long as neither listens. The loop's server does this too, but if it
    fails there, nobody is told.
    """
    try:
        bound.listen(backlog)
    except OSError as error:
        hint = f"{_REMEDIES.get(error.errno or 0, 'see why')}, or choose another address"
        raise ListenFailed(f"cannot listen on {address}: {error.strerror or error}", hint=hint) from error


def _socket_addresses(address: ListenAddress) -> list[SocketAddress]:
    """What the host resolves to. A machine without IPv6 leaves out the IPv6 addresses, unless there are no others."""
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses: list[SocketAddress] = list(dict.fromkeys((family, name) for family, _, _, _, name in found))
    return [each for each in addresses if each[0] != socket.AF_INET6 or _has_ipv6()] or addresses


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


def _bind(each: socket.socket, name: tuple[Any, ...]) -> None:
    each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if each.family == socket.AF_INET6:
        each.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # 0.0.0.0 has a socket of its own
    each.bind(name)


class _Server(web.Server):
    """`places` is shared by all connections."""

    places: Connections

    def __call__(self) -> RequestHandler:
        handler = _Handler(self, loop=self._loop, **self._kwargs)
        handler.places = self.places
        return handler


class _Handler(RequestHandler):
    __slots__ = ("body", "places")

    places: Connections
    body: StreamReader

    @property
    def is_awaiting_head(self) -> bool:
        return not self._messages and self._waiter is not None and not self._waiter.done()

    @property
    def is_handling(self) -> bool:
        # Behind an answer that the client does not take, requests wait for the client, as the handler of one whose body
        # has not come does.
        is_next = bool(self._messages) and self._waiter is not None
        return is_next or (self._current_request is not None and self._current_request.content.is_eof())

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.body = EMPTY_PAYLOAD
        self._msg_queue_resume_size = 0
        super().connection_made(transport)
        self.places.opened(self, cast("asyncio.Transport", transport))

    def connection_lost(self, exc: BaseException | None) -> None:
        self.places.lost(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        heads, is_body = self._request_count, not self.body.is_eof()
        super().data_received(data)
        is_whole = self._request_count != heads
        if is_whole:
            self.body = self._messages[-1][1]
            if len(self._messages) > 1 and not self._buffer_paused:
                self._pause_reading_for_buffer()  # until the last of them is handled
        self.places.heard(self, len(data), is_whole=is_whole, is_body=is_body)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it repeats bytes of the request
    ) -> web.StreamResponse:
        """Answers an error outside of any handler with a problem, and closes the connection."""
        if status >= 500:
            log.error("connection.crashed", exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("a part of an answer was sent already")
        response = Problem(status, _detail(status, exc)).response()
        response.headers.update(DEFAULT_HEADERS)
        response.force_close()
        return response


def _detail(status: int, error: BaseException | None) -> str:
    match error:
        case http_exceptions.LineTooLong():
            return f"a line of the request's head is longer than {MAX_LINE_BYTES} bytes"
        case http_exceptions.BadHttpMethod():
            return f"{_NOT_HTTP}: it does not begin with a method"
        case http_exceptions.InvalidHeader():
            return f"{_NOT_HTTP}: a header is malformed"
        case http_exceptions.InvalidURLError():
            return f"{_NOT_HTTP}: its URL is malformed"
        case _ if status < 500:
            return f"{_NOT_HTTP}, or it has more than {MAX_HEADERS} headers"
        case _:
            return "an unexpected error"
