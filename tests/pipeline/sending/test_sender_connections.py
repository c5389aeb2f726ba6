"""Kept connections: which may carry the next request, and what happens with those that died meanwhile."""

from __future__ import annotations

import asyncio
import resource
import socket
from contextlib import AsyncExitStack

import pytest

from daemon.core.delivery.answer import ErrorName, Failure
from daemon.pipeline.sending.connection import ReceiverConnection
from daemon.pipeline.sending.connector import GuardedConnector, ReceiverConnectionLimits
from daemon.pipeline.sending.sender import Sender
from tests.support import hostile
from tests.support.hostile import OK, HostileReceiver, Peer
from tests.support.sending import BODY, HEADERS, sender, status_or_error
from tests.support.until import until


def dies_after(answered: int, reset: bool = False) -> hostile.Behaviour:
    """Answers `answered` requests on a connection, reads one more, and closes or resets."""

    async def behaviour(peer: Peer) -> None:
        for _ in range(answered):
            await peer.request()
            await peer.write(OK)
        await peer.request()
        if reset:
            peer.reset()

    return behaviour


@pytest.mark.parametrize("reset", [False, True])
async def test_a_pooled_connection_that_died_gets_one_free_try_on_a_fresh_one(reset: bool) -> None:
    async with HostileReceiver(dies_after(1, reset)) as receiver, sender() as sending:
        answers = [status_or_error(await sending.send(receiver.url(), HEADERS, BODY)) for _ in range(3)]
    assert answers == ["200"] * 3
    assert receiver.connections == 3
    assert len(receiver.requests) == 5


async def test_all_pooled_connections_of_a_receiver_go_when_one_is_stale() -> None:
    async with HostileReceiver(dies_after(1)) as receiver, sender() as sending:
        await asyncio.gather(*[sending.send(receiver.url(), HEADERS, BODY) for _ in range(8)])
        assert receiver.connections == 8
        assert status_or_error(await sending.send(receiver.url(), HEADERS, BODY)) == "200"
    assert len(receiver.requests) == 8 + 2


async def test_a_fresh_connection_that_dies_is_a_failure_without_a_second_try() -> None:
    async with HostileReceiver(dies_after(0)) as receiver, sender() as sending:
        assert status_or_error(await sending.send(receiver.url(), HEADERS, BODY)) == "connection_reset"
    assert receiver.connections == 1


async def test_a_pooled_connection_that_died_after_a_byte_is_not_tried_again() -> None:
    async def half(peer: Peer) -> None:
        await peer.request()
        await peer.write(OK)
        await peer.request()
        await peer.write(b"HTTP/1.1 2")

    async with HostileReceiver(half) as receiver, sender() as sending:
        answers = [status_or_error(await sending.send(receiver.url(), HEADERS, BODY)) for _ in range(2)]
    assert answers == ["200", "connection_reset"]
    assert len(receiver.requests) == 2


async def test_nobody_listening_is_a_refusal() -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        async with sender() as sending:
            answer = await sending.send(f"http://127.0.0.1:{unheard.getsockname()[1]}/", HEADERS, BODY)
    assert answer == Failure(error=ErrorName.CONNECT_REFUSED)


async def test_a_connection_that_is_too_old_ends_with_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    async with HostileReceiver(hostile.polite) as receiver, sender() as sending:
        for _ in range(2):
            assert status_or_error(await sending.send(receiver.url(), HEADERS, BODY)) == "200"
        assert receiver.connections == 1
        [[(wire, _)]] = sending._connector._conns.values()
        monkeypatch.setattr(wire, "_expires_at", asyncio.get_running_loop().time() - 1)
        for _ in range(2):
            assert status_or_error(await sending.send(receiver.url(), HEADERS, BODY)) == "200"
    assert receiver.connections == 2


async def test_the_insides_of_aiohttp_that_we_rely_on_are_still_there() -> None:
    async with HostileReceiver(hostile.polite) as receiver, sender() as sending:
        await sending.send(receiver.url(), HEADERS, BODY)
        [(key, [(wire, _)])] = sending._connector._conns.items()
        assert isinstance(wire, ReceiverConnection)
        assert (key.host, key.port) == ("127.0.0.1", receiver.port)
        assert wire._received_bytes == len(OK)
        assert wire._requests == 1
        assert (sending._connector.limit, sending._connector.limit_per_host) == (0, 0)
        assert sending._session._max_headers == 128
        assert sending._session.auto_decompress is False
        assert sending._session.trust_env is False
        timeout = sending._session.timeout
        assert (timeout.sock_connect, timeout.sock_read) == (5, 10)
        assert hasattr(wire, "_payload")
        assert hasattr(wire, "_reading_paused")
        assert callable(super(GuardedConnector, sending._connector)._start_tls_connection)
        assert callable(super(GuardedConnector, sending._connector)._create_connection)
        assert callable(super(GuardedConnector, sending._connector)._release)
        assert sending._connector._acquired == set()


async def test_only_cancellation_escapes() -> None:
    started = asyncio.Event()

    async def notices(peer: Peer) -> None:
        await peer.request()
        started.set()
        await peer.hung_up()

    async with HostileReceiver(notices) as receiver, sender(timeout_seconds=10) as sending:
        task = asyncio.create_task(sending.send(receiver.url(), HEADERS, BODY))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(receiver.ended.acquire(), 5)
        broken = {"X-A": "line\r\nfeed"}
        assert status_or_error(await sending.send(receiver.url(), broken, BODY)) == "protocol_error"


def limited(sending: Sender, *, idle_per_origin: int, all_together: int) -> GuardedConnector:
    sending._connector._limits = ReceiverConnectionLimits(idle_per_origin=idle_per_origin, all_together=all_together)
    return sending._connector


async def test_the_connections_of_an_origin_that_idled_longest_are_closed_beyond_its_limit() -> None:
    async with (
        HostileReceiver(hostile.polite) as receiver,
        HostileReceiver(hostile.polite) as other,
        sender() as sending,
    ):
        connector = limited(sending, idle_per_origin=3, all_together=100)
        await sending.send(other.url(), HEADERS, BODY)
        await asyncio.gather(*[sending.send(receiver.url(), HEADERS, BODY) for _ in range(8)])
        for _ in range(5):
            await asyncio.wait_for(receiver.ended.acquire(), 5)
        assert connector.open_connections == 4
        await asyncio.gather(*[sending.send(receiver.url(), HEADERS, BODY) for _ in range(3)])
        await sending.send(other.url(), HEADERS, BODY)
        assert (receiver.connections, other.connections) == (8, 1)


async def test_the_connections_that_idled_longest_are_closed_beyond_the_limit_for_all() -> None:
    async with AsyncExitStack() as stack:
        receivers = [await stack.enter_async_context(HostileReceiver(hostile.polite)) for _ in range(6)]
        sending = await stack.enter_async_context(sender())
        connector = limited(sending, idle_per_origin=10, all_together=4)
        for receiver in receivers:
            assert status_or_error(await sending.send(receiver.url(), HEADERS, BODY)) == "200"
            assert connector.open_connections <= 4
        for closed in receivers[:2]:
            await asyncio.wait_for(closed.ended.acquire(), 5)
        for receiver in reversed(receivers[2:]):
            await sending.send(receiver.url(), HEADERS, BODY)
        assert [receiver.connections for receiver in receivers] == [1] * 6
        assert status_or_error(await sending.send(receivers[0].url(), HEADERS, BODY)) == "200"
        assert receivers[0].connections == 2
        await asyncio.wait_for(receivers[5].ended.acquire(), 5)


async def test_connections_in_use_are_never_closed_for_the_limit() -> None:
    answered = asyncio.Event()

    async def waits(peer: Peer) -> None:
        await peer.request()
        await answered.wait()
        await peer.write(OK)
        await peer.hung_up()

    async with HostileReceiver(waits) as slow, HostileReceiver(hostile.polite) as prompt, sender() as sending:
        connector = limited(sending, idle_per_origin=10, all_together=4)
        waiting = [asyncio.create_task(sending.send(slow.url(), HEADERS, BODY)) for _ in range(6)]
        await until(lambda: len(slow.requests) == 6)
        for _ in range(2):
            assert status_or_error(await sending.send(prompt.url(), HEADERS, BODY)) == "200"
        assert prompt.connections == 2, "there is no room for an idle one"
        assert connector.open_connections == 6
        answered.set()
        assert [status_or_error(answer) for answer in await asyncio.gather(*waiting)] == ["200"] * 6
        assert connector.open_connections == 4


async def test_connections_that_the_receiver_closed_count_no_more() -> None:
    async with HostileReceiver(dies_after(1)) as receiver, sender() as sending:
        connector = limited(sending, idle_per_origin=10, all_together=100)
        await asyncio.gather(*[sending.send(receiver.url(), HEADERS, BODY) for _ in range(3)])
        assert connector.open_connections == 3
        await sending.send(receiver.url(), HEADERS, BODY)
        await until(lambda: connector.open_connections == 1)
        assert len(connector._idle) == 1


@pytest.mark.parametrize(
    ("files", "concurrency", "all_together", "idle_per_origin"),
    [(65536, 256, 1024, 256), (1024, 256, 512, 128), (400, 256, 200, 50), (65536, 16, 64, 16), (-1, 256, 1024, 256)],
)
def test_the_limits_are_well_below_the_limit_of_files(
    monkeypatch: pytest.MonkeyPatch, files: int, concurrency: int, all_together: int, idle_per_origin: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (files, files))
    assert ReceiverConnectionLimits.of_process(concurrency) == ReceiverConnectionLimits(
        idle_per_origin=idle_per_origin, all_together=all_together
    )
