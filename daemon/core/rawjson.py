"""JSON taken apart without touching a byte of its values.

What a producer published is what a receiver gets: 1.10 stays 1.10, a 30-digit number keeps its digits, key order and
duplicate keys survive. So values are never parsed and written again; they are cut out of the text where they stand. The
C scanner of the standard library finds where a value ends. The text must be known to be valid JSON (orjson checks it at
the door); this module only splits it.
"""

from __future__ import annotations

import re
from json import JSONDecoder

# Numbers stay text: making an int of very many digits is slow, and beyond 4,300 an error.
_scan = JSONDecoder(parse_int=str, parse_float=str).raw_decode
_skip_blank = re.compile(r"[ \t\n\r]*").match


def members(text: str) -> list[tuple[str, str]]:
    """The members of an object: (key, raw text of the value), in order, duplicates included.

    Raises ValueError for anything but an object, and RecursionError for nesting that is too deep to follow.
    """
    place = _blank(text, 0)
    if text[place : place + 1] != "{":
        raise ValueError("not a JSON object")
    place = _blank(text, place + 1)
    found: list[tuple[str, str]] = []
    while text[place] != "}":
        key, place = _scan(text, place)
        start = _blank(text, _blank(text, place) + 1)
        _, end = _scan(text, start)
        found.append((key, text[start:end]))
        place = _blank(text, end)
        if text[place] == ",":
            place = _blank(text, place + 1)
    return found


def elements(text: str) -> list[str]:
    """The raw texts of an array's elements. Raises ValueError for anything but an array."""
    place = _blank(text, 0)
    if text[place : place + 1] != "[":
        raise ValueError("not a JSON array")
    place = _blank(text, place + 1)
    found: list[str] = []
    while text[place] != "]":
        _, end = _scan(text, place)
        found.append(text[place:end])
        place = _blank(text, end)
        if text[place] == ",":
            place = _blank(text, place + 1)
    return found


def _blank(text: str, place: int) -> int:
    """The next place that is no white space."""
    match = _skip_blank(text, place)
    return place if match is None else match.end()
