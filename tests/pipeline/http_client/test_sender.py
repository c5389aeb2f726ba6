"""One POST over real sockets on loopback: what is sent, how long an answer may take, and how much of it is read."""

from __future__ import annotations

import asyncio
import errno
import gzip
import socket

import pytest
from structlog.testing import capture_logs

from daemon.core.delivery.answer import Response
from daemon.pipeline.http_client import connection
from daemon.pipeline.http_client.answer_reader import ANSWER_BUDGET_BYTES, KEPT_BODY_BYTES
from daemon.pipeline.http_client.egress_guard import EgressGuard
from tests.support.event_loops import ON_BOTH_LOOPS, event_loop_policy  # noqa: F401 - a fixture
from tests.support.pipeline.sending import BODY, HEADERS, LINES, sender, status_or_error
from tests.support.receivers import hostile
from tests.support.receivers.dns import FakeResolver
from tests.support.receivers.hostile import OK, HostileReceiver, Peer

pytestmark = ON_BOTH_LOOPS


async def test_the_request_has_exactly_the_headers_given_and_host_and_length() -> None:
    async with HostileReceiver(hostile.polite) as receiver, sender() as sending:
        answer = await sending.send(receiver.url("/a%0d%0ab?x=%20[1]"), LINES, BODY)
    assert answer == Response(status=200, headers=(("Content-Length", "2"),), body=b"ok")
    head, _, body = receiver.requests[0].partition(b"\r\n\r\n")
    request_line, *lines = head.decode().split("\r\n")
    assert request_line == "POST /a%0d%0ab?x=%20[1] HTTP/1.1"
    own = {"Host": f"127.0.0.1:{receiver.port}", "Content-Length": str(len(BODY))}
    assert dict(line.split(": ", 1) for line in lines) == HEADERS | own
    assert body == BODY


async def test_an_empty_body_is_sent_as_one() -> None:
    async with HostileReceiver(hostile.polite) as receiver, sender() as sending:
        assert status_or_error(await sending.send(receiver.url(), LINES, b"")) == "200"


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    async with HostileReceiver(hostile.polite) as receiver, sender() as sending:
        assert status_or_error(await sending.send(receiver.url(), LINES, BODY)) == "200"


async def test_no_cookie_is_ever_sent_back() -> None:
    async with HostileReceiver(hostile.always_cookies) as receiver, sender() as sending:
        for _ in range(3):
            await sending.send(receiver.url(), LINES, BODY)
    assert receiver.connections == 1
    assert len(receiver.requests) == 3
    assert not any(b"cookie" in request.lower() for request in receiver.requests)


async def test_a_slow_but_whole_answer_within_the_timeout_is_the_answer() -> None:
    async def thinks(peer: Peer) -> None:
        await peer.request()
        await asyncio.sleep(0.4)
        await peer.write(OK)

    async with HostileReceiver(thinks) as receiver, sender() as sending:
        assert status_or_error(await sending.send(receiver.url(), LINES, BODY)) == "200"
        assert status_or_error(await sending.send(receiver.url(), LINES, BODY, timeout_seconds=0.2)) == "timeout"


async def test_silence_is_counted_from_the_first_byte_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "SILENCE_SECONDS", 0.1)

    async def thinks(peer: Peer) -> None:
        await peer.request()
        await asyncio.sleep(0.4)
        await peer.write(OK)

    async with HostileReceiver(thinks) as receiver, sender(timeout_seconds=100) as sending:
        assert status_or_error(await sending.send(receiver.url(), LINES, BODY)) == "200"
    half = hostile.answers(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
    async with HostileReceiver(half) as receiver, sender(timeout_seconds=100) as sending:
        assert status_or_error(await sending.send(receiver.url(), LINES, BODY)) == "timeout"


@pytest.mark.parametrize("status", ["100 Continue", "102 Processing", "103 Early Hints"])
async def test_an_interim_answer_does_not_begin_the_silence(monkeypatch: pytest.MonkeyPatch, status: str) -> None:
    monkeypatch.setattr(connection, "SILENCE_SECONDS", 0.1)
    interim = f"HTTP/1.1 {status}\r\nLink: </a>\r\n\r\n".encode()

    async def thinks(peer: Peer) -> None:
        await peer.request()
        await peer.write(interim[:9])
        await peer.write(interim[9:])
        await asyncio.sleep(0.4)
        await peer.write(OK)

    async with HostileReceiver(thinks) as receiver, sender(timeout_seconds=100) as sending:
        assert status_or_error(await sending.send(receiver.url(), LINES, BODY)) == "200"
    stuck = hostile.answers(interim + interim[:-2])
    async with HostileReceiver(stuck) as receiver, sender(timeout_seconds=100) as sending:
        assert status_or_error(await sending.send(receiver.url(), LINES, BODY)) == "timeout"


async def test_a_body_of_16_kib_is_kept_whole_and_the_connection_used_again() -> None:
    text = b"HTTP/1.1 200 OK\r\nContent-Length: 16384\r\n\r\n" + b"x" * 16384

    async def big(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.write(text)

    async with HostileReceiver(big) as receiver, sender() as sending:
        for _ in range(2):
            answer = await sending.send(receiver.url(), LINES, BODY)
            assert isinstance(answer, Response)
            assert len(answer.body) == 16384
    assert receiver.connections <= 2


async def test_the_budget_is_per_answer_and_not_per_connection() -> None:
    text = b"HTTP/1.1 200 OK\r\nX-A: " + b"a" * 8000 + b"\r\nContent-Length: 0\r\n\r\n"

    async def verbose(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.write(text)

    rounds = ANSWER_BUDGET_BYTES // len(text) + 5
    async with HostileReceiver(verbose) as receiver, sender() as sending:
        answers = [status_or_error(await sending.send(receiver.url(), LINES, BODY)) for _ in range(rounds)]
    assert answers == ["200"] * rounds
    assert receiver.connections == 1


async def test_a_receiver_that_never_reads_costs_the_timeout_and_no_more() -> None:
    async def deaf(peer: Peer) -> None:
        peer.stop_reading()
        await asyncio.Event().wait()

    async with HostileReceiver(deaf) as receiver, sender(timeout_seconds=0.5) as sending:
        assert status_or_error(await sending.send(receiver.url(), LINES, bytes(16 * 1024 * 1024))) == "timeout"


async def test_an_answer_to_a_body_that_was_not_read_is_the_answer() -> None:
    async def refuses(peer: Peer) -> None:
        peer.stop_reading()
        await peer.write(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
        await asyncio.Event().wait()

    async with HostileReceiver(refuses) as receiver, sender(timeout_seconds=10) as sending:
        assert status_or_error(await sending.send(receiver.url(), LINES, bytes(16 * 1024 * 1024))) == "413"


async def test_a_packed_body_is_kept_as_it_came() -> None:
    packed = gzip.compress(bytes(10_000_000))
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed)}\r\n\r\n"
    async with HostileReceiver(hostile.answers(head.encode() + packed)) as receiver, sender() as sending:
        answer = await sending.send(receiver.url(), LINES, BODY)
    assert isinstance(answer, Response)
    assert answer.body == packed[:KEPT_BODY_BYTES]


@pytest.mark.parametrize("host", ["[2606:4700::1111]", "hooks.shop.com"])
async def test_a_target_that_this_machine_has_no_address_for_is_not_reached(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def no_source(_sock: socket.socket, _address: object) -> None:
        raise OSError(errno.EADDRNOTAVAIL, "Cannot assign requested address")  # the error where IPv6 is switched off

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", no_source)
    async with sender(resolver=FakeResolver(hooks_shop_com=[["2606:4700::1111"]])) as sending:
        with capture_logs() as lines:
            answer = await sending.send(f"http://{host}:9/", LINES, BODY)
    assert status_or_error(answer) == "connect_refused", "it counts, or no breaker ever spares us the rest"
    assert not lines, "merchants choose targets: what is an error to the operator is not theirs to fill the log with"


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
async def test_what_runs_out_here_is_not_the_receivers_failure(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_socket(_self: EgressGuard, _info: object, _host: str) -> socket.socket:
        raise OSError(number, "none left")

    monkeypatch.setattr(EgressGuard, "open_socket", no_socket)
    async with sender() as sending:
        with capture_logs() as lines:
            answer = await sending.send("http://127.0.0.1:9/", LINES, BODY)
            again = await sending.send("http://127.0.0.1:9/", LINES, BODY)
    assert [status_or_error(each) for each in (answer, again)] == ["shortage"] * 2
    assert [line["event"] for line in lines] == ["sender.starved"], "each delivery meets it, and one line tells it"


async def test_of_several_addresses_one_that_no_socket_was_left_for_makes_it_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def none(self: EgressGuard, family: int, _kind: int, _protocol: int = 0) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "no IPv6 here")
        self.shortages += 1
        raise OSError(errno.EMFILE, "none left")

    monkeypatch.setattr(EgressGuard, "_opened", none)
    async with sender(resolver=FakeResolver(hooks_shop_com=[["::1", "127.0.0.1"]])) as sending:
        assert status_or_error(await sending.send("http://hooks.shop.com:9/", LINES, BODY)) == "shortage"
