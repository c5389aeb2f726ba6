"""Names to addresses: aiodns, and one question for all who ask for a name at the same time.

The one thing to know: what is remembered are addresses, for a few seconds, and never a verdict on them. The guard
judges an address each time that a socket is opened for it.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import aiodns
import pycares

DNS_TIMEOUT_SECONDS = 1.0
DNS_TRIES = 4
"""c-ares waits DNS_TIMEOUT_SECONDS only for a name server that is new to it. Later it waits five times the usual time
of the server, but at least 0.25 s, and doubles that at each try. With two tries a name that took 0.4 s was never found
behind a cache that took 1 ms; with four tries a name may take 1.5 s."""
DNS_DEADLINE_SECONDS = 5.0
"""The tries are per name server; this bounds all of them together."""
REMEMBERED_SECONDS = 10.0
REMEMBERED_NAMES = 4096
MAX_RESOLVED = 32
"""Addresses of each family. An answer may have thousands, and each is judged whenever a socket is opened."""
TCP_AT_ONCE = 4
"""Names that may be asked for by TCP at once."""


class NameResolver(Protocol):
    """Finds the addresses of a name, as text. Raises OSError if there are none."""

    async def resolve(self, host: str) -> Sequence[str]: ...

    async def close(self) -> None: ...


class SystemResolver:
    """Aiodns without search domains: `hooks.shop.com` must not resolve as a name of the local cluster.

    `nameservers` are `address:port`; None means the system's. The one thing to know: what fits into one datagram is
    enough, two dozen addresses. By TCP an answer may have 6,000, which take 0.1 s, and all names are looked up in one
    thread: fifty such names had it find no other name for seconds. So only a name whose datagram has no address is
    asked for by TCP, in a thread of its own.
    """

    def __init__(self, nameservers: Sequence[str] | None = None) -> None:
        self._dns, self._tcp_dns = (
            aiodns.DNSResolver(
                nameservers=nameservers,
                timeout=DNS_TIMEOUT_SECONDS,
                tries=DNS_TRIES,
                flags=pycares.ARES_FLAG_NOSEARCH | also,
            )
            for also in (pycares.ARES_FLAG_IGNTC, 0)
        )
        self._tcp_places = asyncio.Semaphore(TCP_AT_ONCE)

    async def resolve(self, host: str) -> Sequence[str]:
        try:
            try:
                return await _addresses(self._dns, host)
            except aiodns.error.DNSError as error:
                if error.args[0] != aiodns.error.ARES_ENODATA:
                    raise
            async with self._tcp_places:
                return await _addresses(self._tcp_dns, host)
        except aiodns.error.DNSError as error:
            raise OSError(None, "the name has no address") from error

    async def close(self) -> None:
        await self._dns.close()
        await self._tcp_dns.close()


async def _addresses(dns: aiodns.DNSResolver, host: str) -> Sequence[str]:
    """The first MAX_RESOLVED of each family. Raises DNSError."""
    found = await dns.getaddrinfo(host, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    by_family = Counter[int]()
    addresses = []
    for node in found.nodes:
        by_family[node.family] += 1
        if by_family[node.family] <= MAX_RESOLVED:
            addresses.append(node.addr[0].decode("ascii"))
    return addresses


@dataclass(slots=True)
class _Name:
    """What was found last for a name: its addresses, or the error. `at` is when."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    addresses: Sequence[str] = ()
    error: OSError | None = None
    at: float = float("-inf")


class RememberingResolver:
    """Remembers addresses for REMEMBERED_SECONDS. Who asks while a question is open gets its answer, or its error."""

    def __init__(self, resolver: NameResolver) -> None:
        self._resolver = resolver
        self._clock = asyncio.get_running_loop().time
        self._names: dict[str, _Name] = {}  # the longest remembered first

    async def resolve(self, host: str) -> Sequence[str]:
        asked_at = self._clock()
        name = self._names.setdefault(host, _Name())
        if name.at + REMEMBERED_SECONDS > asked_at and name.error is None:
            return name.addresses
        async with name.lock:
            if name.at < asked_at:
                await self._ask(host, name)
            if name.error is not None:
                raise OSError(None, "the name has no address") from name.error
            return name.addresses

    async def close(self) -> None:
        await self._resolver.close()

    async def _ask(self, host: str, name: _Name) -> None:
        try:
            async with asyncio.timeout(DNS_DEADLINE_SECONDS):
                name.addresses = await self._resolver.resolve(host)
            name.error = None
        except OSError as error:  # TimeoutError is one
            name.error = error
        name.at = self._clock()
        self._names[host] = self._names.pop(host, name)
        while len(self._names) > REMEMBERED_NAMES:
            del self._names[next(iter(self._names))]
