"""The operator's proxy: all requests go through it, and its failures do not count as the receivers'."""

from __future__ import annotations

import asyncio
import base64
import socket
from pathlib import Path

import pytest

from daemon.core.delivery.answer import ErrorName, Failure
from daemon.core.webhook.addresses import DenyReason
from daemon.core.webhook.egress import EgressPolicy
from daemon.pipeline.sending import outcome
from tests.support.event_loops import ON_BOTH_LOOPS, event_loop_policy  # noqa: F401 - a fixture
from tests.support.pipeline.sending import BODY, LINES, record_connects, sender, status_or_error
from tests.support.receivers import hostile
from tests.support.receivers.dns import FakeResolver
from tests.support.receivers.hostile import HostileReceiver, Peer
from tests.support.values.certificates import issue, pem, serving

pytestmark = ON_BOTH_LOOPS


async def test_http_goes_through_the_proxy_in_absolute_form() -> None:
    async with HostileReceiver(hostile.polite) as proxy, sender(proxy=proxy.url("")) as sending:
        assert status_or_error(await sending.send("http://hooks.shop.com/x?y=1", LINES, BODY)) == "200"
    assert proxy.requests[0].startswith(b"POST http://hooks.shop.com/x?y=1 HTTP/1.1\r\n")


async def test_with_a_proxy_nothing_else_is_connected_to_and_the_url_is_still_judged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    connects = record_connects(monkeypatch)
    denials: list[str] = []
    policy = EgressPolicy()
    names = FakeResolver(proxy_internal=[["10.9.9.9"]])
    async with sender(policy, denials, proxy="http://proxy.internal:3128", resolver=names) as sending:
        assert status_or_error(await sending.send("https://hooks.shop.com/", LINES, BODY)) == "proxy_error"
        assert connects == ["10.9.9.9"]
        assert status_or_error(await sending.send("https://10.0.0.1/", LINES, BODY)) == "egress_denied"
        with pytest.raises(OSError, match="not_the_proxy"):
            sending._guard.open_socket(
                (socket.AF_INET, socket.SOCK_STREAM, 0, "", ("93.184.216.34", 443)), "shop.example.com"
            )
    assert denials == [DenyReason.PRIVATE]


async def connect_refusing(peer: Peer, reply: bytes) -> None:
    await peer._reader.readuntil(b"\r\n\r\n")
    if reply:
        await peer.write(reply)
        await peer.hung_up()


@pytest.mark.parametrize(
    "reply",
    [
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
        b"",
    ],
)
async def test_a_proxy_that_makes_no_tunnel_is_not_the_receivers_failure(reply: bytes) -> None:
    async with (
        HostileReceiver(lambda peer: connect_refusing(peer, reply)) as proxy,
        sender(proxy=proxy.url("")) as sending,
    ):
        assert status_or_error(await sending.send("https://hooks.shop.com/", LINES, BODY)) == "proxy_error"


async def endless_reply(peer: Peer) -> None:
    await peer._reader.readuntil(b"\r\n\r\n")
    await peer.write(b"HTTP/1.1 200 OK\r\n")
    await peer.repeat(b"X-A: " + b"a" * 1000 + b"\r\n")


@pytest.mark.parametrize("behaviour", [hostile.silent, endless_reply])
async def test_a_proxy_whose_reply_never_ends_is_not_the_receivers_failure(behaviour: hostile.Behaviour) -> None:
    async with HostileReceiver(behaviour) as proxy, sender(proxy=proxy.url(""), timeout_seconds=0.5) as sending:
        assert status_or_error(await sending.send("https://hooks.shop.com/", LINES, BODY)) == "proxy_error"
        await asyncio.wait_for(proxy.ended.acquire(), 5)


async def test_a_proxy_gets_its_password_with_each_request_and_each_tunnel() -> None:
    said: list[bytes] = []

    async def asks(peer: Peer) -> None:
        said.append(await peer._reader.readuntil(b"\r\n\r\n"))

    async with HostileReceiver(asks) as proxy, sender(proxy=f"http://me:p%40ss@127.0.0.1:{proxy.port}") as sending:
        for scheme in ("https", "http"):
            await sending.send(f"{scheme}://hooks.shop.com/", LINES, BODY)
    credentials = b"Proxy-Authorization: Basic " + base64.b64encode(b"me:p@ss") + b"\r\n"
    assert said[0] == b"CONNECT hooks.shop.com:443 HTTP/1.1\r\nHost: hooks.shop.com:443\r\n" + credentials + b"\r\n"
    assert said[1].startswith(b"POST http://hooks.shop.com/ HTTP/1.1\r\nHost: hooks.shop.com\r\n" + credentials)


async def test_a_proxy_may_be_spoken_to_by_tls(tmp_path: Path) -> None:
    authority = issue("Test CA")
    (tmp_path / "ca.pem").write_bytes(pem(authority))
    names = FakeResolver(proxy_shop_com=[["127.0.0.1"]])
    async with (
        HostileReceiver(hostile.polite, tls=serving(issue("hooks.shop.com", issuer=authority), tmp_path)) as receiver,
        HostileReceiver(
            hostile.tunnels_to(receiver), tls=serving(issue("proxy.shop.com", issuer=authority), tmp_path)
        ) as proxy,
        sender(
            proxy=f"https://proxy.shop.com:{proxy.port}", extra_ca_file=tmp_path / "ca.pem", resolver=names
        ) as sending,
    ):
        for _ in range(2):
            assert status_or_error(await sending.send("https://hooks.shop.com/x", LINES, BODY)) == "200"
    assert receiver.requests[0].startswith(b"POST /x HTTP/1.1\r\nHost: hooks.shop.com\r\n")
    assert b"Proxy-Authorization" not in receiver.requests[0]
    assert (proxy.connections, receiver.connections) == (1, 1)


async def test_a_proxy_whose_certificate_is_not_trusted_has_failed_itself(tmp_path: Path) -> None:
    context = serving(issue("proxy.shop.com"), tmp_path)
    names = FakeResolver(proxy_shop_com=[["127.0.0.1"]])
    async with (
        HostileReceiver(hostile.polite, tls=context) as proxy,
        sender(proxy=f"https://proxy.shop.com:{proxy.port}", resolver=names) as sending,
    ):
        answer = await sending.send("https://hooks.shop.com/", LINES, BODY)
    assert answer == Failure(error=ErrorName.PROXY_ERROR)


async def test_a_proxy_that_is_down_or_unknown_or_wants_a_password_is_not_the_receivers_failure() -> None:
    answer = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"
    async with HostileReceiver(hostile.answers(answer)) as proxy, sender(proxy=proxy.url("")) as sending:
        assert status_or_error(await sending.send("http://hooks.shop.com/", LINES, BODY)) == "proxy_error"
    async with sender(proxy=proxy.url("")) as sending:
        assert status_or_error(await sending.send("http://hooks.shop.com/", LINES, BODY)) == "proxy_error"
    async with sender(proxy="http://proxy.shop.com:3128", resolver=FakeResolver()) as sending:
        assert status_or_error(await sending.send("http://hooks.shop.com/", LINES, BODY)) == "proxy_error"


async def test_a_receiver_behind_the_proxy_is_talked_to_through_its_tunnel(tmp_path: Path) -> None:
    authority = issue("Test CA")
    (tmp_path / "ca.pem").write_bytes(pem(authority))
    context = serving(issue("hooks.shop.com", issuer=authority), tmp_path)
    async with (
        HostileReceiver(hostile.polite, tls=context) as receiver,
        HostileReceiver(hostile.tunnels_to(receiver)) as proxy,
        sender(proxy=proxy.url(""), extra_ca_file=tmp_path / "ca.pem") as sending,
    ):
        for _ in range(2):
            assert status_or_error(await sending.send("https://hooks.shop.com/x", LINES, BODY)) == "200"
        assert status_or_error(await sending.send("https://other.shop.com/x", LINES, BODY)) == "tls_error"
    assert receiver.requests[0].startswith(b"POST /x HTTP/1.1\r\nHost: hooks.shop.com\r\n")
    assert proxy.connections == 2


@pytest.mark.parametrize(
    ("behaviour", "answer"),
    [
        (hostile.silent, "connect_timeout"),
        (hostile.close_on_accept, "tls_error"),
        (hostile.answers_early, "tls_error"),
    ],
    ids=["silent", "closing", "plain"],
)
async def test_a_receiver_that_fails_in_a_tunnel_that_stands_has_failed_itself(
    behaviour: hostile.Behaviour, answer: str
) -> None:
    async with (
        HostileReceiver(behaviour) as receiver,
        HostileReceiver(hostile.tunnels_to(receiver)) as proxy,
        sender(proxy=proxy.url(""), timeout_seconds=0.5 if answer == "connect_timeout" else 10) as sending,
    ):
        assert status_or_error(await sending.send("https://hooks.shop.com/x", LINES, BODY)) == answer


@pytest.mark.parametrize("resets", [False, True])
async def test_a_tunnel_that_is_closed_as_soon_as_it_stands_fails_at_once(resets: bool) -> None:
    async def closes(peer: Peer) -> None:
        await peer._reader.readuntil(b"\r\n\r\n")
        await peer.write(b"HTTP/1.1 200 Connection Established\r\n\r\n")
        if resets:
            peer.reset()

    async with HostileReceiver(closes) as proxy, sender(proxy=proxy.url(""), timeout_seconds=100) as sending:
        for _ in range(20):
            answer = await sending.send("https://hooks.shop.com/x", LINES, BODY)
            assert answer == Failure(error=ErrorName.TLS_ERROR)


def test_a_failure_of_the_proxy_says_nothing_about_the_receiver() -> None:
    assert outcome.succeeded(Failure(error=ErrorName.PROXY_ERROR)) is None
    assert outcome.succeeded(Failure(error=ErrorName.CONNECT_TIMEOUT)) is False
