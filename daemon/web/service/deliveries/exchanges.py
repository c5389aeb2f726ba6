"""A request and its answer as they are shown: secrets masked, bodies as text if they are text."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

import orjson

from daemon.core.delivery.answer import Outcome
from daemon.deliveries import SentRequest
from daemon.pipeline.sending.outcome import KEPT_FAILURE_BYTES, KEPT_SUCCESS_BYTES
from daemon.web.http.shapes import MASK
from eventstore.queries.deliveries.attempts import RecordedExchange


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAnswer:
    """What was kept of an answer. `text` is None if the body is not text. `is_truncated`: its end may be missing."""

    head: list[tuple[str, str]]
    body: bytes
    text: str | None
    is_truncated: bool


def shown_headers(sent: SentRequest) -> dict[str, str]:
    """The headers of a request. The values of the route's custom headers are masked."""
    return {name: MASK if name in sent.secret_headers else value for name, value in sent.request.headers.items()}


def kept_answer(exchange: RecordedExchange) -> KeptAnswer | None:
    """What was kept of the answer, None if there was no answer."""
    if exchange.response_head is None:
        return None
    body = exchange.response_body or b""
    kept = KEPT_SUCCESS_BYTES if exchange.outcome == Outcome.DELIVERED else KEPT_FAILURE_BYTES
    return KeptAnswer(
        head=orjson.loads(exchange.response_head or "[]"),
        body=body,
        text=_text(body),
        is_truncated=len(body) >= kept,
    )


def _text(body: bytes) -> str | None:
    """A body as text, without a character that the end may have cut in two; None if the body is not UTF-8."""
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(body)
    except UnicodeDecodeError:
        return None
