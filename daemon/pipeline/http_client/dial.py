"""Opens a connection: name → addresses → verdict → socket → the proxy's tunnel → TLS → connection.

The one thing to know: each stage has a deadline and one name for its failure, so that no error's class has to be
interpreted. With a proxy, what fails before the receiver is reached is the proxy's failure. Where we lack files or
memory it is nobody's, but a `Shortage`.
"""

from __future__ import annotations

import asyncio
import base64
import os
import re
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import NamedTuple, Self

import structlog
from aiohappyeyeballs import AddrInfoType, start_connection
from yarl import URL

from daemon.core.delivery.answer import ErrorName, Failure
from daemon.pipeline.http_client.connection import ReceiverConnection
from daemon.pipeline.http_client.egress_guard import OWN_SHORTAGES, AddressDenied, EgressGuard, Shortage
from daemon.pipeline.http_client.tls import tls_failure

log = structlog.get_logger()

CONNECT_SECONDS = 5.0
CONNECT_PART = 0.9
"""A part of what is left until the deadline, at most: an unreachable receiver has to differ from a slow one."""
NEXT_ADDRESS_SECONDS = 0.25
"""After so long without a connection the next address is tried beside the last one (RFC 8305)."""
MAX_TUNNEL_HEAD_BYTES = 64 * 1024
SHORTAGE_LINE_SECONDS = 10.0
"""Between two lines about a shortage: every delivery meets it, and tries again."""

_ESTABLISHED = re.compile(rb"HTTP/1\.[01] 2[0-9]{2}[ \r\n]")


class Origin(NamedTuple):
    """Where a connection leads to. `host` has no brackets."""

    is_tls: bool
    host: str
    port: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """The operator's proxy; `authorization_line` is the header line for a request to it, empty without credentials."""

    origin: Origin
    authorization_line: str = field(repr=False)

    @classmethod
    def of_url(cls, text: str) -> Self:
        url = URL(text)
        line = ""
        if url.user is not None or url.password is not None:
            credentials = base64.b64encode(f"{url.user or ''}:{url.password or ''}".encode()).decode()
            line = f"Proxy-Authorization: Basic {credentials}\r\n"
        return cls(origin=Origin(url.scheme == "https", url.raw_host or "", url.port or 0), authorization_line=line)


class ReceiverDialer:
    """`on_denied` gets the `DenyReason` of every attempt that the policy stops here."""

    def __init__(
        self, guard: EgressGuard, *, tls: ssl.SSLContext, proxy: Proxy | None, on_denied: Callable[[str], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._guard = guard
        self._tls = tls
        self._proxy = proxy
        self._on_denied = on_denied
        self._told_shortage_at = float("-inf")

    async def dial(
        self, origin: Origin, new_connection: Callable[[], ReceiverConnection], deadline: float
    ) -> ReceiverConnection | Failure | Shortage:
        """A new connection to `origin`; or why there is none."""
        shortages = self._guard.shortages
        try:
            return await self._connected(origin, new_connection, deadline)
        except AddressDenied as denied:
            self._on_denied(denied.reason)
            return Failure(error=ErrorName.EGRESS_DENIED)
        except _StageFailed as failed:
            shortage = self._shortage(failed.__cause__, is_short=self._guard.shortages > shortages)
            return shortage or failed.failure

    async def _connected(
        self, origin: Origin, new_connection: Callable[[], ReceiverConnection], deadline: float
    ) -> ReceiverConnection:
        hop = origin if self._proxy is None else self._proxy.origin
        addresses = await self._addresses(hop.host, deadline)
        now = self._loop.time()
        until = now + min(CONNECT_SECONDS, (deadline - now) * CONNECT_PART)
        sock = await self._socket(addresses, hop, until)
        connection = new_connection()
        if self._proxy is None or not origin.is_tls:
            await self._attach(sock, hop, connection, until)
            return connection
        tunnel = _Tunnel()
        await self._attach(sock, hop, tunnel, until)
        try:
            await self._establish(tunnel, self._proxy, origin, until)
            await self._secure(tunnel, origin, connection, until)
        except BaseException:
            tunnel.abort()
            raise
        return connection

    async def _addresses(self, host: str, until: float) -> list[str]:
        """The addresses to connect to. An address in the URL is judged when its socket is opened."""
        if _is_address(host):
            return [host]
        try:
            async with asyncio.timeout_at(until):
                return await self._guard.resolve(host)
        except AddressDenied:
            raise
        except OSError as error:
            raise self._failed(ErrorName.DNS_ERROR) from error

    async def _socket(self, addresses: Sequence[str], hop: Origin, until: float) -> socket.socket:
        """A connected socket, by happy eyeballs."""
        denied: list[AddressDenied] = []

        def open_socket(info: AddrInfoType) -> socket.socket:
            try:
                return self._guard.open_socket(info, hop.host)
            except AddressDenied as error:
                denied.append(error)
                raise

        infos = [_address_info(address, hop.port) for address in addresses]
        try:
            async with asyncio.timeout_at(until):
                return await start_connection(
                    infos, happy_eyeballs_delay=NEXT_ADDRESS_SECONDS, interleave=1, socket_factory=open_socket
                )
        except TimeoutError as error:
            raise self._failed(ErrorName.CONNECT_TIMEOUT) from error
        except (OSError, RuntimeError) as error:  # uvloop raises both
            if len(denied) == len(infos):
                raise denied[0] from error
            raise self._failed(ErrorName.CONNECT_REFUSED) from error

    async def _attach(
        self, sock: socket.socket, hop: Origin, protocol: ReceiverConnection | _Tunnel, until: float
    ) -> None:
        """Gives the socket to the protocol, with TLS if the hop wants it."""
        tls, name = (self._tls, hop.host) if hop.is_tls else (None, None)
        try:
            async with asyncio.timeout_at(until):
                await self._loop.create_connection(lambda: protocol, sock=sock, ssl=tls, server_hostname=name)
        except BaseException as error:
            protocol.abort()  # the event loop would close it in order
            if isinstance(error, TimeoutError):
                raise self._failed(ErrorName.CONNECT_TIMEOUT) from error
            if isinstance(error, OSError):
                failure = tls_failure(error) if hop.is_tls else Failure(error=ErrorName.CONNECTION_RESET)
                raise _StageFailed(self._named(failure)) from error
            raise

    async def _establish(self, tunnel: _Tunnel, proxy: Proxy, origin: Origin, until: float) -> None:
        """Returns when the proxy has opened the tunnel."""
        authority = f"[{origin.host}]:{origin.port}" if ":" in origin.host else f"{origin.host}:{origin.port}"
        request = f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n{proxy.authorization_line}\r\n"
        try:
            async with asyncio.timeout_at(until):
                reply = await tunnel.ask(request.encode())
        except TimeoutError as error:
            raise self._failed(ErrorName.PROXY_ERROR) from error
        if not _ESTABLISHED.match(reply):
            raise self._failed(ErrorName.PROXY_ERROR)

    async def _secure(self, tunnel: _Tunnel, origin: Origin, connection: ReceiverConnection, until: float) -> None:
        """Begins TLS with the receiver. From here on a failure is the receiver's, not the proxy's."""
        if tunnel.transport is None:
            raise _StageFailed(Failure(error=ErrorName.TLS_ERROR))
        try:
            async with asyncio.timeout_at(until):
                secured = await self._loop.start_tls(
                    tunnel.transport, connection, self._tls, server_hostname=origin.host
                )
        except TimeoutError as error:
            raise _StageFailed(Failure(error=ErrorName.CONNECT_TIMEOUT)) from error
        except (OSError, RuntimeError) as error:  # uvloop raises the second if the tunnel is closed already
            raise _StageFailed(tls_failure(error)) from error
        if secured is None:
            raise _StageFailed(Failure(error=ErrorName.TLS_ERROR))
        connection.connection_made(secured)

    def _failed(self, error: ErrorName) -> _StageFailed:
        return _StageFailed(self._named(Failure(error=error)))

    def _named(self, failure: Failure) -> Failure:
        """The failure of the first hop, which is the proxy if there is one."""
        return failure if self._proxy is None else Failure(error=ErrorName.PROXY_ERROR)

    def _shortage(self, error: BaseException | None, *, is_short: bool) -> Shortage | None:
        """The shortage of ours that kept a connection from being made, None if it was another error.

        `is_short`: something of ours ran out meanwhile. It is taken for the cause of any connection that was not made.
        """
        if isinstance(error, TimeoutError):
            return None
        if isinstance(error, OSError) and error.errno in OWN_SHORTAGES:
            cause = os.strerror(error.errno)
        elif is_short:
            cause = "a socket could not be opened"
        else:
            return None
        if self._loop.time() >= self._told_shortage_at + SHORTAGE_LINE_SECONDS:
            self._told_shortage_at = self._loop.time()
            log.error("sender.starved", cause=cause)
        return Shortage(cause=cause)


class _StageFailed(Exception):
    """A stage of opening a connection failed; `failure` is what is recorded, the cause is what happened."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure)
        self.failure = failure


class _Tunnel(asyncio.Protocol):
    """Asks the proxy for a tunnel. The proxy says nothing more until TLS begins."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._head = b""
        self._reply: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def ask(self, request: bytes) -> bytes:
        """The head of the proxy's reply; empty if there is none, or too much of it."""
        if self.transport is not None:
            self.transport.write(request)
        return await self._reply

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # it reads and writes

    def data_received(self, data: bytes) -> None:
        self._head += data
        if self._head.endswith(b"\r\n\r\n"):
            self._settle(self._head)
        elif b"\r\n\r\n" in self._head or len(self._head) > MAX_TUNNEL_HEAD_BYTES:
            self._settle(b"")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the transport gives it
        self.transport = None
        self._settle(b"")

    def _settle(self, reply: bytes) -> None:
        if not self._reply.done():
            self._reply.set_result(reply)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _address_info(address: str, port: int) -> AddrInfoType:
    if ":" in address:
        return (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port, 0, 0))
    return (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))
