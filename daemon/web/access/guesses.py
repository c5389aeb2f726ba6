"""Slows down clients that try wrong tokens, sessions or sign-in links, before they cost a query.

Wrong ones are counted by the address they come from, which a trusted proxy tells. Beyond WRONG a credential from there
is answered 429 unless it was right before: behind any other proxy all clients have one address, and those who are at
work there go on. A credential counts as wrong until the database has answered, so that a thousand at once are not
looked up either. Many requests with one token at once are one guess: they share its query.

Each process counts by itself, so several workers together allow as many times more.

One that is in the database and was not made by us is wrong as well: the caller learns no more than of any other, and
the operator is told.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from ipaddress import IPv6Address, ip_address, ip_network

import structlog
from aiohttp import web

from daemon.core.gcra import UNUSED, Allowance
from daemon.core.webhook.addresses import Network
from daemon.web.http.problems import Problem
from daemon.web.http.services import SERVICES
from eventstore.access.macs import CredentialTable, NotAuthentic

log = structlog.get_logger()

# More than a fleet of producers that starts with new tokens needs at once, and far from what a guess needs.
WRONG = Allowance(burst=60, per_second=1)

# The addresses, and the right credentials, that are remembered; beyond that the oldest is forgotten.
MAX_REMEMBERED = 10_000

# Who has one address of such a network has all of them.
_IPV6_PREFIX = 64


class CredentialKind(StrEnum):
    """What is tried; each kind is counted by itself."""

    TOKEN = "token"  # noqa: S105 - the name of a kind
    SESSION = "session"
    LINK = "link"


class Guess:
    """One credential that is looked up. Say `right` or `wrong`; neither means that nobody could tell."""

    is_right: bool | None = None

    def right(self) -> None:
        self.is_right = True

    def wrong(self) -> None:
        self.is_right = False


class Guesses:
    """Counts wrong credentials. Times are monotonic seconds, given by the caller."""

    def __init__(self, allowance: Allowance = WRONG, *, trusted_proxies: Sequence[Network] = ()) -> None:
        self.trusted_proxies = trusted_proxies
        self._allowance = allowance
        self._arrivals: dict[tuple[CredentialKind, str], float] = {}
        self._known: dict[bytes, None] = {}
        self._looked_up: set[bytes] = set()  # those that were counted, and are not answered yet

    @contextmanager
    def guess(self, kind: CredentialKind, address: str, credential: str, now: float) -> Iterator[Guess]:
        """Looks a credential up in the block. Raises Problem 429 instead if too many from there were wrong."""
        digest = hashlib.sha256(f"{kind} {credential}".encode(errors="surrogateescape")).digest()
        is_known = digest in self._known
        is_counted = not is_known and digest not in self._looked_up
        if is_counted:
            self._take(kind, address, now)
            if kind is CredentialKind.TOKEN:
                self._looked_up.add(digest)
        guess = Guess()
        try:
            yield guess
        finally:
            if is_counted:
                self._looked_up.discard(digest)
            if guess.is_right is False:
                if is_known and self._known.pop(digest, 0) is None:
                    self._count(kind, address, now)
            elif is_counted:
                self._give_back(kind, address)
            if guess.is_right:
                self._remember(digest)

    def _take(self, kind: CredentialKind, address: str, now: float) -> None:
        seconds = self._allowance.wait(self._arrivals.get((kind, address), UNUSED), now)
        if seconds:
            whole = math.ceil(seconds)
            raise Problem(
                429,
                f"too many that were not valid came from this address: try again in {whole} s",
                headers={"Retry-After": str(whole)},
            )
        self._count(kind, address, now)

    def _count(self, kind: CredentialKind, address: str, now: float) -> None:
        arrival = self._arrivals.pop((kind, address), UNUSED)
        self._arrivals[kind, address] = self._allowance.next_arrival(arrival, now)
        if len(self._arrivals) > MAX_REMEMBERED:
            del self._arrivals[next(iter(self._arrivals))]

    def _give_back(self, kind: CredentialKind, address: str) -> None:
        if (kind, address) in self._arrivals:
            self._arrivals[kind, address] -= 1 / self._allowance.per_second

    def _remember(self, digest: bytes) -> None:
        self._known.pop(digest, None)
        self._known[digest] = None
        if len(self._known) > MAX_REMEMBERED:
            del self._known[next(iter(self._known))]


GUESSES = web.AppKey("guesses", Guesses)


@contextmanager
def guessing(request: web.Request, kind: CredentialKind, credential: str) -> Iterator[Guess]:
    """Looks up a credential of a request in the block. Raises Problem 429."""
    now = asyncio.get_running_loop().time()
    guesses = request.app[GUESSES]
    forwarded = ",".join(request.headers.getall("X-Forwarded-For", ()))
    address = client_address(request.remote or "", forwarded, guesses.trusted_proxies)
    with guesses.guess(kind, network_of(address), credential, now) as guess:
        yield guess


def note_forged(request: web.Request, forged: NotAuthentic) -> None:
    """Counts a credential that was shown and not made by us, and writes a line of the log: somebody has written to the
    database.
    """
    request.app[SERVICES].metrics.forged_credentials.labels(forged.table).inc()
    name = {"token": forged.name} if forged.table is CredentialTable.TOKEN else {"tenant": forged.name}
    log.warning("credential.forged", table=forged.table.value, **name)


def client_address(remote: str, forwarded: str, trusted_proxies: Sequence[Network]) -> str:
    """The address of a client: who connects, or else whom trusted proxies have named, from the last one backwards.

    `forwarded` is the X-Forwarded-For. A client may have begun it, so nothing counts in front of an address that is no
    trusted proxy. What is no address ends it, too.
    """
    address = remote
    while forwarded and _is_within(address, trusted_proxies):
        forwarded, _, named = forwarded.rpartition(",")
        try:
            address = str(ip_address(named.strip()))
        except ValueError:
            break
    return address


def _is_within(text: str, networks: Sequence[Network]) -> bool:
    if not networks:
        return False
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return False
    plain = address.ipv4_mapped or address if isinstance(address, IPv6Address) else address
    return any(plain in network for network in networks)


def network_of(remote: str) -> str:
    """What is counted as one address: an IPv4 address, or the IPv6 network that a subscriber has."""
    try:
        address = ip_address(remote.partition("%")[0])
    except ValueError:
        return remote
    if not isinstance(address, IPv6Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ip_network((address, _IPV6_PREFIX), strict=False))
