"""The pool of connections to receivers, behind the egress guard, with a limit.

aiohttp keeps a connection for the next request for 15 s. With thousands of receivers that would be thousands of open
files, and the process would run out of them. So idle connections are closed beyond a limit, those first that were idle
longest. The one thing to know: nobody ever waits for a connection here, since the lanes bound how many requests there
are at once.
"""

from __future__ import annotations

import asyncio
import resource
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from aiohttp import ClientConnectorError, ClientRequest, ClientTimeout, TCPConnector
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from daemon.pipeline.sending.connection import ReceiverConnection
from daemon.pipeline.sending.egress_guard import EgressGuard


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


class GuardedConnector(TCPConnector):
    """aiohttp's connection pool: each socket is opened by the guard, and idle connections are limited.

    Tests pin the private names of aiohttp that it uses: `_factory`, `_conns`, `_acquired`, `_release`,
    `_create_connection`, `_start_tls_connection`.
    """

    def __init__(
        self,
        guard: EgressGuard,
        limits: ReceiverConnectionLimits,
        *,
        tls: ssl.SSLContext,
        proxied: bool,
        on_connections: Callable[[int], None],
    ) -> None:
        super().__init__(resolver=guard, socket_factory=guard.open_socket, ssl=tls, limit=0, limit_per_host=0)
        self._limits = limits
        self._idle: dict[ResponseHandler, ConnectionKey] = {}  # the longest idle first
        self._factory = partial(  # type: ignore[assignment]  # partial is invariant
            ReceiverConnection, self._loop, proxied=proxied, on_lost=self._is_not_idle, on_change=on_connections
        )

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> Connection:  # noqa: ASYNC109 - aiohttp's signature
        connection = await super().connect(req, traces, timeout)
        if isinstance(connection.protocol, ReceiverConnection):
            self._is_not_idle(connection.protocol)
            connection.protocol.begin()
        return connection

    @property
    def open_connections(self) -> int:
        """Connections to receivers, idle or in use, with those that are being opened."""
        return len(self._idle) + len(self._acquired)

    async def _create_connection(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: ClientTimeout,  # noqa: ASYNC109 - aiohttp's signature
    ) -> ResponseHandler:
        self._close_idle()
        return await super()._create_connection(req, traces, timeout)

    def _release(self, key: ConnectionKey, protocol: ResponseHandler, *, should_close: bool = False) -> None:
        super()._release(key, protocol, should_close=should_close)
        if protocol.is_connected() and not self.closed:
            self._idle[protocol] = key
            pooled = self._conns[key]
            if len(pooled) > self._limits.idle_per_origin:
                self._close_one(pooled[0][0], key)
            self._close_idle()

    def _close_idle(self) -> None:
        """Closes what was idle longest, until there are no more connections than the limit."""
        while self._idle and self.open_connections > self._limits.all_together:
            self._close_one(*next(iter(self._idle.items())))

    def _close_one(self, protocol: ResponseHandler, key: ConnectionKey) -> None:
        """Closes an idle connection, and takes it out of the pool with those before it that are closed already."""
        self._is_not_idle(protocol)
        protocol.close()
        pooled = self._conns.get(key)
        while pooled and not pooled[0][0].is_connected():
            pooled.popleft()

    def _is_not_idle(self, protocol: ResponseHandler) -> None:
        """Forgets that a connection is idle: it is in use again, or lost."""
        self._idle.pop(protocol, None)

    async def _start_tls_connection(
        self,
        underlying_transport: asyncio.Transport,
        req: ClientRequest,
        timeout: ClientTimeout,  # noqa: ASYNC109 - aiohttp's signature
        client_error: type[Exception] = ClientConnectorError,
    ) -> tuple[asyncio.BaseTransport, ResponseHandler]:
        """The TLS handshake through an established tunnel. Its timeout is the receiver's failure, not the proxy's."""
        try:
            return await super()._start_tls_connection(underlying_transport, req, timeout, client_error)
        except TimeoutError as silence:
            raise ClientConnectorError(req.connection_key, silence) from silence

    def drop_idle(self, host: str, port: int | None) -> None:
        """Closes the pooled connections to one origin."""
        for key, pooled in self._conns.items():
            if key.host == host and key.port == port:
                for connection, _ in pooled:
                    connection.close()
