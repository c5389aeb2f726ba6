"""One connection to a receiver: limits the bytes of an answer and the connection's age, and rejects unrequested data.

aiohttp reads and parses. This subclass of its connection adds the checks that a hostile receiver makes necessary. The
one thing to know: the budget counts the raw bytes of one answer, including interim responses, header lines and chunk
extensions, which no limit of the parser covers. An answer counts as whole once KEPT_BODY_BYTES of its body are there.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

from aiohttp import ClientOSError, ClientPayloadError, ServerDisconnectedError
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage
from aiohttp.streams import StreamReader

KEPT_BODY_BYTES = 16 * 1024
ANSWER_BUDGET_BYTES = 256 * 1024
MAX_HEADS = 32
"""Heads of one answer: interim answers, empty lines, the final head. A budget full of them would block for 50 ms."""
LIFE_SECONDS = 300.0
"""A connection stays with the address that was checked. After this time at most, a new address of the name is used."""

_HEAD_END = re.compile(rb"\n\r?\n")
"""Bare line feeds match too: the parser accepts them, so a flood of them has to count."""


class AnswerTooLarge(ClientPayloadError):
    """More raw bytes than the budget, and the answer is not whole."""


class StaleConnection(ServerDisconnectedError):
    """A pooled connection ended before a byte of this answer came: most likely the receiver had closed it earlier."""


class ProxyDropped(ServerDisconnectedError):
    """The operator's proxy closed the connection before the tunnel was established."""


class ReceiverConnection(ResponseHandler):
    """aiohttp's protocol object of one connection; call `begin` before each request.

    `on_change` is told 1 when it opens and -1 when it is closed, `on_lost` which connection is closed.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        proxied: bool,
        on_lost: Callable[[ReceiverConnection], None],
        on_change: Callable[[int], None],
    ) -> None:
        super().__init__(loop)
        self._proxied = proxied
        self._on_lost = on_lost
        self._on_change = on_change
        self._is_counted = False
        self._requests = 0
        self._received_bytes = 0
        self._heads = 0
        self._final_answers = 0
        self._expires_at = loop.time() + LIFE_SECONDS

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if not self._is_counted:  # a tunnel connects once more, with TLS
            self._is_counted = True
            self._on_change(1)

    def connection_lost(self, exc: BaseException | None) -> None:
        if self._is_counted:
            self._is_counted = False
            self._on_change(-1)
        self._on_lost(self)
        super().connection_lost(exc)

    @property
    def should_close(self) -> bool:
        """Aiohttp asks this when an answer has ended: False lets another request follow."""
        return super().should_close or self._loop.time() > self._expires_at

    def begin(self) -> None:
        """Starts the counts of a new request: the bytes from now on are its answer."""
        self._requests += 1
        self._received_bytes = 0
        self._heads = 0
        self._final_answers = 0

    def start_timeout(self) -> None:
        """Does nothing: silence is measured from the first byte on, and until then only the total timeout applies."""

    def close(self) -> None:
        """Aborts: a receiver that ignores TLS's close_notify would hold the socket for half a minute."""
        self.abort()

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002 - aiohttp's signature
        """Aiohttp calls this after every read, and it is costly. Only a paused reader needs it."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def data_received(self, data: bytes) -> None:
        self._received_bytes += len(data)
        start = 0
        while not self._final_answers and self.exception() is None and (end := _HEAD_END.search(data, start)):
            if self._heads == MAX_HEADS:
                self._judge_size()
                return
            self._heads += 1
            # Each head is parsed by itself: if the parser failed on the bytes after it, the status would be lost.
            super().data_received(data[start : (start := end.end())])
        if start < len(data) or not data:  # aiohttp resumes a paused parser with no data
            self._body_received(data[start:])
        if self._received_bytes > ANSWER_BUDGET_BYTES:
            self._judge_size()

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        if 100 <= data[0].code < 200 and data[0].code != 101:
            return  # interim: no reader needs it, and each one of a flood would wake the reader
        self._final_answers += 1
        if self._final_answers > 1:
            self._abandon()
            return
        super().feed_data(data, size)

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        if isinstance(exc, ServerDisconnectedError | ClientOSError):
            if self._requests == 0 and self._proxied:
                exc = ProxyDropped()
            elif self._requests > 1 and self._received_bytes == 0:
                exc = StaleConnection()
        super().set_exception(exc, exc if exc_cause is None else exc_cause)

    def _body_received(self, data: bytes) -> None:
        payload = self._payload
        if data and self._final_answers and (payload is None or payload.is_eof()):
            self._abandon()
            return
        super().data_received(data)
        failed = self.exception()
        if failed is not None and payload is not None and not payload.is_eof():
            payload.set_exception(failed)  # aiohttp sets it only for a reader that waits for the head

    def _abandon(self) -> None:
        """Drops unrequested data: if it were kept, it would count as the answer to the next request."""
        self.force_close()
        if self.transport is not None:
            self.transport.abort()

    def _judge_size(self) -> None:
        payload = self._payload if self._final_answers else None
        is_whole = payload is not None and (payload.is_eof() or payload.total_bytes >= KEPT_BODY_BYTES)
        if is_whole or self.transport is None:
            return
        too_large = AnswerTooLarge()
        self.set_exception(too_large)
        if payload is not None:
            payload.set_exception(too_large)
        self._payload = None  # else the loss of the connection would replace the reason
        self.transport.abort()
