"""The W3C trace context of an event (https://www.w3.org/TR/trace-context/).

Pure. What the publisher sent, or what the daemon began, is kept as the first members of the event's `context`, since it
belongs to the event for ever, and no table has a column for it. The one thing to know: `published` takes it away again.
So bodies, filters and everything that is shown have the bytes that were published, whether somebody traces or not.

An attempt belongs to the trace of its event, or, if that has none, to one whose id is the delivery's. Its span's id is
made of delivery and number. So the headers of a request can be made again when it is shown.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

import orjson

HEADER, STATE_HEADER = "traceparent", "tracestate"

MAX_STATE_CHARACTERS = 512

_SAMPLED = 1
_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_STATE = re.compile(r"[ -~\t]*", re.ASCII)
_BEGIN = b'{"hookledger.traceparent":"'
_KEPT = re.compile(
    rb'\{"hookledger\.traceparent":"(00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2})"'
    rb'(?:,"hookledger\.tracestate":("(?:[^"\\]|\\.)*"))?(?:,|(?=\s*\}))'
)


@dataclass(frozen=True, slots=True)
class TraceContext:
    """A span of somebody's trace. `state` is what their systems add, "" for nothing."""

    trace_id: int
    span_id: int
    is_sampled: bool
    state: str = ""

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id:032x}-{self.span_id:016x}-{int(self.is_sampled):02x}"


def parse(traceparent: str, state: str = "") -> TraceContext | None:
    """The context of the two headers, None if the first is not valid: then nobody's trace goes on. A state that is not
    valid is left out.
    """
    found = _TRACEPARENT.fullmatch(traceparent.strip())
    if found is None or (found[1] == "00" and found[5] is not None):
        return None
    trace_id, span_id = int(found[2], 16), int(found[3], 16)
    if not trace_id or not span_id:
        return None
    is_state = len(state) <= MAX_STATE_CHARACTERS and _STATE.fullmatch(state) is not None
    return TraceContext(trace_id, span_id, bool(int(found[4], 16) & _SAMPLED), state.strip() if is_state else "")


def keep(context: bytes | None, trace: TraceContext) -> bytes:
    """An event's context with the trace in front."""
    rest = (context or b"{}")[1:]
    state = b',"hookledger.tracestate":%b' % orjson.dumps(trace.state) if trace.state else b""
    comma = b"" if rest.lstrip().startswith(b"}") else b","
    return b'%b%b"%b%b%b' % (_BEGIN, trace.traceparent.encode(), state, comma, rest)


def published(context: bytes | None) -> bytes | None:
    """An event's context as it was published, None if it was empty. On the hot path."""
    if context is None or not context.startswith(_BEGIN):
        return context
    found = _KEPT.match(context)
    if found is None:
        return context
    return None if context[found.end() :] == b"}" else b"{" + context[found.end() :]


def of(context: bytes | None) -> TraceContext | None:
    """The trace that was kept with an event, None if there was none."""
    if context is None or not context.startswith(_BEGIN):
        return None
    found = _KEPT.match(context)
    return None if found is None else parse(found[1].decode(), "" if found[2] is None else _state(found[2]))


def _state(text: bytes) -> str:
    """The state in a text of JSON. A producer may have written it in SQL, where half a character is JSON: that is no
    state.
    """
    try:
        return str(orjson.loads(text))
    except orjson.JSONDecodeError:
        return ""


def is_sampled(context: bytes | None, *, delivery_id: str, sample_ratio: float) -> bool:
    """Whether the attempts of a delivery are sampled: as the event's trace is, and without one by the delivery's id. On
    the hot path.
    """
    event = of(context)
    return event.is_sampled if event is not None else int(delivery_id[-8:], 16) < sample_ratio * (1 << 32)


def of_attempt(context: bytes | None, *, delivery_id: str, number: int, sample_ratio: float) -> TraceContext:
    """The span of an attempt."""
    event = of(context)
    digest = hashlib.blake2b(f"{delivery_id}.{number}".encode(), digest_size=8).digest()
    span_id = int.from_bytes(digest) or 1
    if event is not None:
        return TraceContext(event.trace_id, span_id, event.is_sampled, event.state)
    is_chosen = is_sampled(context, delivery_id=delivery_id, sample_ratio=sample_ratio)
    return TraceContext(int(delivery_id.replace("-", ""), 16), span_id, is_chosen)


def headers(trace: TraceContext) -> dict[str, str]:
    """The headers that hand a trace on."""
    return {HEADER: trace.traceparent} | ({STATE_HEADER: trace.state} if trace.state else {})
