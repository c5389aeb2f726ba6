"""Kept connections: which may carry the next request, and what happens with those that died meanwhile."""

from __future__ import annotations

import asyncio
import resource
import socket
from contextlib import AsyncExitStack

import pytest

from daemon.core.delivery.answer import ErrorName, Failure
from daemon.pipeline.http_client import connection, pool
from daemon.pipeline.http_client.pool import ConnectionPool, ReceiverConnectionLimits
from daemon.pipeline.http_client.sender import Sender
from tests.support.event_loops import ON_BOTH_LOOPS, event_loop_policy  # noqa: F401 - a fixture
from tests.support.pipeline.sending import BODY, LINES, sender, status_or_error
from tests.support.receivers import hostile
from tests.support.receivers.hostile import OK, HostileReceiver, Peer
from tests.support.until import until

pytestmark = ON_BOTH_LOOPS


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
        answers = [status_or_error(await sending.send(receiver.url(), LINES, BODY)) for _ in range(3)]
    assert answers == ["200"] * 3
    assert receiver.connections == 3
    assert len(receiver.requests) == 5


async def test_all_pooled_connections_of_a_receiver_go_when_one_is_stale() -> None:
    async with HostileReceiver(dies_after(1)) as receiver, sender() as sending:
        await asyncio.gather(*[sending.send(receiver.url(), LINES, BODY) for _ in range(8)])
        assert receiver.connections == 8
        assert status_or_error(await sending.send(receiver.url(), LINES, BODY)) == "200"
    assert len(receiver.requests) == 8 + 2


async def test_a_fresh_connection_that_dies_is_a_failure_without_a_second_try() -> None:
    async with HostileReceiver(dies_after(0)) as receiver, sender() as sending:
        assert status_or_error(await sending.send(receiver.url(), LINES, BODY)) == "connection_reset"
    assert receiver.connections == 1


async def test_a_pooled_connection_that_died_after_a_byte_is_not_tried_again() -> None:
    async def half(peer: Peer) -> None:
        await peer.request()
        await peer.write(OK)
        await peer.request()
        await peer.write(b"HTTP/1.1 2")

    async with HostileReceiver(half) as receiver, sender() as sending:
        answers = [status_or_error(await sending.send(receiver.url(), LINES, BODY)) for _ in range(2)]
    assert answers == ["200", "connection_reset"]
    assert len(receiver.requests) == 2


async def test_nobody_listening_is_a_refusal() -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))
        async with sender() as sending:
            answer = await sending.send(f"http://127.0.0.1:{unheard.getsockname()[1]}/", LINES, BODY)
    assert answer == Failure(error=ErrorName.CONNECT_REFUSED)


async def test_a_connection_that_is_too_old_carries_no_other_request(monkeypatch: pytest.MonkeyPatch) -> None:
    async with HostileReceiver(hostile.polite) as receiver, sender() as sending:
        monkeypatch.setattr(connection, "LIFE_SECONDS", 0.0)
        assert status_or_error(await sending.send(receiver.url(), LINES, BODY)) == "200"
        assert sending._pool.open_connections == 0
        await asyncio.wait_for(receiver.ended.acquire(), 5)
        monkeypatch.undo()
        for _ in range(2):
            assert status_or_error(await sending.send(receiver.url(), LINES, BODY)) == "200"
    assert receiver.connections == 2


async def test_a_connection_that_nobody_needs_is_closed_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "IDLE_SECONDS", 0.05)
    monkeypatch.setattr(pool, "SWEEP_SECONDS", 0.01)
    async with HostileReceiver(hostile.polite) as receiver, sender() as sending:
        assert status_or_error(await sending.send(receiver.url(), LINES, BODY)) == "200"
        await asyncio.wait_for(receiver.ended.acquire(), 5)
        await until(lambda: sending._pool._sweep is None)
        assert sending._pool.open_connections == 0
        assert not sending._pool._by_origin, "the origin stays in memory"
        assert status_or_error(await sending.send(receiver.url(), LINES, BODY)) == "200"
    assert receiver.connections == 2


async def test_a_connection_that_may_be_closed_by_now_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with HostileReceiver(hostile.polite) as receiver, sender() as sending:
        assert status_or_error(await sending.send(receiver.url(), LINES, BODY)) == "200"
        [idle] = sending._pool._idle
        idle.idle_until = 0.0
        assert status_or_error(await sending.send(receiver.url(), LINES, BODY)) == "200"
    assert receiver.connections == 2


async def test_only_cancellation_escapes() -> None:
    started = asyncio.Event()

    async def notices(peer: Peer) -> None:
        await peer.request()
        started.set()
        await peer.hung_up()

    async with HostileReceiver(notices) as receiver, sender(timeout_seconds=10) as sending:
        task = asyncio.create_task(sending.send(receiver.url(), LINES, BODY))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(receiver.ended.acquire(), 5)
        assert status_or_error(await sending.send(receiver.url(), "X-A: \u20ac\r\n", BODY)) == "protocol_error"


def limited(sending: Sender, *, idle_per_origin: int, all_together: int) -> ConnectionPool:
    sending._pool._limits = ReceiverConnectionLimits(idle_per_origin=idle_per_origin, all_together=all_together)
    return sending._pool


async def test_the_connections_of_an_origin_that_idled_longest_are_closed_beyond_its_limit() -> None:
    async with (
        HostileReceiver(hostile.polite) as receiver,
        HostileReceiver(hostile.polite) as other,
        sender() as sending,
    ):
        kept = limited(sending, idle_per_origin=3, all_together=100)
        await sending.send(other.url(), LINES, BODY)
        await asyncio.gather(*[sending.send(receiver.url(), LINES, BODY) for _ in range(8)])
        for _ in range(5):
            await asyncio.wait_for(receiver.ended.acquire(), 5)
        assert kept.open_connections == 4
        await asyncio.gather(*[sending.send(receiver.url(), LINES, BODY) for _ in range(3)])
        await sending.send(other.url(), LINES, BODY)
        assert (receiver.connections, other.connections) == (8, 1)


async def test_the_connections_that_idled_longest_are_closed_beyond_the_limit_for_all() -> None:
    async with AsyncExitStack() as stack:
        receivers = [await stack.enter_async_context(HostileReceiver(hostile.polite)) for _ in range(6)]
        sending = await stack.enter_async_context(sender())
        kept = limited(sending, idle_per_origin=10, all_together=4)
        for receiver in receivers:
            assert status_or_error(await sending.send(receiver.url(), LINES, BODY)) == "200"
            assert kept.open_connections <= 4
        for closed in receivers[:2]:
            await asyncio.wait_for(closed.ended.acquire(), 5)
        for receiver in reversed(receivers[2:]):
            await sending.send(receiver.url(), LINES, BODY)
        assert [receiver.connections for receiver in receivers] == [1] * 6
        assert status_or_error(await sending.send(receivers[0].url(), LINES, BODY)) == "200"
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
        kept = limited(sending, idle_per_origin=10, all_together=4)
        waiting = [asyncio.create_task(sending.send(slow.url(), LINES, BODY)) for _ in range(6)]
        await until(lambda: len(slow.requests) == 6)
        for _ in range(2):
            assert status_or_error(await sending.send(prompt.url(), LINES, BODY)) == "200"
        assert prompt.connections == 2, "there is no room for an idle one"
        assert kept.open_connections == 6
        answered.set()
        assert [status_or_error(answer) for answer in await asyncio.gather(*waiting)] == ["200"] * 6
        assert kept.open_connections == 4


async def test_connections_that_the_receiver_closed_count_no_more() -> None:
    async with HostileReceiver(dies_after(1)) as receiver, sender() as sending:
        kept = limited(sending, idle_per_origin=10, all_together=100)
        await asyncio.gather(*[sending.send(receiver.url(), LINES, BODY) for _ in range(3)])
        assert kept.open_connections == 3
        await sending.send(receiver.url(), LINES, BODY)
        await until(lambda: kept.open_connections == 1)
        assert len(kept._idle) == 1


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


async def test_a_connection_whose_request_is_withheld_carries_the_next_one() -> None:
    async with HostileReceiver(hostile.polite) as receiver, sender() as sending:
        withheld = await sending.send(receiver.url(), LINES, BODY, may_send=lambda: False)
        sent = [status_or_error(await sending.send(receiver.url(), LINES, BODY)) for _ in range(2)]
    assert (status_or_error(withheld), sent) == ("withheld", ["200", "200"])
    assert (receiver.connections, len(receiver.requests)) == (1, 2)


async def test_a_request_on_a_kept_connection_asks_nobody_again() -> None:
    async with HostileReceiver(hostile.polite) as receiver, sender() as sending:
        await sending.send(receiver.url(), LINES, BODY)
        assert status_or_error(await sending.send(receiver.url(), LINES, BODY, may_send=lambda: False)) == "200"


async def test_what_a_receiver_says_before_the_first_request_is_no_answer_to_a_later_one() -> None:
    async def answers_unasked(peer: Peer) -> None:
        await peer.write(OK)
        await hostile.polite(peer)

    async with HostileReceiver(answers_unasked) as receiver, sender() as sending:
        await sending.send(receiver.url(), LINES, BODY, may_send=lambda: False)
        await asyncio.wait_for(receiver.ended.acquire(), 10)  # what it said has ended the connection
        await sending.send(receiver.url(), LINES, BODY)
    assert receiver.connections == 2


async def test_a_withheld_connection_that_the_receiver_closed_gets_one_free_try_on_a_fresh_one() -> None:
    async with HostileReceiver(dies_after(0)) as first, sender() as sending:
        await sending.send(first.url(), LINES, BODY, may_send=lambda: False)
        answered = status_or_error(await sending.send(first.url(), LINES, BODY))
    assert (answered, first.connections) == ("connection_reset", 2)
