"""Splits JSON objects and arrays without changing a byte of their values.

A receiver gets what the producer published: 1.10 stays 1.10, a 30-digit number keeps its digits, and key order and
duplicate keys are preserved. So values are never parsed and written again, but cut out of the text. The C scanner of
the standard library finds where a value ends. The text must be valid JSON, which orjson has checked before.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from json import JSONDecoder

# Numbers stay text: converting many digits to an int is slow, and beyond 4,300 digits an error.
_scan = JSONDecoder(parse_int=str, parse_float=str).raw_decode

_BLANKS = r"[ \t\n\r]*"
_opened_object = re.compile(rf"{_BLANKS}\{{{_BLANKS}").match
_opened_array = re.compile(rf"{_BLANKS}\[{_BLANKS}").match
_colon = re.compile(f"{_BLANKS}:{_BLANKS}").match
_comma = re.compile(f"{_BLANKS},?{_BLANKS}").match


def members(text: str) -> list[tuple[str, str]]:
    """The members of an object: (key, raw text of the value), in order, duplicates included.

    Raises ValueError for anything but an object, and RecursionError for nesting that is too deep.
    """
    opened = _opened_object(text)
    if opened is None:
        raise ValueError("not a JSON object")
    position = opened.end()
    found: list[tuple[str, str]] = []
    while text[position] != "}":
        key, position = _scan(text, position)
        start = _end_of(_colon, text, position)
        _, end = _scan(text, start)
        found.append((key, text[start:end]))
        position = _end_of(_comma, text, end)
    return found


def elements(text: str) -> list[str]:
    """The raw texts of an array's elements. Raises ValueError for anything but an array."""
    opened = _opened_array(text)
    if opened is None:
        raise ValueError("not a JSON array")
    position = opened.end()
    found: list[str] = []
    while text[position] != "]":
        _, end = _scan(text, position)
        found.append(text[position:end])
        position = _end_of(_comma, text, end)
    return found


def _end_of(pattern: Callable[[str, int], re.Match[str] | None], text: str, position: int) -> int:
    """The end of `pattern` at `position`. In valid JSON it always matches there."""
    match = pattern(text, position)
    return position if match is None else match.end()
