"""Numbers in the query or the form of a page: a position, a version, a place."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from markupsafe import escape

from daemon.core.delivery.failure_text import failing
from daemon.core.events.event import instant

# Positions are bigints: no number of more digits is one.
MAX_DIGITS = 18


def whole_number(text: str) -> int | None:
    """The number; None for what is none, which a page takes as if it was not there."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS else None


# Sentences of the floors below, in a merchant's words: there a webhook is a route, moments have microseconds, and what
# to do next is told to programs.
#

_ROUTE = re.compile(r"\b([Tt]he|[Tt]his|[Aa]|[Nn]o|[Nn]o such|[Aa]nother) route\b(?!\.[a-z*])")
_MICROSECONDS = re.compile(r"(:\d\d\.\d{3})\d{3} UTC")
_FOR_PROGRAMS = re.compile(r"(: see (GET /v1/|the paths of the API)|, which is empty: load one with hookledger ).*$")
# The name of an error, perhaps with a detail: see daemon.core.delivery.answer.error_name. That is short, and looked for
# no further: a text that begins like it at many places would take minutes.
_ERROR = r"(?:[a-z]+_[a-z0-9_]+|timeout)(?:: .{0,1000})?"
_RECORDED = re.compile(rf"failed \((?P<in>{_ERROR})\);|the last error was (?P<last>{_ERROR})\.$", re.DOTALL)


def in_merchants_words(sentence: str) -> str:
    """The sentence as it is shown."""
    text = _ROUTE.sub(r"\1 webhook", sentence)
    text = _MICROSECONDS.sub(r"\1 UTC", text)
    text = _FOR_PROGRAMS.sub("", text)
    return _RECORDED.sub(_named, text)


def _named(found: re.Match[str]) -> str:
    if found["in"]:
        return f"failed ({failing(found['in']).short});"
    return f"the last error was “{failing(found['last']).short}”."


# Moments as people type them into a field, in UTC.


def typed_moment(text: str) -> datetime | None:
    """The moment; None for an empty field. A browser's field gives no zone, and our links give one.

    Raises ValueError with what is wrong.
    """
    text = text.strip()
    if not text:
        return None
    try:
        return instant(text.replace(" ", "+"))
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError) as error:  # the latter: a time of the year 1 or 9999 may have none in UTC
        raise ValueError("must be a date and a time in UTC, like 2026-11-24 08:30") from error


def moment_field(text: str) -> str:
    """The same for the field that it is typed into; what is no moment is left as it is."""
    try:
        at = typed_moment(text)
    except ValueError:
        return text
    return "" if at is None else at.replace(tzinfo=None).isoformat(timespec="seconds")


# JSON laid out for reading, each value as it stands in the text: 1.10 stays 1.10, and keys stay in their order.

MAX_INDENT = 40

_PIECE = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


def laid_out_json(text: str, *, most: int) -> str:
    """The text with a line for each member, after which it ends once it has more characters than `most`. What is not
    JSON comes back as it is.
    """
    if not _is_json(text):
        return text[: most + 1]
    parts: list[str] = []
    length = depth = 0
    before = ""
    for match in _PIECE.finditer(text):
        piece = match.group()
        depth -= piece in "}]"
        part = _behind(before, piece, depth) + piece
        depth += piece in "{["
        parts.append(part)
        length += len(part)
        if length > most:
            break
        before = piece
    return "".join(parts)


def _behind(before: str, piece: str, depth: int) -> str:
    """What stands between two pieces."""
    line = "\n" + "  " * min(depth, MAX_INDENT)
    match before:
        case "{" | "[":
            return "" if piece in "}]" else line
        case ",":
            return line
        case ":":
            return " "
        case _:
            return line if piece in "}]" else ""


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return False
    return True


# The beginnings of long texts, for pages that must not become long themselves.


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """The beginning of a text, or all of it if `is_whole`."""

    text: str
    is_whole: bool


def excerpt_of(text: str, most_bytes: int) -> Excerpt:
    """As much as takes so many bytes in a page: there a quote takes five."""
    low, high = 0, min(len(text), most_bytes)
    while low < high:
        middle = (low + high + 1) // 2
        if escaped_bytes(text[:middle]) <= most_bytes:
            low = middle
        else:
            high = middle - 1
    return Excerpt(text=text[:low], is_whole=low == len(text))


def escaped_bytes(text: str) -> int:
    """How many bytes a text takes in a page."""
    return len(escape(text).encode("utf-8", "replace"))


def json_excerpt(text: str, most_bytes: int) -> Excerpt:
    """The same of JSON, laid out to be read."""
    return excerpt_of(laid_out_json(text, most=most_bytes), most_bytes)
