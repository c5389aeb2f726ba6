"""Reads one answer out of the bytes of a connection, within a budget. It has no socket, clock or loop.

llhttp parses (the parser of Node, by httptools). This class adds what it leaves to its callers: how much of an answer
is read, and when its framing cannot become right. The one thing to know: within the budgets an answer follows from the
bytes alone, however they are cut into segments. So no byte beyond ANSWER_BUDGET_BYTES is parsed, and nothing behind the
KEPT_BODY_BYTES that are kept: they are enough.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import NoReturn

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from daemon.core.delivery.answer import Answer, ErrorName, Failure, Response

KEPT_BODY_BYTES = 16 * 1024
ANSWER_BUDGET_BYTES = 256 * 1024
"""Raw bytes of an answer: interim answers, heads, chunk extensions and trailers count too, whatever they are for."""
MAX_HEAD_BYTES = 64 * 1024
MAX_HEAD_LINES = 1000
"""One head, or the trailers of one answer. Servers send content security policies of 9,000 characters."""
MAX_HEADS = 32
"""Interim answers and the final one."""
MAX_LENGTH_BYTES = 1 << 50
"""A Content-Length or a chunk beyond this is no length: waiting for so many bytes would only end at the deadline."""

_LINE_BYTES = len(b": \r\n")
_SIZE_LINE_BYTES = 64
_CHUNK_SIZE = re.compile(rb"(?:\A|\n)([0-9a-fA-F]+)[ \t\r]*(?:;[^\n]*)?\n\Z")
_MAX_LENGTH_DIGITS = len(str(MAX_LENGTH_BYTES))
_KEEP_ALIVE = re.compile(rb"\b(timeout|max)=([0-9]{1,6})\b", re.IGNORECASE)


class AnswerReader:
    """Call `feed` until `is_over`, or `end` if no more bytes come; then `answer` has the answer.

    If the answer `is_kept_open`, `begin_anew` makes it ready for the next one. Else call `close`: reader and parser
    refer to each other, and would wait for the garbage collector.
    """

    def __init__(self) -> None:
        self._parser = HttpResponseParser(self)
        # Receivers send bare line feeds, folded lines and spaces behind chunk sizes, and their answers are understood.
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forgets the last answer, of which everything was read and nothing is left in the parser."""
        self.received_bytes = 0
        self.is_over = False
        """True if no further byte can change the answer."""
        self.is_kept_open = False
        """True if the answer is complete and nothing follows it, and the receiver keeps the connection open."""
        self.has_begun = False
        """True if a part of the answer has come. A whole interim answer is none: it says that the receiver thinks."""
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._body = b""
        self._error: ErrorName | None = None
        self._is_complete = False
        self._has_head = False
        self._is_in_head = False
        self._heads = 0
        self._head_lines = 0
        self._head_bytes = 0
        self._head_seen_at = 0
        self._is_new_chunk = False
        self._chunk_bytes = 0
        self._unended_line = b""

    @property
    def answer(self) -> Answer:
        if self._error is not None:
            return Failure(error=self._error)
        headers = tuple([(name.decode("latin-1"), value.decode("latin-1")) for name, value in self._headers])
        return Response(self._status, headers, self._body)

    def feed(self, received: bytes) -> None:
        """Takes the next bytes of the connection."""
        if self.is_over:
            self.is_kept_open = False  # nobody asked for these bytes
            return
        within = received[: ANSWER_BUDGET_BYTES - self.received_bytes]
        self.received_bytes += len(received)
        try:
            self._parser.feed_data(within)
        except (HttpParserError, HttpParserUpgrade):
            self.is_kept_open = False
            if not self._is_decided():
                self._error = ErrorName.PROTOCOL_ERROR
        if self._is_complete:  # nearly always
            self.is_over = True
        else:
            if not self._is_decided():
                self._check_unfinished(within)
            self.is_over = self._is_decided()

    def end(self) -> None:
        """No more bytes come. The status decides, even if the body is short."""
        if not self._has_head:
            self._error = ErrorName.CONNECTION_RESET
        self.is_over = True

    def close(self) -> None:
        """Lets go of the parser. The answer stays."""
        self.is_over = True
        self.is_kept_open = False
        with suppress(AttributeError):
            del self._parser

    def keep_alive(self) -> dict[bytes, int]:
        """What the receiver says in Keep-Alive: `timeout` in seconds, and `max`, how many requests may follow."""
        for name, value in self._headers:
            if len(name) == len(b"keep-alive") and name.lower() == b"keep-alive":
                return {key.lower(): int(number) for key, number in _KEEP_ALIVE.findall(value)}
        return {}

    def _is_decided(self) -> bool:
        return self._is_complete or self._error is not None or self._has_enough()

    def _has_enough(self) -> bool:
        return len(self._body) >= KEPT_BODY_BYTES

    def _check_unfinished(self, received: bytes) -> None:
        """Fails if what came so far cannot become an answer, or not within the budget."""
        if self.received_bytes > ANSWER_BUDGET_BYTES:
            self._error = ErrorName.PROTOCOL_ERROR if self._is_in_head else ErrorName.RESPONSE_TOO_LARGE
        elif self._is_in_head:
            self._head_seen_at = self._head_seen_at or self.received_bytes
            if self.received_bytes - self._head_seen_at > MAX_HEAD_BYTES:  # no callback sees a line without end
                self._error = ErrorName.PROTOCOL_ERROR
        elif self._is_new_chunk:
            seen = self._unended_line + received
            size = _CHUNK_SIZE.search(seen, 0, len(seen) - self._chunk_bytes)
            if size and int(size[1], 16) > MAX_LENGTH_BYTES:
                self._error = ErrorName.PROTOCOL_ERROR
            self._is_new_chunk = False
        self._unended_line = (self._unended_line + received).rpartition(b"\n")[2][:_SIZE_LINE_BYTES]

    # What the parser calls. If a callback raises, the parser stops.

    def on_message_begin(self) -> None:
        if self._is_complete:
            raise _Stop
        self._heads += 1
        if self._heads > MAX_HEADS:
            self._fail(ErrorName.RESPONSE_TOO_LARGE)
        self.has_begun = self._is_in_head = True
        self._head_lines, self._head_bytes, self._head_seen_at = 1, 0, 0

    def on_status(self, reason: bytes) -> None:
        self._head_bytes += len(reason)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_lines += 1
        self._head_bytes += len(name) + len(value) + _LINE_BYTES
        if self._head_lines > MAX_HEAD_LINES or self._head_bytes > MAX_HEAD_BYTES or b"\0" in value:
            self._fail(ErrorName.PROTOCOL_ERROR)
        if len(value) >= _MAX_LENGTH_DIGITS and name.lower() == b"content-length" and int(value) > MAX_LENGTH_BYTES:
            self._fail(ErrorName.PROTOCOL_ERROR)
        if self._is_in_head:  # else it is a trailer
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._head_lines = self._head_bytes = 0
        status = self._parser.get_status_code()
        if 100 <= status < 200 and status != 101:
            self._headers.clear()
        else:
            self._status, self._has_head = status, True

    def on_chunk_header(self) -> None:
        if self._has_enough():
            raise _Stop
        self._is_new_chunk, self._chunk_bytes = True, 0

    def on_body(self, part: bytes) -> None:
        self._chunk_bytes += len(part)
        self._body += part
        if len(self._body) > KEPT_BODY_BYTES:
            self._body = self._body[:KEPT_BODY_BYTES]
            raise _Stop

    def on_chunk_complete(self) -> None:
        self._is_new_chunk = False

    def on_message_complete(self) -> None:
        if self._has_head:
            self._is_complete = True
            self.is_kept_open = self._status != 101 and self._parser.should_keep_alive()
        else:
            self.has_begun = False

    def _fail(self, error: ErrorName) -> NoReturn:
        self._error = error
        raise _Stop


class _Stop(Exception):
    """Stops the parser: what follows is not read."""
