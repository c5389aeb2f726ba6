"""Bytes that a receiver may send, for property tests: legal answers, and what garbage makes of them."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from daemon.core.delivery.answer import Response
from daemon.pipeline.http_client.answer_reader import KEPT_BODY_BYTES

Segments = list[bytes]

_NAMES = st.text("abcXYZ0123456789-_", min_size=1, max_size=12).map(lambda name: f"X-{name}")
_VALUES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=30)
_BODIES = st.binary(max_size=60) | st.integers(KEPT_BODY_BYTES - 2, KEPT_BODY_BYTES + 2).map(lambda size: b"x" * size)
# What parsers stumble over: parts of messages, sizes that cannot be, ends of lines.
_SHARDS = st.sampled_from(
    [
        b"\r\n", b"\n", b"\r", b"\r\n\r\n", b"HTTP/1.1 ", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: a\r\nConnection: upgrade\r\n\r\n", b"Content-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"FFFFFFFFFFFFFFFF\r\n", b"5;a=b\r\n", b"Connection: close\r\n",
        b"X-A: b\r\n", b" folded\r\n", b"\0", b"\xff", b":", b"HTTP/1.0 200\r\n", b"a" * 300,
    ]
)  # fmt: skip


# At most six places to cut a text at, two bytes for each.
_PLACES = st.integers(0, 6).flatmap(lambda cuts: st.binary(min_size=2 * cuts, max_size=2 * cuts))


@dataclass(frozen=True, slots=True, kw_only=True)
class LegalAnswer:
    """The bytes of an answer, and what it says. `ends` is True if its end is that of the connection."""

    text: bytes
    response: Response
    is_kept_open: bool
    ends: bool


@st.composite
def legal_answers(draw: st.DrawFn) -> LegalAnswer:
    line_end = draw(st.sampled_from(["\r\n", "\r\n", "\n"]))
    status = draw(st.integers(200, 599))
    headers = draw(st.lists(st.tuples(_NAMES, _VALUES), max_size=6))
    body = draw(_BODIES) if status not in (204, 304) else b""
    form = draw(st.sampled_from(["length", "chunks", "close"])) if status not in (204, 304) else "none"
    closes = draw(st.booleans())
    framing = {
        "length": [("Content-Length", str(len(body)))],
        "chunks": [("Transfer-Encoding", "chunked")],
        "close": [],
        "none": [],
    }[form]
    said = [*headers, *framing, *([("Connection", "close")] if closes else [])]
    interim = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * draw(st.integers(0, 3))
    head = line_end.join([f"HTTP/1.1 {status} So be it", *(f"{name}: {value}" for name, value in said), "", ""])
    text = interim + head.encode("latin-1") + (_in_chunks(draw, body) if form == "chunks" else body)
    kept = body[:KEPT_BODY_BYTES]
    is_whole = form != "close" and (len(body) < KEPT_BODY_BYTES or (form == "length" and len(body) == KEPT_BODY_BYTES))
    return LegalAnswer(
        text=text,
        response=Response(status=status, headers=tuple(said), body=kept),
        is_kept_open=is_whole and not closes,
        ends=form == "close" and len(body) < KEPT_BODY_BYTES,
    )


@st.composite
def cut(draw: st.DrawFn, texts: st.SearchStrategy[bytes]) -> Segments:
    """A text, in segments."""
    text = draw(texts)
    places = draw(_PLACES)  # two draws, where a list of integers takes up to thirteen
    cuts = sorted(int.from_bytes(places[at : at + 2]) % (len(text) + 1) for at in range(0, len(places), 2))
    return [part for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True) if (part := text[start:end])]


@st.composite
def _broken(draw: st.DrawFn) -> bytes:
    """A legal answer with some bytes taken out and others put in."""
    text = draw(legal_answers()).text
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, min(len(text), 400)))
        end = min(len(text), start + draw(st.integers(0, 5)))
        text = text[:start] + draw(_SHARDS | st.binary(max_size=4)) + text[end:]
    return text


garbage = st.binary(max_size=80) | st.lists(_SHARDS, max_size=12).map(b"".join) | _broken()
anything = garbage | legal_answers().map(lambda answer: answer.text)


def _in_chunks(draw: st.DrawFn, body: bytes) -> bytes:
    size = draw(st.integers(1, 7000))
    extension = draw(st.sampled_from([b"", b";a=b", b" "]))
    starts = range(0, len(body), size)
    chunks = [body[start : start + size] for start in starts] if len(starts) <= 200 else [body]
    trailer = draw(st.sampled_from([b"", b"X-Trailer: FFFFFFFFFFFFFFFFFF\r\n", b"FFFFFFFFFFFFFFFFFF: a\r\n"]))
    return (
        b"".join(b"%x%s\r\n%s\r\n" % (len(chunk), extension, chunk) for chunk in chunks) + b"0\r\n" + trailer + b"\r\n"
    )
