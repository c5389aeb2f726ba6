"""One connection without a network: request after request, with whatever a receiver may do between and during them.

The model is an `AnswerReader` that sees the bytes of one exchange and nothing else. If a connection that has carried
requests answers like it, no byte was kept for the next request.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.core.delivery.answer import Answer, ErrorName, Failure, Response
from daemon.pipeline.http_client import connection
from daemon.pipeline.http_client.answer_reader import AnswerReader
from daemon.pipeline.http_client.connection import Deadlines, Outbox, ReceiverConnection
from tests.support.receivers.transports import ScriptedTransport
from tests.support.values.answers import Segments, anything, cut, legal_answers

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
SECONDS = 1000.0


class End(Enum):
    """What follows the bytes of an exchange, if they are no whole answer."""

    CLOSED = "closed"
    RESET = "reset"
    TLS = "tls"
    SILENCE = "silence"


@dataclass(frozen=True, slots=True)
class Script:
    """What comes while the connection is idle, then during the exchange."""

    unasked: Segments
    answer: Segments
    end: End


class Connected:
    """A connection on a scripted transport, and whether it is lost."""

    def __init__(self) -> None:
        self.lost: list[ReceiverConnection] = []
        self.connection = ReceiverConnection(Deadlines(), Outbox(), on_made=lambda _it: None, on_lost=self.lost.append)
        self.transport = ScriptedTransport(self.connection)

    async def exchange(self, segments: Sequence[bytes], end: End) -> Answer | None:
        """The answer of an exchange; None if the connection was stale."""
        exchange = self.connection.exchange(b"request", asyncio.get_running_loop().time() + SECONDS)
        await asyncio.sleep(0)
        for segment in segments:
            if not self.transport.is_closing():
                self.connection.data_received(segment)
        await asyncio.sleep(0)
        if not exchange.done() and not self.transport.is_closing():
            self._end(end)
        return await asyncio.wait_for(exchange, 5)

    def _end(self, end: End) -> None:
        match end:
            case End.CLOSED:
                self.connection.eof_received()
            case End.RESET:
                self.transport.lose(ConnectionResetError())
            case End.TLS:
                self.transport.lose(ssl.SSLError(1, "alert"))
            case End.SILENCE:
                self.connection.expire()


def modelled(segments: Sequence[bytes], end: End, *, is_reused: bool) -> tuple[Answer | None, bool]:
    """What the exchange has to return, and whether the connection stays open."""
    reader = AnswerReader()
    for position, segment in enumerate(segments):
        reader.feed(segment)
        if reader.is_over:
            return reader.answer, reader.is_kept_open and position == len(segments) - 1
    if is_reused and not any(segments) and end is not End.SILENCE:
        return None, False
    match end:
        case End.CLOSED:
            reader.end()
            return reader.answer, False
        case End.RESET:
            return Failure(error=ErrorName.CONNECTION_RESET), False
        case End.TLS:
            return Failure(error=ErrorName.TLS_ERROR), False
        case End.SILENCE:
            return Failure(error=ErrorName.TIMEOUT), False


scripts = st.builds(
    Script,
    unasked=st.just([]) | st.just([]) | st.just([]) | cut(anything),
    answer=cut(legal_answers().map(lambda legal: legal.text) | anything),
    end=st.sampled_from(End),
)


async def play(scripts: Sequence[Script]) -> None:
    """Exchanges on one connection after the other, as a pool would."""
    connected = Connected()
    is_reused = False
    for script in scripts:
        if is_reused and script.unasked:
            for segment in script.unasked:
                connected.connection.data_received(segment)
            assert not connected.connection.is_open, "nobody asked for that"
            assert connected.lost
        if not connected.connection.is_open:
            connected, is_reused = Connected(), False
        answer = await connected.exchange(script.answer, script.end)
        expected, stays = modelled(script.answer, script.end, is_reused=is_reused)
        assert answer == expected
        assert connected.connection.is_open == stays, scripts
        assert bool(connected.lost) != stays
        is_reused = True


def test_no_byte_is_kept_for_the_next_request(pytestconfig: pytest.Config) -> None:
    with asyncio.Runner() as runner:

        @settings(deadline=None, max_examples=100_000 if pytestconfig.getoption("--long") else 1500)
        @given(st.lists(scripts, min_size=1, max_size=4))
        def fuzz(scripts: list[Script]) -> None:
            runner.run(play(scripts))

        fuzz()


async def test_a_connection_carries_one_request_after_the_other() -> None:
    connected = Connected()
    for _ in range(3):
        answer = await connected.exchange([OK], End.SILENCE)
        assert answer == Response(status=200, headers=(("Content-Length", "2"),), body=b"ok")
    assert connected.transport.written == b"request" * 3
    assert connected.connection.is_open


async def test_what_comes_before_the_first_request_is_its_answer() -> None:
    connected = Connected()
    connected.connection.data_received(OK)
    assert isinstance(await connected.exchange([], End.SILENCE), Response)
    assert connected.transport.written == b"request"


async def test_a_receiver_that_answers_without_reading_gets_no_second_request() -> None:
    connected = Connected()
    connected.transport.unsent_bytes = 1
    assert isinstance(await connected.exchange([OK], End.SILENCE), Response)
    assert not connected.connection.is_open


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("", connection.IDLE_SECONDS),
        ("Keep-Alive: timeout=5\r\n", 4),
        ("Keep-Alive: timeout=600\r\n", connection.IDLE_SECONDS),
        ("Keep-Alive: timeout=5, max=99\r\n", 4),
        ("Keep-Alive: timeout=1\r\n", 0.8),
        ("Keep-Alive: timeout=0\r\n", None),
        ("Keep-Alive: max=0\r\n", None),
    ],
)
async def test_a_connection_is_kept_no_longer_than_the_receiver_says(said: str, seconds: float | None) -> None:
    connected = Connected()
    now = asyncio.get_running_loop().time()
    await connected.exchange([f"HTTP/1.1 200 OK\r\n{said}Content-Length: 0\r\n\r\n".encode()], End.SILENCE)
    assert connected.connection.is_open == (seconds is not None)
    if seconds is not None:
        assert connected.connection.idle_until - now == pytest.approx(seconds, abs=0.3)


async def test_a_connection_that_is_given_up_is_lost_at_once() -> None:
    connected = Connected()
    exchange = connected.connection.exchange(b"request", float("inf"))
    exchange.cancel()
    connected.connection.abort()
    assert connected.lost == [connected.connection]
    assert not connected.connection._deadlines._waiting


async def test_the_requests_of_one_turn_are_written_after_it_but_for_those_given_up() -> None:
    outbox = Outbox()
    connections = [
        ReceiverConnection(Deadlines(), outbox, on_made=lambda _it: None, on_lost=lambda _it: None) for _ in range(4)
    ]
    transports = [ScriptedTransport(each) for each in connections]
    exchanges = [each.exchange(b"request %d" % number, float("inf")) for number, each in enumerate(connections)]
    assert [each.written for each in transports] == [b""] * 4
    connections[1].abort()
    exchanges[2].cancel()
    await asyncio.sleep(0)
    assert [each.written for each in transports] == [b"request 0", b"", b"", b"request 3"]


async def test_a_request_is_written_even_if_an_answer_came_in_the_same_turn() -> None:
    connected = Connected()
    connected.connection.exchange(b"request", float("inf"))
    connected.connection.data_received(OK)
    await asyncio.sleep(0)
    assert connected.transport.written == b"request"


async def test_one_timer_ends_all_requests_whose_deadline_has_passed() -> None:
    deadlines = Deadlines()
    now = asyncio.get_running_loop().time()
    connections = [
        ReceiverConnection(deadlines, Outbox(), on_made=lambda _it: None, on_lost=lambda _it: None) for _ in range(3)
    ]
    for each in connections:
        ScriptedTransport(each)
    early = [each.exchange(b"", now + 0.01) for each in connections[:2]]
    late = connections[2].exchange(b"", now + SECONDS)
    assert await asyncio.wait_for(asyncio.gather(*early), 5) == [Failure(error=ErrorName.TIMEOUT)] * 2
    assert not late.done()
    connections[2].data_received(OK)
    await late
    assert not deadlines._waiting
