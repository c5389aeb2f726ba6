"""The daemon's own resolver against a name server on loopback that misbehaves in every way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from daemon.core.webhook.addresses import DenyReason
from daemon.pipeline.http_client.resolver import SystemResolver
from tests.support.pipeline.sending import BODY, DEV, LINES, sender, status_or_error
from tests.support.receivers import hostile
from tests.support.receivers.dns import AAAA, REFUSED, SERVFAIL, TAR_PIT, A, DnsEntry, NameServer
from tests.support.receivers.hostile import HostileReceiver

LOOPBACK = ("127.0.0.1",)
ZONE = {
    "plain.shop.com": DnsEntry(addresses=LOOPBACK),
    "alias.shop.com": DnsEntry(addresses=LOOPBACK, aliases=tuple(f"edge{n}.cdn.net" for n in range(6))),
    "both.shop.com": DnsEntry(addresses=("10.0.0.5", "fd00::5", *LOOPBACK)),
    "half.shop.com": DnsEntry(addresses=LOOPBACK, silent=frozenset({AAAA})),
    "circle.shop.com": DnsEntry(aliases=("circle.shop.com",)),
    "nowhere.shop.com": DnsEntry(aliases=("gone.shop.com",)),
    "empty.shop.com": DnsEntry(),
    "ill.shop.com": DnsEntry(code=SERVFAIL),
    "refused.shop.com": DnsEntry(code=REFUSED),
    "garbage.shop.com": DnsEntry(is_garbage=True),
    "inside.shop.com": DnsEntry(addresses=("10.0.0.5",)),
    "outside.shop.com": DnsEntry(addresses=("169.254.169.254",), aliases=("innocent.cdn.net",)),
    "six.shop.com": DnsEntry(addresses=("::ffff:10.0.0.5", "fd00::5")),
}


@pytest_asyncio.fixture
async def server() -> AsyncIterator[NameServer]:
    async with NameServer(dict(ZONE)) as it:
        yield it


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("plain", "200"),
        ("alias", "200"),
        ("both", "200"),
        ("half", "200"),
        ("circle", "dns_error"),
        ("nowhere", "dns_error"),
        ("empty", "dns_error"),
        ("ill", "dns_error"),
        ("refused", "dns_error"),
        ("garbage", "dns_error"),
        ("unknown", "dns_error"),
        ("inside", "egress_denied"),
        ("outside", "egress_denied"),
        ("six", "egress_denied"),
    ],
)
async def test_a_name_leads_to_permitted_addresses_or_to_a_name_of_the_failure(
    server: NameServer, name: str, answer: str
) -> None:
    denials: list[str] = []
    async with (
        HostileReceiver(hostile.polite) as receiver,
        sender(DEV, denials, resolver=SystemResolver([server.address])) as sending,
    ):
        host = f"{name}.shop.com"
        assert status_or_error(await sending.send(receiver.url(host=host), LINES, BODY)) == answer
    assert server.asked[host] > 0
    assert receiver.connections == (answer == "200")
    assert len(denials) == (answer == "egress_denied")
    assert set(denials) <= {DenyReason.PRIVATE, DenyReason.LINK_LOCAL}


async def test_a_name_server_that_never_answers_costs_the_deadline_of_dns(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.pipeline.http_client.resolver.DNS_DEADLINE_SECONDS", 0.1)
    server.zone["pit.shop.com"] = TAR_PIT
    async with sender(resolver=SystemResolver([server.address]), timeout_seconds=60) as sending:
        assert status_or_error(await sending.send("http://pit.shop.com:9/", LINES, BODY)) == "dns_error"


async def test_a_name_that_is_not_found_until_the_deadline_is_to_blame(server: NameServer) -> None:
    server.zone["pit.shop.com"] = TAR_PIT
    async with sender(resolver=SystemResolver([server.address]), timeout_seconds=0.3) as sending:
        assert status_or_error(await sending.send("http://pit.shop.com:9/", LINES, BODY)) == "dns_error"


async def test_a_name_that_takes_long_is_waited_for_by_a_resolver_used_to_quick_ones(server: NameServer) -> None:
    server.zone["late.shop.com"] = DnsEntry(addresses=LOOPBACK, seconds=0.8)
    server.zone |= {f"n{n}.shop.com": DnsEntry(addresses=LOOPBACK) for n in range(10)}
    resolver = SystemResolver([server.address])
    async with HostileReceiver(hostile.polite) as receiver, sender(resolver=resolver) as sending:
        for n in range(10):
            await resolver.resolve(f"n{n}.shop.com")
        assert status_or_error(await sending.send(receiver.url(host="late.shop.com"), LINES, BODY)) == "200"


async def test_a_name_is_looked_up_once_for_all_that_wait_for_it(server: NameServer) -> None:
    async with (
        HostileReceiver(hostile.polite) as receiver,
        sender(resolver=SystemResolver([server.address])) as sending,
    ):
        url = receiver.url(host="plain.shop.com")
        answers = await asyncio.gather(*(sending.send(url, LINES, BODY) for _ in range(50)))
    assert {status_or_error(answer) for answer in answers} == {"200"}
    assert server.asked["plain.shop.com"] == len({A, AAAA})


async def test_no_search_domain_is_tried(server: NameServer) -> None:
    async with sender(resolver=SystemResolver([server.address])) as sending:
        assert status_or_error(await sending.send("http://hooks.unknown.com:9/", LINES, BODY)) == "dns_error"
    assert set(server.asked) == {"hooks.unknown.com"}
