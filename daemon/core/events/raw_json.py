"""JSON taken apart without touching a byte of its values.

What a producer published is what a receiver gets: 1.10 stays 1.10, a 30-digit number keeps its digits, key order and
duplicate keys survive. So values are never parsed and written again; they are cut out of the text where they stand. The
C scanner of the standard library finds where a value ends. The text must be known to be valid JSON (orjson checks it at
the door); this module only splits it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from json import JSONDecoder

# Numbers stay text: making an int of very many digits is slow, and beyond 4,300 an error.
_scan = JSONDecoder(parse_int=str, parse_float=str).raw_decode

_BLANKS = r"[ \t\n\r]*"
_opened_object = re.compile(rf"{_BLANKS}\{{{_BLANKS}").match
_opened_array = re.compile(rf"{_BLANKS}\[{_BLANKS}").match
_colon = re.compile(f"{_BLANKS}:{_BLANKS}").match
_comma = re.compile(f"{_BLANKS},?{_BLANKS}").match


def members(text: str) -> list[tuple[str, str]]:
    """The members of an object: (key, raw text of the value), in order, duplicates included.

    Raises ValueError for anything but an object, and RecursionError for nesting that is too deep to follow.
    """
    opened = _opened_object(text)
    if opened is None:
        raise ValueError("not a JSON object")
    place = opened.end()
    found: list[tuple[str, str]] = []
    while text[place] != "}":
        key, place = _scan(text, place)
        start = _behind(_colon, text, place)
        _, end = _scan(text, start)
        found.append((key, text[start:end]))
        place = _behind(_comma, text, end)
    return found


def elements(text: str) -> list[str]:
    """The raw texts of an array's elements. Raises ValueError for anything but an array."""
    opened = _opened_array(text)
    if opened is None:
        raise ValueError("not a JSON array")
    place = opened.end()
    found: list[str] = []
    while text[place] != "]":
        _, end = _scan(text, place)
        found.append(text[place:end])
        place = _behind(_comma, text, end)
    return found


def _behind(pattern: Callable[[str, int], re.Match[str] | None], text: str, place: int) -> int:
    """Where `pattern` ends. In valid JSON it always begins at `place`."""
    match = pattern(text, place)
    return place if match is None else match.end()
