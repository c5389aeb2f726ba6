"""The connections to receivers: idle ones by origin, the newest first, and one free try if one was stale.

With thousands of receivers, connections that are kept would be thousands of open files, and the process would run out
of them. So idle ones are closed beyond a limit, those first that were idle longest. The one thing to know: nobody ever
waits for a connection here, since the lanes bound how many requests there are at once.
"""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable
from dataclasses import dataclass

from daemon.core.delivery.answer import Answer, ErrorName, Failure
from daemon.pipeline.http_client.connection import Deadlines, Outbox, ReceiverConnection
from daemon.pipeline.http_client.dial import Origin, ReceiverDialer
from daemon.pipeline.http_client.egress_guard import Unsent, Withheld

STALE_SECONDS = 1.0
"""A connection that ended so long after the request was written is not stale: its receiver may have read it."""
SWEEP_SECONDS = 1.0


_WITHHELD = Withheld()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiverConnectionLimits:
    """How many connections to receivers there may be: idle ones to one origin, and all, idle or in use.

    Those in use are bounded by the lanes (twice `concurrency`), so only idle ones are ever closed for the limits.
    """

    idle_per_origin: int
    all_together: int

    @classmethod
    def of_process(cls, concurrency: int) -> ReceiverConnectionLimits:
        """Four times `concurrency`, and at most half of the files that this process may open."""
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        together = 4 * concurrency if files == resource.RLIM_INFINITY else min(4 * concurrency, files // 2)
        return cls(idle_per_origin=max(1, together // 4), all_together=together)


class ConnectionPool:
    """`on_connections` is told by how many the open connections to receivers changed."""

    def __init__(
        self, dialer: ReceiverDialer, limits: ReceiverConnectionLimits, *, on_connections: Callable[[int], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._dialer = dialer
        self._limits = limits
        self._on_connections = on_connections
        self._deadlines, self._outbox = Deadlines(), Outbox()
        self._in_use = 0
        self._open: set[ReceiverConnection] = set()
        self._idle: dict[ReceiverConnection, Origin] = {}  # the longest idle first
        self._by_origin: dict[Origin, dict[ReceiverConnection, None]] = {}  # as sets in order: the newest last
        # A set that is empty stays until the next sweep: it is filled and emptied with nearly every request.
        self._sweep: asyncio.TimerHandle | None = None
        self._is_closed = False

    @property
    def open_connections(self) -> int:
        """Connections to receivers, idle or in use, with those that are being opened."""
        return len(self._idle) + self._in_use

    async def exchange(
        self, origin: Origin, request: bytes, seconds: float, may_send: Callable[[], bool]
    ) -> Answer | Unsent:
        """Sends a request and returns its answer, which comes within so many seconds.

        To make a connection may take most of them. So `may_send` is asked once there is a new one, and if the request
        is not to be sent any more, the connection is kept for the next one.
        """
        began = self._loop.time()
        deadline = began + seconds
        self._in_use += 1
        connection = self._newest(origin, began)
        try:
            if connection is not None:
                answer = await connection.exchange(request, deadline)
                if answer is not None:
                    return answer
                if self._loop.time() - began > STALE_SECONDS:
                    return Failure(error=ErrorName.CONNECTION_RESET)
                self.close_idle(origin)  # the receiver closed them all, most likely
            self._close_beyond_limit()
            dialled = await self._dialer.dial(origin, self._new_connection, deadline)
            if not isinstance(dialled, ReceiverConnection):
                return dialled
            connection = dialled
            if not may_send():
                connection.keep_unused()
                return _WITHHELD
            answer = await connection.exchange(request, deadline)
            return answer or Failure(error=ErrorName.CONNECTION_RESET)  # only a kept connection has none
        except asyncio.CancelledError:
            if connection is not None:
                connection.abort()
            raise
        finally:
            self._in_use -= 1
            if connection is not None and connection.is_open:
                self._keep(connection, origin)

    def close_idle(self, origin: Origin) -> None:
        """Closes the idle connections to one origin."""
        for connection in list(self._by_origin.get(origin, ())):
            self._close(connection)

    def close(self) -> None:
        """Closes all connections, those in use too."""
        self._is_closed = True
        for connection in list(self._open):
            connection.abort()

    def _new_connection(self) -> ReceiverConnection:
        return ReceiverConnection(self._deadlines, self._outbox, on_made=self._made, on_lost=self._lost)

    def _newest(self, origin: Origin, now: float) -> ReceiverConnection | None:
        """Takes the newest idle connection to an origin; None if there is none that may be used."""
        while connections := self._by_origin.get(origin):
            connection, _ = connections.popitem()
            del self._idle[connection]
            if connection.idle_until > now and connection.is_open:
                return connection
            connection.abort()
        return None

    def _keep(self, connection: ReceiverConnection, origin: Origin) -> None:
        if self._is_closed:
            connection.abort()
            return
        self._idle[connection] = origin
        connections = self._by_origin.get(origin)
        if connections is None:
            connections = self._by_origin[origin] = {}
        connections[connection] = None
        if len(connections) > self._limits.idle_per_origin:
            self._close(next(iter(connections)))
        if len(self._idle) + self._in_use > self._limits.all_together:
            self._close_beyond_limit()
        if self._sweep is None:
            self._sweep = self._loop.call_later(SWEEP_SECONDS, self._close_old)

    def _close_beyond_limit(self) -> None:
        """Closes what was idle longest, until there are no more connections than the limit."""
        while self._idle and self.open_connections > self._limits.all_together:
            self._close(next(iter(self._idle)))

    def _close_old(self) -> None:
        now = self._loop.time()
        for connection in [each for each in self._idle if each.idle_until <= now]:
            self._close(connection)
        self._by_origin = {origin: connections for origin, connections in self._by_origin.items() if connections}
        self._sweep = self._loop.call_later(SWEEP_SECONDS, self._close_old) if self._idle else None

    def _close(self, connection: ReceiverConnection) -> None:
        self._forget_idle(connection)
        connection.abort()

    def _made(self, connection: ReceiverConnection) -> None:
        self._open.add(connection)
        self._on_connections(1)

    def _lost(self, connection: ReceiverConnection) -> None:
        self._open.discard(connection)
        self._on_connections(-1)
        self._forget_idle(connection)

    def _forget_idle(self, connection: ReceiverConnection) -> None:
        """Takes a connection out of the idle ones, if it is one of them."""
        origin = self._idle.pop(connection, None)
        if origin is not None:
            del self._by_origin[origin][connection]
