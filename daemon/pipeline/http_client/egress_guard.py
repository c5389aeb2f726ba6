"""The guard between the sender and the network: no socket is opened to an address that the policy denies.

The one thing to know: each address is checked when a socket is opened for it. `open_socket` sees addresses that no
resolver sees (those in URLs, cached answers, each branch of happy eyeballs), and it alone suffices. The resolver
filters too, so that a name with one denied address among permitted ones still gets its webhooks. Both know the host
of the URL, since those of `egress.allow_hosts` may have private addresses. An open connection stays with the checked
address, whatever its name resolves to later, until it is too old (`connection.LIFE_SECONDS`).
The policy is fixed for the process, since a restart loses and repeats nothing. With a proxy, only the proxy's addresses
are permitted: the proxy checks names, this process checks URLs and the addresses in them.
"""

from __future__ import annotations

import errno
import socket
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from aiohappyeyeballs import AddrInfoType

from daemon.core.webhook.addresses import DenyReason
from daemon.core.webhook.egress import EgressPolicy, address_denied, allows_private_addresses
from daemon.pipeline.http_client.resolver import NameResolver

MAX_ADDRESSES = 4
"""Addresses of each family. Each is connected to if the others refuse: the owner of a name chooses whose addresses they
are, and how many."""

OWN_SHORTAGES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""This machine lacks files or memory, so no receiver was asked and none has failed. EADDRNOTAVAIL is not among them: a
machine without IPv6 raises it for all IPv6 targets, which merchants choose, and ports run out per target."""


class AddressDenied(OSError):
    """The policy denies the address of a socket; `reason` says why."""

    def __init__(self, reason: DenyReason) -> None:
        super().__init__(f"egress denied: {reason}")
        self.reason = reason


class Unsent:
    """No request was made, and the receiver has nothing to do with it."""

    __slots__ = ()


class Withheld(Unsent):
    """When the connection was made at last, the request was not to be sent any more."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage(Unsent):
    """This machine lacked files or memory. `cause` is for the operator."""

    cause: str


class EgressGuard:
    """Finds the permitted addresses of a name, and opens sockets to permitted addresses.

    `proxy_host` is the operator's proxy, if there is one. `shortages` counts the sockets that could not be opened for
    want of something of ours. Their errors do not always reach the sender: c-ares takes a socket that it cannot open
    for a name server that refuses, and of several addresses the errors are mixed.
    """

    def __init__(self, policy: EgressPolicy, *, resolver: NameResolver, proxy_host: str | None) -> None:
        self._policy = policy
        self._resolver = resolver
        self.shortages = 0
        self._proxy_host = proxy_host
        self._proxy_addresses = frozenset({proxy_host} if proxy_host else ())

    def open_socket(self, addr_info: AddrInfoType, host: str) -> socket.socket:
        """A socket to an address of the URL's `host`. Raises AddressDenied."""
        family, kind, protocol, _, address = addr_info
        if reason := self._denied(str(address[0]), host):
            raise AddressDenied(reason)
        return self._opened(family, kind, protocol)

    async def resolve(self, host: str) -> list[str]:
        """The first permitted addresses of each family, in the resolver's order. Raises OSError if there is none."""
        try:
            found = await self._resolver.resolve(host)
        except OSError:
            self._opened(socket.AF_INET, socket.SOCK_DGRAM).close()  # could the resolver have opened its socket?
            raise
        if host == self._proxy_host:
            self._proxy_addresses = frozenset(found)
        reasons = {address: self._denied(address, host) for address in found}
        permitted = [address for address in found if reasons[address] is None]
        if not permitted:
            raise next(
                (AddressDenied(reason) for reason in reasons.values() if reason),
                OSError(None, "the name has no address"),
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

    def _denied(self, address: str, host: str) -> DenyReason | None:
        if self._proxy_host is None:
            return address_denied(address, self._policy, is_host_listed=allows_private_addresses(host, self._policy))
        return None if address in self._proxy_addresses else DenyReason.NOT_THE_PROXY


def _some_of_each_family(found: Sequence[str]) -> list[str]:
    """The first MAX_ADDRESSES of each family."""
    count: Counter[bool] = Counter()
    some = []
    for address in found:
        is_v6 = ":" in address
        count[is_v6] += 1
        if count[is_v6] <= MAX_ADDRESSES:
            some.append(address)
    return some
