"""The guard between the sender and the network: no socket is opened to an address that the policy denies.

The one thing to know: each address is checked when a socket is opened for it. `open_socket` sees addresses that no
resolver sees (those in URLs, cached answers, each branch of happy eyeballs), and it alone suffices. The resolver
filters too, so that a name with one denied address among permitted ones still gets its webhooks, and it notes which
addresses the hosts of `egress.allow_hosts` have: to no other host does it give a private one. An open connection
stays with the checked address, whatever its name resolves to later, until it is too old (`connection.LIFE_SECONDS`).
The policy is fixed for the process, since a restart loses and repeats nothing. With a proxy, only the proxy's addresses
are permitted: the proxy checks names, this process checks URLs and the addresses in them.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pycares
from aiohttp import AddrInfoType, AsyncResolver
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from daemon.core.webhook.addresses import DenyReason
from daemon.core.webhook.egress import EgressPolicy, address_denied, allows_private_addresses

DNS_TIMEOUT_SECONDS = 1.0
DNS_TRIES = 4
"""c-ares waits DNS_TIMEOUT_SECONDS only for a name server that is new to it. Later it waits five times the usual time
of the server, but at least 0.25 s, and doubles that at each try. With two tries a name that took 0.4 s was never found
behind a cache that took 1 ms; with four tries a name may take 1.5 s."""
DNS_DEADLINE_SECONDS = 5.0
"""The tries are per name server; this bounds all of them together."""
MAX_ADDRESSES = 4
"""Of each family. aiohttp retries addresses that refuse: a name with a hundred addresses took 5,050 connects. The owner
of the name chooses whose addresses they are."""


OWN_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""This machine lacks files or memory, so no receiver was asked and none has failed. EADDRNOTAVAIL is not among them: a
machine without IPv6 raises it for all IPv6 targets, which merchants choose, and ports run out per target."""


class AddressDenied(OSError):
    """The policy denies the address of a socket; `reason` says why."""

    def __init__(self, reason: DenyReason) -> None:
        super().__init__(f"egress denied: {reason}")
        self.reason = reason


class EgressGuard(AbstractResolver):
    """Resolver and socket factory of the sender's connector.

    `shortages` counts the sockets that could not be opened for want of something of ours. Their errors do not always
    reach the sender: c-ares takes a socket that it cannot open for a name server that refuses, and of several addresses
    aiohttp mixes the errors.
    """

    def __init__(self, policy: EgressPolicy, *, resolver: AbstractResolver, proxy: URL | None) -> None:
        self._policy = policy
        self._resolver = resolver
        self.shortages = 0
        self._proxy_host = None if proxy is None else proxy.raw_host
        self._proxy_addresses = frozenset({self._proxy_host} if self._proxy_host else ())
        self._of_listed_hosts: set[str] = set()

    def open_socket(self, addr_info: AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = addr_info
        if reason := self._denied(str(address[0]), is_host_listed=address[0] in self._of_listed_hosts):
            raise AddressDenied(reason)
        return self._opened(family, kind, protocol)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        try:
            async with asyncio.timeout(DNS_DEADLINE_SECONDS):
                found = await self._resolver.resolve(host, port, family)
        except TimeoutError:
            raise OSError(None, "DNS did not answer in time") from None
        except OSError:
            self._opened(socket.AF_INET, socket.SOCK_DGRAM).close()  # could the resolver have opened its socket?
            raise
        if host == self._proxy_host:
            self._proxy_addresses = frozenset(result["host"] for result in found)
        is_listed = allows_private_addresses(host, self._policy)
        reasons = [self._denied(result["host"], is_host_listed=is_listed) for result in found]
        permitted = [result for result, reason in zip(found, reasons, strict=True) if reason is None]
        if is_listed:
            self._of_listed_hosts.update(result["host"] for result in permitted)
        if not permitted:
            raise next(
                (AddressDenied(reason) for reason in reasons if reason), OSError(None, "the name has no address")
            )
        return _some_of_each_family(permitted)

    async def close(self) -> None:
        await self._resolver.close()

    def _opened(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        try:
            return socket.socket(family, kind, protocol)
        except OSError as error:
            self.shortages += error.errno in OWN_SHORTAGES
            raise

    def _denied(self, address: str, *, is_host_listed: bool) -> DenyReason | None:
        if self._proxy_host is None:
            return address_denied(address, self._policy, is_host_listed=is_host_listed)
        return None if address in self._proxy_addresses else DenyReason.NOT_THE_PROXY


def system_resolver(nameservers: Sequence[str] | None = None) -> AbstractResolver:
    """Aiodns without search domains: `hooks.shop.com` must not resolve as a name of the local cluster.

    `nameservers` are `address:port`; None means the system's.
    """
    return AsyncResolver(
        nameservers=nameservers, timeout=DNS_TIMEOUT_SECONDS, tries=DNS_TRIES, flags=pycares.ARES_FLAG_NOSEARCH
    )


def tls_context(extra_ca_file: Path | None) -> ssl.SSLContext:
    """TLS 1.2 or newer; certificate and name are always verified. Raises OSError for an unusable `extra_ca_file`."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # most of its work is ours, and it costs no byte of the budget
    context.set_alpn_protocols(["http/1.1"])
    if extra_ca_file is not None:
        context.load_verify_locations(extra_ca_file)
    return context


def _some_of_each_family(found: list[ResolveResult]) -> list[ResolveResult]:
    """The first MAX_ADDRESSES of each family, in the resolver's order."""
    count: Counter[int] = Counter()
    some = []
    for result in found:
        count[result["family"]] += 1
        if count[result["family"]] <= MAX_ADDRESSES:
            some.append(result)
    return some
