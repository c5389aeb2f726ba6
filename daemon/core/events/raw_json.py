"""Reads JSON that is to be kept as it is, and splits objects and arrays without changing a byte of their values.

A receiver gets what the producer published: 1.10 stays 1.10, a 30-digit number keeps its digits, and key order and
duplicate keys are preserved. So values are never parsed and written again, but cut out of the text. The C scanner of
the standard library finds where a value ends. The text must be valid JSON, which `loads` has checked before.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from itertools import accumulate
from json import JSONDecoder

import orjson


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


# What some programs write before a text. It is no part of JSON.
BYTE_ORDER_MARK = b"\xef\xbb\xbf"

# orjson reads deeper than this, but does not write it, and later stages read an accepted event with less stack left.
MAX_DEPTH = 254

# The levels of a stored text that are read for filters, transforms and snapshots. Deeper than MAX_DEPTH are only events
# that were published through SQL. It is well below what any interpreter's stack has room for: what is too deep must not
# depend on the version of Python, or on who calls, since a decision is recomputed elsewhere.
MAX_STORED_DEPTH = 300

# Numbers stay text: converting many digits to an int is slow, and beyond 4,300 digits an error.
_tolerant = JSONDecoder(parse_int=float, parse_constant=_refuse)
_scan = JSONDecoder(parse_int=str, parse_float=str).raw_decode

_BLANKS = r"[ \t\n\r]*"
_opened_object = re.compile(rf"{_BLANKS}\{{{_BLANKS}").match
_opened_array = re.compile(rf"{_BLANKS}\[{_BLANKS}").match
_colon = re.compile(f"{_BLANKS}:{_BLANKS}").match
_comma = re.compile(f"{_BLANKS},?{_BLANKS}").match
_after_element = re.compile(rf"{_BLANKS}(,{_BLANKS}(?!\])|(?=\]))").match
_all_but_brackets = re.compile(r'"(?:[^"\\]++|\\.)*+"|[^\[\]{}"]++', re.DOTALL)
_end_of_text = re.compile(rf"\]{_BLANKS}\Z").match


def loads(raw: bytes) -> object:
    """The value of JSON in UTF-8. Raises ValueError with a reason for anything else.

    orjson reads it, except for two things that JSON allows and orjson does not: a number beyond the range of a double
    (1E400) and half a character (an escaped surrogate: what JavaScript writes of an emoji that was cut in two).
    """
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        try:
            text = raw.decode()
            check_stored_depth(text)
            value: object = _tolerant.decode(text)
        except UnicodeDecodeError:
            raise ValueError(reason(raw, error)) from None
        except (ValueError, RecursionError):
            raise error from None
        return value


def reason(raw: bytes, error: ValueError) -> str:
    """Why bytes are no JSON, by the error of who has read them: of what is no UTF-8 orjson tells of surrogates."""
    try:
        raw.decode()
    except UnicodeDecodeError:
        return "it is not UTF-8"
    return str(error)


def check_depth(value: object, *, most: int = MAX_DEPTH) -> None:
    """Raises RecursionError for more than so many levels of lists and objects."""
    depth, level = 0, [value]
    while level := [part for part in level if isinstance(part, (list, dict))]:
        depth += 1
        if depth > most:
            raise RecursionError
        level = [part for inner in level for part in (inner.values() if isinstance(inner, dict) else inner)]


def check_stored_depth(text: str) -> None:
    """Raises RecursionError for valid JSON with more than MAX_STORED_DEPTH levels of lists and objects."""
    if text.count("[") + text.count("{") > MAX_STORED_DEPTH:
        steps = (1 if bracket in "[{" else -1 for bracket in _all_but_brackets.sub("", text))
        if max(accumulate(steps), default=0) > MAX_STORED_DEPTH:
            raise RecursionError


def members(text: str) -> list[tuple[str, str]]:
    """The members of an object: (key, raw text of the value), in order, duplicates included.

    Raises ValueError for anything but an object, and RecursionError for nesting that is too deep.
    """
    return [(key, text[start:end]) for key, _, _, start, end in _spans(text)]


def cut(text: str, keys: Collection[str]) -> str:
    """The object with the members of these keys only, in its order. Keys and values stay as they are written."""
    kept = (f"{text[at:to]}:{text[start:end]}" for key, at, to, start, end in _spans(text) if key in keys)
    return f"{{{','.join(kept)}}}"


def _spans(text: str) -> Iterator[tuple[str, int, int, int, int]]:
    """The key of each member, and where the texts of key and value begin and end."""
    opened = _opened_object(text)
    if opened is None:
        raise ValueError("not a JSON object")
    position = opened.end()
    while text[position] != "}":
        key, key_end = _scan(text, position)
        start = _end_of(_colon, text, key_end)
        _, end = _scan(text, start)
        yield key, position, key_end, start, end
        position = _end_of(_comma, text, end)


def elements(text: str) -> list[str]:
    """The raw texts of an array's elements. Raises ValueError for anything but an array."""
    return [*scanned_elements(text)]


def scanned_elements(text: str) -> Iterator[str]:
    """The raw texts of an array's elements, one by one, from a text that nobody has checked: each is JSON, but for NaN
    and Infinity. Raises ValueError where the array is none, and RecursionError for nesting that is too deep.
    """
    opened = _opened_array(text)
    if opened is None:
        raise ValueError("not a JSON array")
    position = opened.end()
    while not text.startswith("]", position):
        _, end = _scan(text, position)
        yield text[position:end]
        after = _after_element(text, end)
        if after is None:
            raise ValueError(f"a comma or ] is missing at character {end}")
        position = after.end()
    if _end_of_text(text, position) is None:
        raise ValueError(f"there is more after the array, at character {position + 1}")


def _end_of(pattern: Callable[[str, int], re.Match[str] | None], text: str, position: int) -> int:
    """The end of `pattern` at `position`. In valid JSON it always matches there."""
    match = pattern(text, position)
    return position if match is None else match.end()
