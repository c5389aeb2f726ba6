"""One connection to a receiver, as bytes arrive: how much may come, when it is stale, what was not asked for.

aiohttp reads and parses; this subclass of its connection adds what a hostile receiver makes necessary. The one thing to
know: the budget counts raw bytes of one answer - interim responses, header lines and chunk extensions included, which
no limit of the parser covers - and an answer counts as whole once as much of its body is there as is ever kept.
"""

from __future__ import annotations

import asyncio

from aiohttp import ClientOSError, ClientPayloadError, ServerDisconnectedError
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage
from aiohttp.streams import StreamReader

KEPT_BODY_BYTES = 16 * 1024
ANSWER_BUDGET_BYTES = 256 * 1024


class AnswerTooLarge(ClientPayloadError):
    """More raw bytes than the budget, and still no whole answer."""


class StaleConnection(ServerDisconnectedError):
    """A pooled connection died before a byte of this answer came: most likely the receiver had closed it before."""


class ProxyDropped(ServerDisconnectedError):
    """The operator's proxy closed the connection before a tunnel stood."""


class Wire(ResponseHandler):
    def __init__(self, loop: asyncio.AbstractEventLoop, *, proxied: bool) -> None:
        super().__init__(loop)
        self._proxied = proxied
        self._requests = 0
        self._received_bytes = 0
        self._final_answers = 0

    def begin(self) -> None:
        """A request is about to be written: what comes from now on is its answer."""
        self._requests += 1
        self._received_bytes = 0
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
        super().data_received(data)
        if self._received_bytes > ANSWER_BUDGET_BYTES:
            self._judge_size()

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        if 100 <= data[0].code < 200 and data[0].code != 101:
            return  # interim: nobody waits for it, and a flood of them would wake the reader for each
        self._final_answers += 1
        if self._final_answers > 1 and self.transport is not None:
            # Nobody asked. Kept, it would be taken for the answer to the next request on this connection.
            self.transport.abort()
            return
        super().feed_data(data, size)

    def set_exception(self, exc: BaseException, exc_cause: BaseException | None = None) -> None:
        if isinstance(exc, ServerDisconnectedError | ClientOSError):
            if self._requests == 0 and self._proxied:
                exc = ProxyDropped()
            elif self._requests > 1 and self._received_bytes == 0:
                exc = StaleConnection()
        super().set_exception(exc, exc if exc_cause is None else exc_cause)

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
