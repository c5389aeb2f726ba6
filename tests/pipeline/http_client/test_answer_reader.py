"""What the reader makes of any bytes: an answer or a name of ours, the same however they are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings

from daemon.core.delivery.answer import Answer, ErrorName, Failure, Response
from daemon.pipeline.http_client.answer_reader import KEPT_BODY_BYTES, MAX_HEAD_BYTES, MAX_HEAD_LINES, AnswerReader
from tests.support.values.answers import LegalAnswer, Segments, anything, cut, legal_answers

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
NAMES = {ErrorName.PROTOCOL_ERROR, ErrorName.RESPONSE_TOO_LARGE, ErrorName.CONNECTION_RESET}


def read(segments: Segments) -> tuple[Answer, bool]:
    """The answer in the segments of a connection that is closed after them, and whether it could have gone on."""
    reader = AnswerReader()
    for segment in segments:
        reader.feed(segment)
    is_kept_open = reader.is_kept_open
    if not reader.is_over:
        reader.end()
    return reader.answer, is_kept_open


@settings(deadline=None, max_examples=400)
@given(legal_answers())
def test_a_legal_answer_is_read_as_it_was_meant(legal: LegalAnswer) -> None:
    assert read([legal.text]) == (legal.response, legal.is_kept_open)


@settings(deadline=None, max_examples=100)
@given(legal_answers())
def test_a_legal_answer_is_the_same_wherever_it_is_cut(legal: LegalAnswer) -> None:
    text, expected = legal.text, (legal.response, legal.is_kept_open)
    for at in [*range(1, min(len(text), 600)), *range(600, len(text), 997)]:
        assert read([text[:at], text[at:]]) == expected
    one_by_one = [text[start:end] for start, end in pairwise(range(min(len(text), 600) + 1))]
    assert read([*one_by_one, *([text[600:]] if text[600:] else [])]) == expected


@settings(deadline=None, max_examples=1500)
@given(cut(anything))
def test_any_bytes_are_an_answer_or_a_name_however_they_are_cut(segments: Segments) -> None:
    answer, _ = read(segments)
    whole, _ = read([b"".join(segments)])
    assert answer == whole
    match answer:
        case Failure():
            assert answer.error in NAMES
        case Response():
            assert len(answer.body) <= KEPT_BODY_BYTES


@settings(deadline=None, max_examples=300)
@given(legal_answers(), cut(anything))
def test_what_follows_an_answer_is_not_kept_and_ends_the_connection(legal: LegalAnswer, unasked: Segments) -> None:
    if legal.ends:
        return
    assert read([legal.text, *unasked]) == (legal.response, legal.is_kept_open and not unasked)


@pytest.mark.parametrize("lines", [MAX_HEAD_LINES, MAX_HEAD_LINES + 1])
def test_a_head_has_a_thousand_lines_at_most(lines: int) -> None:
    text = b"HTTP/1.1 200 OK\r\n" + b"X-A: b\r\n" * (lines - 2) + b"Content-Length: 0\r\n\r\n"
    answer, _ = read([text])
    expected = "200" if lines == MAX_HEAD_LINES else "protocol_error"
    assert (str(answer.status) if isinstance(answer, Response) else answer.error.value) == expected


@pytest.mark.parametrize("size", [MAX_HEAD_BYTES - 100, MAX_HEAD_BYTES + 100])
def test_a_head_has_64_kib_at_most_and_so_have_all_trailers(size: int) -> None:
    expected = "200" if size < MAX_HEAD_BYTES else "protocol_error"
    long = b"X-A: " + b"a" * size + b"\r\n"
    for text in (
        b"HTTP/1.1 200 OK\r\n" + long + b"Content-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + long + b"\r\n",
    ):
        answer, _ = read([text])
        assert (str(answer.status) if isinstance(answer, Response) else answer.error.value) == expected


@pytest.mark.parametrize(
    "size", [b"FFFFFFFFFFFFFFFF", b"FFFFFFFFFFFFFFFFF", b"000004000000000001;a=b", b"10000000000000 "]
)
def test_a_chunk_that_nobody_can_send_is_noticed_before_its_first_byte(size: bytes) -> None:
    text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n" + size + b"\r\n"
    for at in range(len(text)):
        reader = AnswerReader()
        reader.feed(text[:at])
        reader.feed(text[at:])
        assert reader.is_over
        assert reader.answer == Failure(error=ErrorName.PROTOCOL_ERROR)


@pytest.mark.parametrize("length", [b"18446744073709551615", b"18446744073709551616", b"1125899906842625"])
def test_a_length_that_nobody_can_send_is_noticed_with_the_head(length: bytes) -> None:
    reader = AnswerReader()
    reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: " + length + b"\r\n\r\n")
    assert reader.is_over
    assert reader.answer == Failure(error=ErrorName.PROTOCOL_ERROR)


def test_a_length_that_is_merely_huge_is_an_answer() -> None:
    answer, is_kept_open = read([b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n" + b"x" * 20_000])
    assert isinstance(answer, Response)
    assert (answer.status, len(answer.body), is_kept_open) == (200, KEPT_BODY_BYTES, False)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("Keep-Alive: timeout=5, max=100", {b"timeout": 5, b"max": 100}),
        ("KEEP-ALIVE: max=0", {b"max": 0}),
        ("Keep-Alive: TIMEOUT=7", {b"timeout": 7}),
        ("Keep-Alive: timeout=forever, max=-1", {}),
        ("Keep-Alive: timeout=99999999999999999999", {}),
        ("X-Keep-Alive: timeout=5", {}),
    ],
)
def test_what_the_receiver_says_about_keeping_the_connection_is_read(header: str, found: dict[bytes, int]) -> None:
    reader = AnswerReader()
    reader.feed(f"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{header}\r\n\r\n".encode())
    assert reader.keep_alive() == found
