"""One connection to a receiver, as bytes arrive: how much may come, when it is stale or old, what was not asked for.

aiohttp reads and parses; this subclass of its connection adds what a hostile receiver makes necessary. The one thing to
know: the budget counts raw bytes of one answer - interim responses, header lines and chunk extensions included, which
no limit of the parser covers - and an answer counts as whole once as much of its body is there as is ever kept.
"""

from __future__ import annotations

import asyncio
import re

from aiohttp import ClientOSError, ClientPayloadError, ServerDisconnectedError
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage
from aiohttp.streams import StreamReader

KEPT_BODY_BYTES = 16 * 1024
ANSWER_BUDGET_BYTES = 256 * 1024
MAX_HEADS = 32
"""Interim answers and empty lines, the final head included. A budget full of them would hold the loop for 50 ms."""
LIFE_SECONDS = 300.0
"""A connection stays with the address it was judged for; a receiver that moves is followed after so long at most."""

_HEAD_END = re.compile(rb"\n\r?\n")
"""With bare line feeds too: the parser takes them, so a flood of them has to count."""


class AnswerTooLarge(ClientPayloadError):
    """More raw bytes than the budget, and still no whole answer."""


class StaleConnection(ServerDisconnectedError):
    """A pooled connection died before a byte of this answer came: most likely the receiver had closed it before."""


class ProxyDropped(ServerDisconnectedError):
    """The operator's proxy closed the connection before a tunnel stood."""


class ReceiverConnection(ResponseHandler):
    def __init__(self, loop: asyncio.AbstractEventLoop, *, proxied: bool) -> None:
        super().__init__(loop)
        self._proxied = proxied
        self._requests = 0
        self._received_bytes = 0
        self._heads = 0
        self._final_answers = 0
        self._expires_at = loop.time() + LIFE_SECONDS

    @property
    def should_close(self) -> bool:
        """Asked when an answer has ended: whether another request may follow it."""
        return super().should_close or self._loop.time() > self._expires_at

    def begin(self) -> None:
        """A request is about to be written: what comes from now on is its answer."""
        self._requests += 1
        self._received_bytes = 0
        self._heads = 0
        self._final_answers = 0

    def start_timeout(self) -> None:
        """Silence is measured from the first byte on; until then the receiver has the whole timeout to think."""

    def close(self) -> None:
        """Never linger: a receiver that ignores TLS's goodbye would hold the socket for half a minute."""
        self.abort()

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002 - aiohttp's signature
        """Asked for after every read, and costly; only a reader that was paused has anything to resume."""
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
            # A head by itself: where the parser stumbles over what comes behind it, the status is lost otherwise.
            super().data_received(data[start : (start := end.end())])
        if start < len(data) or not data:  # nothing at all is how a parser that was paused is resumed
            self._body_received(data[start:])
        if self._received_bytes > ANSWER_BUDGET_BYTES:
            self._judge_size()

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        if 100 <= data[0].code < 200 and data[0].code != 101:
            return  # interim: nobody waits for it, and a flood of them would wake the reader for each
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
            payload.set_exception(failed)  # aiohttp tells only who still waits for a head

    def _abandon(self) -> None:
        """Nobody asked for this. Kept, it would be taken for the answer to the next request on this connection."""
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
        self._payload = None  # or losing the connection would replace the reason
        self.transport.abort()
