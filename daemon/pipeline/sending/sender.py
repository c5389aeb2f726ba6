"""Sends one webhook: one POST, one deadline, and every result is returned as an `Answer`.

This is the hottest path of the product. Per attempt it adds one look-up in a cache of checked URLs to aiohttp's work.
The one thing to know: the status decides. A body that ends too early does not change that. A reset, broken framing, a
flood or silence until the deadline is a failure whatever the status, because the receiver may not have meant it. Where
we lack the files or the memory to ask the receiver, there is no answer but a `Shortage`. Only `CancelledError` is ever
raised from `send`.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

import structlog
from aiohttp import (
    ClientConnectorCertificateError,
    ClientConnectorDNSError,
    ClientConnectorError,
    ClientConnectorSSLError,
    ClientHttpProxyError,
    ClientOSError,
    ClientPayloadError,
    ClientProxyConnectionError,
    ClientRequest,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    ConnectionTimeoutError,
    DummyCookieJar,
    ServerDisconnectedError,
)
from aiohttp.abc import AbstractResolver
from multidict import istr
from yarl import URL

from daemon.core.delivery.answer import Answer, ErrorName, Failure, Response
from daemon.core.webhook.egress import EgressPolicy, UrlRefused, check_url
from daemon.pipeline.sending.connection import KEPT_BODY_BYTES, AnswerTooLarge, ProxyDropped, StaleConnection
from daemon.pipeline.sending.connector import GuardedConnector, ReceiverConnectionLimits
from daemon.pipeline.sending.egress_guard import (
    OWN_SHORTAGES,
    AddressDenied,
    EgressGuard,
    system_resolver,
    tls_context,
)

log = structlog.get_logger()

CONNECT_SECONDS = 5.0
STALE_SECONDS = 1.0
SILENCE_SECONDS = 10.0
MAX_HEADERS = 128
CHECKED_URLS = 8192
SHORTAGE_LINE_SECONDS = 10.0
"""Between two lines about a shortage: every delivery meets it, and tries again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """No request was made: this machine lacked files or memory. `cause` is for the operator."""

    cause: str


class Sender:
    """Call `start` before `send`. `on_denied` gets the `DenyReason` of every attempt that the policy stops.

    `concurrency` is how many requests there usually are at once; so many connections may idle per origin.
    `on_connections` is told by how many the open connections to receivers changed.
    """

    def __init__(
        self,
        policy: EgressPolicy,
        *,
        timeout_seconds: float,
        on_denied: Callable[[str], None],
        on_connections: Callable[[int], None] = lambda _change: None,
        proxy: str | None = None,
        extra_ca_file: Path | None = None,
        resolver: AbstractResolver | None = None,
        concurrency: int = 256,
    ) -> None:
        self._policy = policy
        self._concurrency = concurrency
        self._timeout_seconds = timeout_seconds
        self._on_denied = on_denied
        self._on_connections = on_connections
        self._told_shortage_at = float("-inf")
        self._proxy = None if proxy is None else URL(proxy)
        self._tls = tls_context(extra_ca_file)
        self._resolver = resolver
        self._checked = lru_cache(CHECKED_URLS)(partial(_checked_url, policy))

    async def start(self) -> None:
        self._clock = asyncio.get_running_loop().time
        resolver = self._resolver or system_resolver()
        self._guard = EgressGuard(self._policy, resolver=resolver, proxy=self._proxy)
        self._connector = GuardedConnector(
            self._guard,
            ReceiverConnectionLimits.of_process(self._concurrency),
            tls=self._tls,
            proxied=self._proxy is not None,
            on_connections=self._on_connections,
        )
        self._session = ClientSession(
            connector=self._connector,
            proxy=self._proxy,
            trust_env=False,
            cookie_jar=DummyCookieJar(),
            auto_decompress=False,
            max_headers=MAX_HEADERS,
            request_class=_Post,
            timeout=_timeout(self._timeout_seconds),
        )

    async def close(self) -> None:
        await self._session.close()
        await self._guard.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def send(
        self, target_url: str, headers: Mapping[str, str], body: bytes, *, timeout_seconds: float | None = None
    ) -> Answer | Shortage:
        """Sends `body` with exactly `headers`, Host and Content-Length. `timeout_seconds` None: the sender's own."""
        total = timeout_seconds or self._timeout_seconds
        began, shortages = self._clock(), self._guard.shortages
        try:
            url = self._checked(target_url)
            try:
                return await self._post(url, headers, body, _timeout(total))
            except StaleConnection:
                # The receiver closed an idle connection while we wrote to it, so it never saw the request. After
                # STALE_SECONDS it may have read it.
                if self._clock() - began > STALE_SECONDS:
                    raise
                self._connector.drop_idle(url.raw_host or "", url.port)
                return await self._post(
                    url, headers, body, _timeout(max(total - round(self._clock() - began, 2), 0.01))
                )
        except Exception as error:  # noqa: BLE001 - one attempt never breaks the lane it runs in
            shortage = self._shortage(error, is_short=self._guard.shortages > shortages)
            return self._failure(error) if shortage is None else shortage

    async def _post(self, url: URL, headers: Mapping[str, str], body: bytes, timeout: ClientTimeout) -> Answer:  # noqa: ASYNC109 - aiohttp's
        response = await self._session.post(url, data=body, headers=headers, allow_redirects=False, timeout=timeout)
        try:
            kept = await _read(response)
        finally:
            response.close()
        if response.status == 407 and self._proxy is not None:
            return Failure(error=ErrorName.PROXY_ERROR)
        return Response(
            status=response.status,
            headers=tuple([(name.decode("latin-1"), value.decode("latin-1")) for name, value in response.raw_headers]),
            body=kept,
        )

    def _shortage(self, error: Exception, *, is_short: bool) -> Shortage | None:
        """The shortage of ours that kept a request from being made, None if it was another error.

        `is_short`: something of ours ran out meanwhile. It is taken for the cause of any connection that was not made.
        """
        match error:
            case ClientConnectorError(os_error=AddressDenied()):
                return None
            case ClientConnectorError(os_error=OSError(errno=int(number))) if number in OWN_SHORTAGES:
                cause = os.strerror(number)
            case ClientConnectorError() if is_short:
                cause = "a socket could not be opened"
            case _:
                return None
        if self._clock() >= self._told_shortage_at + SHORTAGE_LINE_SECONDS:
            self._told_shortage_at = self._clock()
            log.error("sender.starved", cause=cause)
        return Shortage(cause=cause)

    def _failure(self, error: Exception) -> Failure:
        match error:
            case UrlRefused(reason=reason) | ClientConnectorError(os_error=AddressDenied(reason=reason)):
                self._on_denied(reason)
                return Failure(error=ErrorName.EGRESS_DENIED)
            case ClientConnectorDNSError() | ConnectionTimeoutError() if self._proxy is not None:
                return Failure(error=ErrorName.PROXY_ERROR)
            case _:
                return Failure(error=_error_name(error))


class _Post(ClientRequest):
    """A request without aiohttp's own headers. `skip_auto_headers` does the same, but costs 6 µs per request."""

    DEFAULT_HEADERS: ClassVar[dict[istr, str]] = {}  # type: ignore[misc]  # aiohttp does not call it a ClassVar


def _checked_url(policy: EgressPolicy, raw: str) -> URL:
    return URL(check_url(raw, policy).url, encoded=True)


@lru_cache(maxsize=1024)
def _timeout(total: float) -> ClientTimeout:
    """The connect timeout is shorter than the total, so that an unreachable receiver differs from a slow one."""
    return ClientTimeout(total=total, sock_connect=min(CONNECT_SECONDS, total * 0.9), sock_read=SILENCE_SECONDS)


async def _read(response: ClientResponse) -> bytes:
    """The kept part of the body. If the body ended, aiohttp returns the connection to the pool; else it is closed."""
    content = response.content
    if content.is_eof():
        return content.read_nowait(KEPT_BODY_BYTES)
    connection = response.connection
    protocol = None if connection is None else connection.protocol
    kept = bytearray()
    try:
        while len(kept) < KEPT_BODY_BYTES and (chunk := await content.read(KEPT_BODY_BYTES - len(kept))):
            kept += chunk
    except AnswerTooLarge:
        raise
    except ClientPayloadError:
        cause = None if protocol is None else protocol.exception()
        if cause is not None and not isinstance(cause, ServerDisconnectedError):
            raise cause from None
    return bytes(kept)


def _error_name(error: Exception) -> ErrorName:  # noqa: C901, PLR0911 - one table, subclasses first
    match error:
        case ClientHttpProxyError() | ClientProxyConnectionError() | ProxyDropped():
            return ErrorName.PROXY_ERROR
        case ClientConnectorDNSError():
            return ErrorName.DNS_ERROR
        case ClientConnectorCertificateError() | ClientConnectorSSLError():
            return ErrorName.TLS_ERROR
        case ConnectionTimeoutError() | ClientConnectorError(os_error=TimeoutError()):
            return ErrorName.CONNECT_TIMEOUT
        case ClientConnectorError(os_error=ConnectionResetError() | ConnectionAbortedError() | BrokenPipeError()):
            return ErrorName.TLS_ERROR  # only an established connection can be reset, so the handshake failed
        case ClientConnectorError():
            return ErrorName.CONNECT_REFUSED
        case TimeoutError():
            return ErrorName.TIMEOUT
        case ClientOSError(__cause__=ssl.SSLError()):
            return ErrorName.TLS_ERROR
        case ServerDisconnectedError() | ClientOSError():
            return ErrorName.CONNECTION_RESET
        case AnswerTooLarge():
            return ErrorName.RESPONSE_TOO_LARGE
        case _:
            return ErrorName.PROTOCOL_ERROR
