"""JSON values that keep the text they were published as, so that an expression copies them byte for byte.

A number is compared and added as the decimal that it is, and written as it was published: 19.90 stays 19.90, 1E400
stays 1E400, and an integer keeps all its digits. In a *document*, which a transform reads, strings, lists and objects
know their text as well, with escapes, blanks, key order and repeated keys. A value that an expression makes has no text
and is written compactly.

The one thing to know: `read` and `document` give equal values, but `read` runs in C, and `document` in Python, at a
microsecond for each key and value. So `document` is only for a result that `needs_document`: then the same expression
is evaluated again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from decimal import Decimal, InvalidOperation
from json import JSONDecoder
from json.decoder import scanstring  # type: ignore[attr-defined] # typeshed has only classes
from json.encoder import encode_basestring, encode_basestring_ascii
from typing import Any, TypeAlias

from daemon.core.events import raw_json

# An integer of so many characters is an `int`, written as it was read. All others are decimals.
_SHORT_INTEGER = 18

# Making a document takes as long as reading so many texts of its size, and longer: 3 to 20 ms for 32 KiB.
DOCUMENT_READS = 4

Json: TypeAlias = "bool | int | PublishedNumber | str | list[Json] | dict[str, Json] | None"


class PublishedNumber(Decimal):
    """A number and its text. One that is beyond any exponent compares as infinity or zero, and keeps its text."""

    __slots__ = ("text",)
    text: str

    @classmethod
    def of(cls, text: str) -> PublishedNumber:
        """The number that a JSON text stands for."""
        try:
            number = cls(text)
        except InvalidOperation:
            number = cls(_beyond_exponents(text))
        number.text = text
        return number


class PublishedText(str):
    """A string with a backslash in its text, which is `source`."""

    __slots__ = ("source",)
    source: str


class PublishedList(list["Json"]):
    """A list of a document. Its text is `document[start:end]`."""

    __slots__ = ("document", "end", "start")
    document: str
    start: int
    end: int


class PublishedObject(dict[str, "Json"]):
    """An object of a document. Its text is `document[start:end]`; of a repeated key it has the last value."""

    __slots__ = ("document", "end", "start")
    document: str
    start: int
    end: int


class TooLong(ValueError):
    """A value is longer than allowed."""


def integer(text: str) -> int | PublishedNumber:
    """The value of a JSON number without fraction and exponent."""
    return int(text) if len(text) <= _SHORT_INTEGER and text != "-0" else PublishedNumber.of(text)


def _refuse_constant(name: str) -> Json:
    raise ValueError(f"{name} is no JSON")


_decode = JSONDecoder(parse_float=PublishedNumber.of, parse_constant=_refuse_constant).decode
# Python's own integers have at most 4,300 digits, and are read twice as fast.
_decode_long = JSONDecoder(parse_int=integer, parse_float=PublishedNumber.of, parse_constant=_refuse_constant).decode


def read(text: str) -> Json:
    """The value of a JSON text. Raises ValueError, and RecursionError if it is too deep."""
    raw_json.check_stored_depth(text)
    value: Json
    try:
        value = _decode(text)
    except ValueError:
        value = _decode_long(text)
    return value


# A key with its colon, if there is one, and then a value, or the beginning or end of a list or object.
_TOKENS = re.compile(
    r'[ \t\n\r,]*+(?:"((?:[^"\\]++|\\.)*+)"[ \t\n\r]*+:[ \t\n\r]*+)?'
    r'(?:"([^"\\]*+)"|(-?[0-9]{1,17}+)(?![0-9.eE])|([\]}])|([\[{])|([ntf])[a-z]++|(-?[0-9][0-9.eE+-]*+)|("(?:[^"\\]++|\\.)*+"))',
    re.DOTALL,
)
_PLAIN, _SHORT_INT, _CLOSED, _OPENED, _WORD, _NUMBER, _ESCAPED = range(2, 9)
_WORDS: dict[str, Json] = {"n": None, "t": True, "f": False}


def document(text: str) -> Json:  # noqa: C901, PLR0912 - a call for each token would double what it costs
    """The value of a valid JSON list or object; all its parts know their text. Raises RecursionError if too deep."""
    around: list[tuple[PublishedList | PublishedObject, str]] = []
    inner: PublishedList | PublishedObject = PublishedList()
    value: Json
    for token in _TOKENS.finditer(text):
        kind = token.lastindex
        key: str | None = token[1]
        if key is not None and "\\" in key:
            key = scanstring(key + '"', 0)[0]
        if kind == _PLAIN:
            value = token[2]
        elif kind == _OPENED:
            around.append((inner, key or ""))
            if len(around) > raw_json.MAX_STORED_DEPTH:
                raise RecursionError
            start = token.start(_OPENED)
            inner = PublishedObject() if text[start] == "{" else PublishedList()
            inner.document, inner.start = text, start
            continue
        elif kind == _CLOSED:
            inner.end = token.end()
            value = inner
            inner, key = around.pop()
            if not around:
                return value
        elif kind == _SHORT_INT:
            short = token[3]
            value = int(short) if short != "-0" else PublishedNumber.of(short)
        elif kind == _NUMBER:
            value = PublishedNumber.of(token[_NUMBER])
        elif kind == _WORD:
            value = _WORDS[token[_WORD]]
        else:
            source = token[_ESCAPED]
            value = PublishedText(scanstring(source, 1)[0])
            value.source = source
        if isinstance(inner, PublishedObject):
            inner[key or ""] = value
        else:
            inner.append(value)
    raise ValueError("not a JSON list or object")


# Texts that are not what we would write for their values: \u00e9, \/ and -0.
_has_other_texts = re.compile(r"\\[u/]|[:,\[ \t\n\r]-0(?![0-9.eE])").search


def needs_document(result: Json, values: Json, text: str) -> bool:
    """Whether the result for the values that `read` gave for `text` has parts whose text only a document knows."""
    if _has_other_texts(text):
        return True
    if not isinstance(result, (list, dict)):
        return False
    picked = {id(part) for part in _containers(values)}
    return any(id(part) in picked for part in _containers(result))


def _containers(value: Json) -> Iterator[list[Json] | dict[str, Json]]:
    """The lists and objects in a value, each once."""
    seen: set[int] = set()
    left = [value] if isinstance(value, (list, dict)) else []
    while left:
        container = left.pop()
        if id(container) not in seen:
            seen.add(id(container))
            yield container
            parts = container.values() if isinstance(container, dict) else container
            left += [part for part in parts if isinstance(part, (list, dict))]


def equal(one: Json, other: Json) -> bool:
    """Whether two values are the same in JSON, where true is not 1, within lists and objects too."""
    return one == other and not _mixes(one, other)


def _mixes(one: Json, other: Json) -> bool:
    """Whether two values that Python calls equal have true or false where the other has a number."""
    if one is other:
        return False
    if isinstance(one, list) and isinstance(other, list):
        return any(map(_mixes, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return any(_mixes(part, other[key]) for key, part in one.items())
    return isinstance(one, bool) is not isinstance(other, bool)


def written(value: Json, *, max_characters: int) -> str:
    """A value as JSON; lists and objects of a document are written as they were published.

    Raises TooLong as soon as these alone have more characters: a list of a thousand times the whole document is small
    as long as nobody writes it.
    """
    return _Writer(max_characters).text(value)


def compact(value: Json) -> str:
    """A value as JSON in ASCII without blanks, whatever its text was; numbers are written as they were published."""
    scalar = _COMPACT.get(type(value))
    if scalar is not None:
        return scalar(value)
    if isinstance(value, dict):
        return f"{{{','.join([f'{encode_basestring_ascii(key)}:{compact(part)}' for key, part in value.items()])}}}"
    return f"[{','.join(map(compact, value if isinstance(value, list) else ()))}]"


class _Writer:
    def __init__(self, max_characters: int) -> None:
        self._left = max_characters

    def text(self, value: Json) -> str:
        scalar = _PUBLISHED.get(type(value))
        if scalar is not None:
            return scalar(value)
        if isinstance(value, (PublishedObject, PublishedList)):
            self._left -= value.end - value.start
            if self._left < 0:
                raise TooLong
            return value.document[value.start : value.end]
        if isinstance(value, dict):
            return f"{{{','.join([f'{encode_basestring(key)}:{self.text(part)}' for key, part in value.items()])}}}"
        return f"[{','.join(map(self.text, value if isinstance(value, list) else ()))}]"


_Write: TypeAlias = "Callable[[Any], str]"  # takes the type that it stands for

_COMPACT: dict[type, _Write] = {
    type(None): lambda _: "null",
    bool: lambda value: "true" if value else "false",
    int: int.__repr__,
    PublishedNumber: lambda value: value.text,
    str: encode_basestring_ascii,
    PublishedText: encode_basestring_ascii,
}
_PUBLISHED: dict[type, _Write] = {**_COMPACT, str: encode_basestring, PublishedText: lambda value: value.source}


def _beyond_exponents(text: str) -> str:
    """`-Infinity`, `Infinity` or zero: what a number is nearest to, if Decimal cannot hold its exponent."""
    mantissa, _, exponent = text.lower().partition("e")
    sign = "-" if mantissa.startswith("-") else ""
    return f"{sign}0" if exponent.startswith("-") or not mantissa.strip("-0.") else f"{sign}Infinity"
