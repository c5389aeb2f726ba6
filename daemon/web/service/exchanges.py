"""What is shown of a request and its answer: secrets masked, bodies as text where they are text."""

from __future__ import annotations

import codecs
from dataclasses import dataclass

import orjson

from daemon.core.delivery.answer import Outcome
from daemon.deliveries import SentRequest
from daemon.pipeline.sending.outcome import KEPT_FAILURE_BYTES, KEPT_SUCCESS_BYTES
from daemon.web.http.shapes import MASK
from eventstore.queries.attempts import RecordedExchange


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAnswer:
    """What was kept of an answer; `text` is None if the body is no text. Its end may be missing if `is_truncated`."""

    head: list[tuple[str, str]]
    body: bytes
    text: str | None
    is_truncated: bool


def shown_headers(sent: SentRequest) -> dict[str, str]:
    """The headers of a request; the values of the route's own are nobody's to see."""
    return {name: MASK if name in sent.secret_headers else value for name, value in sent.request.headers.items()}


def kept_answer(exchange: RecordedExchange) -> KeptAnswer | None:
    """None if there was no answer."""
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
    """A body as text, but for a character that the end cut in two; None if it is none."""
    try:
        return codecs.getincrementaldecoder("utf-8")().decode(body)
    except UnicodeDecodeError:
        return None
