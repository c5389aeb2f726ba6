"""The guard between the sender and the network: no socket is opened to an address that the policy denies.

The one thing to know: the verdict is taken on the address a socket is being opened for, every time. `open_socket` sees
what no resolver sees (addresses written in the URL, cached answers, each branch of happy eyeballs), and it alone
suffices; the resolver filters as well, so that a name with one bad address among good ones still gets its webhooks.
With a proxy the only permitted address is the proxy's, and what lies behind it is the proxy's to judge.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from functools import partial
from pathlib import Path

import pycares
from aiohttp import AddrInfoType, AsyncResolver, ClientRequest, ClientTimeout, TCPConnector
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

from daemon.core.addresses import DenyReason
from daemon.core.egress import EgressPolicy, address_denied
from daemon.pipeline.wire import Wire

DNS_TIMEOUT_SECONDS = 1.0
DNS_TRIES = 2
DNS_DEADLINE_SECONDS = 5.0
"""The tries count per name server; this bounds all of them."""


class AddressDenied(OSError):
    def __init__(self, reason: DenyReason) -> None:
        super().__init__(f"egress denied: {reason}")
        self.reason = reason


class EgressGuard(AbstractResolver):
    """Resolver and socket factory of the sender's connector; `policy` may be replaced at any time."""

    def __init__(self, policy: EgressPolicy, *, resolver: AbstractResolver, proxy: URL | None) -> None:
        self.policy = policy
        self._resolver = resolver
        self._proxy_host = None if proxy is None else proxy.raw_host
        self._proxy_addresses = frozenset({self._proxy_host} if self._proxy_host else ())

    def open_socket(self, addr_info: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = addr_info
        if reason := self._denied(str(address[0])):
            raise AddressDenied(reason)
        return socket.socket(family, kind, protocol)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        try:
            async with asyncio.timeout(DNS_DEADLINE_SECONDS):
                found = await self._resolver.resolve(host, port, family)
        except TimeoutError:
            raise OSError(None, "DNS did not answer in time") from None
        if host == self._proxy_host:
            self._proxy_addresses = frozenset(result["host"] for result in found)
        reasons = [self._denied(result["host"]) for result in found]
        permitted = [result for result, reason in zip(found, reasons, strict=True) if reason is None]
        if not permitted:
            raise next(
                (AddressDenied(reason) for reason in reasons if reason), OSError(None, "the name has no address")
            )
        return permitted

    async def close(self) -> None:
        await self._resolver.close()

    def _denied(self, address: str) -> DenyReason | None:
        if self._proxy_host is None:
            return address_denied(address, self.policy)
        return None if address in self._proxy_addresses else DenyReason.NOT_THE_PROXY


class GuardedConnector(TCPConnector):
    """aiohttp's connection pool behind the guard, without limits of its own: lanes hold the limits.

    What it touches of aiohttp's insides (`_factory`, `_conns`, `_acquired`) is pinned by tests.
    """

    def __init__(self, guard: EgressGuard, *, tls: ssl.SSLContext, proxied: bool) -> None:
        super().__init__(resolver=guard, socket_factory=guard.open_socket, ssl=tls, limit=0, limit_per_host=0)
        self._factory = partial(Wire, self._loop, proxied=proxied)  # type: ignore[assignment]  # partial is invariant

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> Connection:  # noqa: ASYNC109 - aiohttp's signature
        connection = await super().connect(req, traces, timeout)
        if isinstance(connection.protocol, Wire):
            connection.protocol.begin()
        return connection

    def drop_idle(self, host: str, port: int | None) -> None:
        """Close the pooled connections to one origin."""
        for key, pooled in self._conns.items():
            if key.host == host and key.port == port:
                for wire, _ in pooled:
                    wire.close()

    def drop_all(self) -> None:
        """Close every pooled connection, and each busy one after its answer; forget resolved names."""
        self.clear_dns_cache()
        for pooled in self._conns.values():
            for wire, _ in pooled:
                wire.close()
        for busy in self._acquired:
            if isinstance(busy, Wire):
                busy.force_close()


def system_resolver() -> AbstractResolver:
    """aiodns, without search domains: `hooks.shop.com` must not become a name of the cluster we run in."""
    return AsyncResolver(timeout=DNS_TIMEOUT_SECONDS, tries=DNS_TRIES, flags=pycares.ARES_FLAG_NOSEARCH)


def tls_context(extra_ca_file: Path | None) -> ssl.SSLContext:
    """TLS 1.2 or newer, certificate and name always verified. Raises OSError for an unusable `extra_ca_file`."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if extra_ca_file is not None:
        context.load_verify_locations(extra_ca_file)
    return context
