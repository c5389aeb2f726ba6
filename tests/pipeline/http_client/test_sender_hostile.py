"""Receivers that misbehave, on asyncio's event loop and on uvloop, which the daemon uses.

Whatever they do, an attempt ends soon, with an outcome from the fixed set, after few bytes are read.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from daemon.core.delivery.answer import Answer, Response
from daemon.pipeline.http_client.answer_reader import KEPT_BODY_BYTES, MAX_HEADS
from daemon.pipeline.http_client.egress_guard import Unsent
from daemon.pipeline.http_client.sender import Sender
from tests.support.event_loops import ON_BOTH_LOOPS, event_loop_policy  # noqa: F401 - a fixture
from tests.support.pipeline.sending import BODY, LINES, sender, status_or_error
from tests.support.receivers import hostile
from tests.support.receivers.hostile import CHUNKED, OK, HostileReceiver, Peer

HOSTILE = json.loads((Path(__file__).parents[2] / "data" / "hostile_responses.json").read_text())
WAITING_SECONDS = 0.5
MAX_QUEUED_SECONDS = 20.0
# Several forms of a 200, each cut at every byte.
LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
IN_CHUNKS = CHUNKED + b"2\r\nhe\r\n3;a=b\r\nllo\r\n0\r\nX-A: b\r\n\r\n"
AFTER_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + LENGTH
NO_BODY = b"HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n"

pytestmark = ON_BOTH_LOOPS


@pytest.mark.parametrize("case", HOSTILE, ids=lambda case: str(case["name"]))
async def test_a_hostile_receiver_gets_its_name_and_no_more_than_the_budget(case: dict[str, str]) -> None:
    waits = case["answer"] in ("timeout", "connect_timeout")
    scheme = "https" if case["name"] == "tls_stall" else "http"
    async with (
        HostileReceiver(hostile.BEHAVIOURS[case["name"]]) as receiver,
        sender(timeout_seconds=WAITING_SECONDS if waits else MAX_QUEUED_SECONDS) as sending,
    ):
        answer = await sending.send(receiver.url(scheme=scheme), LINES, BODY)
        if not sending._pool.open_connections:  # a connection that is not kept is closed
            await asyncio.wait_for(receiver.ended.acquire(), 5)
    assert status_or_error(answer) == case["answer"]
    assert receiver.connections == 1
    assert receiver.sent_bytes < 8 * 1024 * 1024  # this much fits into the kernel's buffers; less was read
    if isinstance(answer, Response):
        assert len(answer.body) <= KEPT_BODY_BYTES


def test_every_behaviour_is_a_case_and_the_other_way_round() -> None:
    assert {case["name"] for case in HOSTILE} == set(hostile.BEHAVIOURS)


@pytest.mark.parametrize("text", [LENGTH, IN_CHUNKS, AFTER_HINTS, NO_BODY], ids=["length", "chunks", "hints", "none"])
@pytest.mark.parametrize("is_reset", [False, True], ids=["closed", "reset"])
async def test_a_connection_may_end_at_any_byte_and_the_status_counts_once_it_is_whole(
    text: bytes, is_reset: bool
) -> None:
    head = text.index(b"\r\n\r\n", text.index(b"HTTP/1.1 20")) + 4
    status = text[text.index(b"HTTP/1.1 20") :][9:12].decode()
    ends = hostile.answers_and_resets if is_reset else hostile.answers_and_closes
    got, expected = [], []
    async with sender(timeout_seconds=MAX_QUEUED_SECONDS) as sending:
        for cut in range(len(text)):
            async with HostileReceiver(ends(text[:cut])) as receiver:
                got.append(status_or_error(await sending.send(receiver.url(), LINES, BODY)))
            expected.append("connection_reset" if cut < head or is_reset else status)
    assert got == expected


@pytest.mark.parametrize("text", [LENGTH, IN_CHUNKS, AFTER_HINTS, NO_BODY], ids=["length", "chunks", "hints", "none"])
async def test_an_answer_is_the_same_however_it_is_cut_into_segments(text: bytes) -> None:
    async with sender(timeout_seconds=MAX_QUEUED_SECONDS) as sending:
        answers = [await _answer(sending, text[:cut], text[cut:]) for cut in range(1, len(text))]
        whole = await _answer(sending, text)
    assert isinstance(whole, Response)
    assert whole.body == (b"" if text is NO_BODY else b"hello")
    assert answers == [whole] * (len(text) - 1)


@pytest.mark.parametrize(
    "bad", [CHUNKED + b"2\r\nokXX0\r\n\r\n", CHUNKED + b"zz\r\n", CHUNKED + b"-1\r\n"], ids=["end", "size", "minus"]
)
async def test_broken_framing_is_noticed_in_whichever_segment_it_comes(bad: bytes) -> None:
    async with sender(timeout_seconds=MAX_QUEUED_SECONDS) as sending:
        answers = [status_or_error(await _answer(sending, bad[:cut], bad[cut:])) for cut in range(1, len(bad))]
    assert set(answers) == {"protocol_error"}


async def _answer(sending: Sender, *pieces: bytes) -> Answer:
    async with HostileReceiver(hostile.answers_in_pieces(*pieces)) as receiver:
        answer = await sending.send(receiver.url(), LINES, BODY)
        assert not isinstance(answer, Unsent)
        return answer


@pytest.mark.parametrize("end", [b"\r\n\r\n", b"\n\n", b"\r\n\n", b"\n\r\n"], ids=["crlf", "lf", "crlf_lf", "lf_crlf"])
@pytest.mark.parametrize(("count", "answer"), [(MAX_HEADS - 1, "200"), (MAX_HEADS, "response_too_large")])
async def test_interim_answers_are_counted_before_they_cost_anything(count: int, answer: str, end: bytes) -> None:
    text = (b"HTTP/1.1 103 Early Hints" + end) * count + OK
    async with sender(timeout_seconds=MAX_QUEUED_SECONDS) as sending:
        assert status_or_error(await _answer(sending, text)) == answer
        assert status_or_error(await _answer(sending, text[:500], text[500:])) == answer


@pytest.mark.parametrize(
    "unasked",
    [b"HTTP/1.1 299 Poison\r\nContent-Length: 0\r\n\r\n", b"HTTP/1.1 299 Poi", b"\r\n", b"x"],
    ids=["answer", "half", "line", "byte"],
)
@pytest.mark.parametrize("text", [OK, NO_BODY, IN_CHUNKS], ids=["length", "none", "chunks"])
async def test_what_nobody_asked_for_is_not_taken_for_the_next_answer(unasked: bytes, text: bytes) -> None:
    answered, poisoned = asyncio.Event(), asyncio.Event()

    async def poisonous(peer: Peer) -> None:
        await peer.request()
        await peer.write(text)
        await answered.wait()
        await peer.write(unasked)
        await peer.hung_up()
        poisoned.set()

    async with HostileReceiver(poisonous) as receiver, sender(timeout_seconds=MAX_QUEUED_SECONDS) as sending:
        first = status_or_error(await sending.send(receiver.url(), LINES, BODY))
        answered.set()
        await asyncio.wait_for(poisoned.wait(), 5)  # the sender closed the connection
        assert status_or_error(await sending.send(receiver.url(), LINES, BODY)) == first
    assert receiver.connections == 2


async def test_a_second_answer_in_the_same_breath_is_not_the_next_one() -> None:
    poison = b"HTTP/1.1 299 Poison\r\nContent-Length: 0\r\n\r\n"
    async with (
        HostileReceiver(hostile.answers(OK + poison)) as receiver,
        sender(timeout_seconds=MAX_QUEUED_SECONDS) as sending,
    ):
        answers = [status_or_error(await sending.send(receiver.url(), LINES, BODY)) for _ in range(3)]
    assert answers == ["200"] * 3
    assert receiver.connections == 3


async def test_fifty_hostile_receivers_at_once_leave_the_polite_one_alone() -> None:
    names = ["flood_103", "endless_body", "endless_headers", "flood_chunk_extension", "silent"] * 10
    async with AsyncExitStack() as stack:
        receivers = [await stack.enter_async_context(HostileReceiver(hostile.BEHAVIOURS[name])) for name in names]
        friend = await stack.enter_async_context(HostileReceiver(hostile.polite))
        sending = await stack.enter_async_context(sender(timeout_seconds=WAITING_SECONDS))
        tasks = [asyncio.create_task(sending.send(one.url(), LINES, BODY)) for one in receivers]
        friendly = [
            status_or_error(await sending.send(friend.url(), LINES, BODY, timeout_seconds=MAX_QUEUED_SECONDS))
            for _ in range(20)
        ]
        await asyncio.gather(*tasks)
    assert friendly == ["200"] * 20
