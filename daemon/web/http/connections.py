"""The open connections of one listener: how many there may be, and how long one may keep its place.

A client without a token can open connections and say nothing, send a head byte by byte, or take no answer; one with a
token can send a body byte by byte. None of these costs others their place: where all places are taken, the connection
that has waited longest for its client makes room, and only if every one has a request in a handler, with all of its
body, a new one is turned away with 503.

    new        a whole head within `head_seconds` and about MAX_HEAD_BYTES, else it is closed
    idle       closed `idle_seconds` after the last answer; a head that has begun has `head_seconds`
    stalled    closed when the client has taken nothing of an answer for `stalled_seconds`

One timer looks at all of them every `sweep_seconds`, and only while there are any.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from aiohttp import web

from daemon.web.http.problems import Problem

RETRY_AFTER_SECONDS = 1

MAX_HEAD_BYTES = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """`most` is how many connections may be open at once. The times are described at the head of this file."""

    most: int = 1000
    head_seconds: float = 10.0
    idle_seconds: float = 75.0
    stalled_seconds: float = 75.0
    sweep_seconds: float = 1.0


def is_connected(request: web.Request) -> bool:
    """True unless the client has left."""
    return request.transport is not None and not request.transport.is_closing()


class Client(Protocol):
    """One connection, as its protocol object knows it."""

    @property
    def is_awaiting_head(self) -> bool:
        """True if no request is under way and none is waiting."""

    @property
    def is_handling(self) -> bool:
        """True if a request that came whole is in its handler or about to be."""


@dataclass(slots=True)
class _Connection:
    """`head_since` is when the head of the next request began to be awaited, None between requests; `has_begun` tells
    that some of it came, `head_bytes` how much. `unsent_bytes` is what the client had not taken yet of an answer at the
    last look, `unsent_since` when that last became less.
    """

    transport: asyncio.Transport
    head_since: float | None
    has_begun: bool = False
    head_bytes: int = 0
    unsent_bytes: int = 0
    unsent_since: float = 0.0


class Connections:
    """Call `opened`, `heard` and `lost` as the names say. `on_change` is told by how many the number changed."""

    def __init__(self, limits: ConnectionLimits, *, on_change: Callable[[int], None]) -> None:
        self._limits = limits
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._open: dict[Client, _Connection] = {}  # the one whose last head, or part of a body, is longest ago first
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._open)

    def opened(self, client: Client, transport: asyncio.Transport) -> None:
        """Takes a new connection in, or turns it away."""
        if len(self._open) >= self._limits.most and not self._make_room():
            transport.write(_crowded().raw())
            transport.close()
        self._open[client] = _Connection(transport, head_since=self._loop.time())
        self._on_change(1)
        if self._timer is None:
            self._timer = self._loop.call_later(self._limits.sweep_seconds, self._sweep)

    def heard(self, client: Client, size_bytes: int, *, is_whole: bool, is_body: bool) -> None:
        """Notes that bytes came; `is_whole` if they were, or completed, the head of a request, `is_body` if they were a
        part of its body.
        """
        connection = self._open.get(client)
        if connection is None:
            return
        if is_whole or is_body:
            connection.head_since, connection.has_begun, connection.head_bytes = None, False, 0
            self._open[client] = self._open.pop(client)
            return
        connection.head_bytes += size_bytes
        if client.is_awaiting_head:
            connection.has_begun = True
            if connection.head_since is None:
                connection.head_since = self._loop.time()
        if connection.head_bytes > MAX_HEAD_BYTES:
            self._refuse_head(client, connection)

    def lost(self, client: Client) -> None:
        """Forgets a connection that is closed."""
        if self._open.pop(client, None) is not None:
            self._on_change(-1)

    def _make_room(self) -> bool:
        """Closes the connection that has waited longest; False if all have a request in a handler."""
        for client, connection in self._open.items():
            if not client.is_handling:
                connection.transport.abort()
                self.lost(client)
                return True
        return False

    def _sweep(self) -> None:
        now = self._loop.time()
        for client, connection in list(self._open.items()):
            self._check_head(client, connection, now)
            self._check_unsent(connection, now)
        delay = self._limits.sweep_seconds
        self._timer = self._loop.call_later(delay, self._sweep) if self._open else None

    def _check_head(self, client: Client, connection: _Connection, now: float) -> None:
        since = connection.head_since
        if since is not None and now - since >= self._limits.head_seconds and client.is_awaiting_head:
            if connection.has_begun:  # a browser would show an answer that it has not asked for
                connection.transport.write(_late(self._limits.head_seconds).raw())
            connection.transport.close()

    def _refuse_head(self, client: Client, connection: _Connection) -> None:
        if client.is_awaiting_head:
            connection.transport.write(_too_long().raw())
            connection.transport.close()
        else:  # an answer to another request is under way, and another one behind it would be taken for a part of it
            connection.transport.abort()

    def _check_unsent(self, connection: _Connection, now: float) -> None:
        unsent = connection.transport.get_write_buffer_size()
        if unsent == 0 or connection.unsent_bytes == 0 or unsent < connection.unsent_bytes:
            connection.unsent_since = now
        elif now - connection.unsent_since >= self._limits.stalled_seconds:
            connection.transport.abort()
        connection.unsent_bytes = unsent


def _crowded() -> Problem:
    detail = "there are too many connections: keep fewer open, and try again"
    return Problem(503, detail, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})


def _late(seconds: float) -> Problem:
    return Problem(408, f"the head of a request has to come within {seconds:g} s")


def _too_long() -> Problem:
    return Problem(431, f"the head of a request may have {MAX_HEAD_BYTES} bytes")
