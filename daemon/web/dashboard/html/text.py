"""Texts of pages: numbers and moments that were entered, and names, sentences, JSON and long texts to show.

`in_merchants_words` rewords sentences of the layers below: those call a webhook a route, write moments for programs,
and tell these what to do next.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from markupsafe import escape

from daemon.core.events.event import instant, storable

# Positions are bigints: no position has more digits.
MAX_DIGITS = 18
_LAST_SECOND = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)
# Levels of JSON that are indented; deeper ones stay at this indentation.
MAX_INDENT = 40

_ROUTE = re.compile(r"\b([Tt]he|[Tt]his|[Aa]|[Nn]o|[Nn]o such|[Aa]nother) route\b(?!\.[a-z*])")
# A merchant can set no key of the configuration, and need not know that there is one.
_FOR_OPERATORS = re.compile(r",? or ask for egress\.[a-z_]+(?: or egress\.[a-z_]+)*")
_MOMENT = re.compile(r"\b(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{6}) UTC")
_FOR_PROGRAMS = re.compile(r"(: see GET /(v1/|openapi\.json)|, which is empty: load one with hookledger ).*$")
# Who did something, by the name that the logs have for it.
_ACTOR = re.compile(r"(?:(?<=\bby )|^)(admin|dashboard|system|token:[\w-]+)(?=$|[,.;:]| \(| had it sent again)")
# What people wrote stands in quotation marks, and is theirs.
_QUOTED = re.compile(r"(“[^“”]*”)")

_JSON_LEXEME = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+')


@dataclass(frozen=True, slots=True, kw_only=True)
class Excerpt:
    """The beginning of a text, or all of it if `is_whole`."""

    text: str
    is_whole: bool


def whole_number(text: str) -> int | None:
    """The number in a query or a form; None if the text is not a whole number of at most MAX_DIGITS digits."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= MAX_DIGITS else None


def parse_moment(text: str) -> datetime | None:
    """The moment in a field; None for an empty field. A moment without a zone is in UTC: browsers' fields send none.

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
        return storable(at.replace(tzinfo=UTC) if at.tzinfo is None else at)
    except (ValueError, OverflowError) as error:  # OverflowError: a moment in year 1 or 9999 may have none in UTC
        raise ValueError("must be a date and a time in UTC, like 2026-11-24 08:30") from error


def moment_field(text: str, *, is_end: bool = False) -> str:
    """A moment as the value of a browser's field, which has whole seconds: that of an end is not before the moment, so
    that nothing is left out. A text that is not a moment is returned unchanged.
    """
    try:
        at = parse_moment(text)
    except ValueError:
        return text
    if at is None:
        return ""
    if is_end and at.microsecond and at < _LAST_SECOND:
        at += timedelta(seconds=1)
    return at.replace(tzinfo=None).isoformat(timespec="seconds")


def is_moment(text: str) -> bool:
    """True for what a browser's field for a moment can have, which may be nothing."""
    try:
        parse_moment(text)
    except ValueError:
        return False
    return True


def actor(name: str) -> str:
    """The display name of an actor. Merchants may know the dashboard by another name than ours, so ours is none."""
    kind, _, id_ = name.partition(":")
    names = {"admin": "Administrator", "dashboard": "Dashboard", "system": "the system"}
    return f"API token {id_}" if kind == "token" and id_ else names.get(name, name)


def moment_words(at: datetime, *, milliseconds: bool = True) -> str:
    """A moment in UTC as pages write it: 24 Nov 2026, 18:05:12.042 UTC."""
    clock = f"{at:%H:%M:%S}.{at.microsecond // 1000:03}" if milliseconds else f"{at:%H:%M:%S}"
    return f"{at.day} {at:%b %Y}, {clock} UTC"


def in_merchants_words(sentence: str) -> str:
    """A sentence of the layers below in the words that merchants know; what it quotes stays as it is."""
    text = _FOR_PROGRAMS.sub("", sentence)
    return "".join(part if part.startswith("“") else _reworded(part) for part in _QUOTED.split(text))


def pretty_json(text: str, *, max_characters: int) -> str:
    """JSON with one member a line. A text that is not JSON is returned unchanged. A result that is longer than
    `max_characters` is cut off somewhere behind them.

    Values are copied from the text: 1.10 stays 1.10, and keys keep their order.
    """
    if not _is_json(text):
        return text[: max_characters + 1]
    parts: list[str] = []
    length = depth = 0
    before = ""
    for match in _JSON_LEXEME.finditer(text):
        lexeme = match.group()
        depth -= lexeme in "}]"
        part = _separator(before, lexeme, depth) + lexeme
        depth += lexeme in "{["
        parts.append(part)
        length += len(part)
        if length > max_characters:
            break
        before = lexeme
    return "".join(parts)


def excerpt_of(text: str, max_bytes: int) -> Excerpt:
    """The longest beginning that takes at most `max_bytes` in a page, where escaping makes a quote five bytes long."""
    low, high = 0, min(len(text), max_bytes)
    while low < high:
        middle = (low + high + 1) // 2
        if escaped_bytes(text[:middle]) <= max_bytes:
            low = middle
        else:
            high = middle - 1
    return Excerpt(text=text[:low], is_whole=low == len(text))


def json_excerpt(text: str, max_bytes: int) -> Excerpt:
    """The beginning of `pretty_json`, of at most `max_bytes` in a page."""
    return excerpt_of(pretty_json(text, max_characters=max_bytes), max_bytes)


def escaped_bytes(text: str) -> int:
    """How many bytes a text takes in a page."""
    return len(escape(text).encode("utf-8", "replace"))


def _reworded(text: str) -> str:
    text = _ROUTE.sub(r"\1 webhook", text)
    text = _MOMENT.sub(_moment_reworded, text)
    text = _ACTOR.sub(lambda found: actor(found[1]), text)
    return _FOR_OPERATORS.sub("", text)


def _moment_reworded(found: re.Match[str]) -> str:
    try:
        return moment_words(datetime.fromisoformat(found[1]))
    except ValueError:
        return found[0]


def _separator(before: str, lexeme: str, depth: int) -> str:
    """The whitespace between two lexemes of JSON."""
    line = "\n" + "  " * min(depth, MAX_INDENT)
    match before:
        case "{" | "[":
            return "" if lexeme in "}]" else line
        case ",":
            return line
        case ":":
            return " "
        case _:
            return line if lexeme in "}]" else ""


def _is_json(text: str) -> bool:
    try:
        json.loads(text, parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return False
    return True
