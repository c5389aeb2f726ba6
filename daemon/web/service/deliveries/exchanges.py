"""A request and its answer as they are shown: secrets masked, bodies as text if they are text."""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

import orjson

from daemon.core.delivery.answer import Outcome
from daemon.deliveries import SentRequest
from daemon.pipeline.sending.outcome import KEPT_FAILURE_BYTES, KEPT_SUCCESS_BYTES
from daemon.web.http.shapes import MASK
from eventstore.queries.deliveries.attempts import RecordedExchange

# Other charsets that answers are written in, as they name them. Python knows more under such names, such as "idna" or
# "unicode_escape", which are no charsets of texts.
_CHARSETS = re.compile(
    r"(iso-8859-\d{1,2}|latin-?1|windows-125\d|koi8-[ru]|macintosh|us-ascii|shift[-_]jis|euc-(jp|kr)|iso-2022-jp"
    r"|gb2312|gbk|gb18030|big5|utf-16(le|be)?)"
)
_CHARSET = re.compile(r';\s*charset\s*=\s*"?([\w.:-]{1,40})"?\s*(?:;|$)', re.IGNORECASE | re.ASCII)
# What browsers read these as: what is sent under their names has quotation marks and dashes of that superset.
_SUPERSETS = dict.fromkeys(("iso-8859-1", "latin1", "latin-1", "us-ascii"), "windows-1252")


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


def declared_text(answer: KeptAnswer) -> tuple[str, str] | None:
    """The body as text by the charset that the answer declares, and the name of that; None if it declares none that we
    know, or is not written in it.
    """
    head = {name.lower(): value for name, value in answer.head}
    declared = _CHARSET.search(head.get("content-type", ""))
    name = "" if declared is None else declared[1].lower()
    if _CHARSETS.fullmatch(name) is None or head.get("content-encoding", "identity").lower() != "identity":
        return None
    try:
        return codecs.getincrementaldecoder(_SUPERSETS.get(name, name))().decode(answer.body), name
    except (LookupError, UnicodeDecodeError):
        return None
