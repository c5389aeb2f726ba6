"""The rules for a route's custom headers, which a merchant adds to every webhook of the route.

Pure. All problems are reported at once, so that a form needs one round. The one thing to know: the sender checks
only that a header stays on its line. It would send any name (`X Y`, an empty one, a wrong Content-Length), so it must
only get headers that passed here. Values are secrets: a problem never repeats one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

MAX_HEADERS = 20
MAX_VALUE_LENGTH = 4096

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}", re.ASCII)
_VALUE = re.compile(r"[\t\x20-\x7e]*", re.ASCII)
_RESERVED_NAMES = frozenset(
    {
        "host",
        "content-length",
        "content-type",
        "content-encoding",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "cookie",
        "user-agent",
        "accept-encoding",
        "traceparent",
        "tracestate",
        "baggage",
        "ordergroove-signature",
        "metadata",
        "metadata-flavor",
    }
)
_RESERVED_PREFIXES = ("proxy-", "webhook-", "hookledger-", "x-amz", "x-goog", "x-aws-ec2-metadata-token")


class HeaderFault(StrEnum):
    TOO_MANY = "too_many"
    NAME_SYNTAX = "name_syntax"
    NAME_RESERVED = "name_reserved"
    NAME_TWICE = "name_twice"
    VALUE_SYNTAX = "value_syntax"
    VALUE_TOO_LONG = "value_too_long"


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderProblem:
    """`name` is the header as submitted, None if all headers are meant; `message` is shown to the merchant."""

    name: str | None
    fault: HeaderFault
    message: str


def check_headers(headers: Mapping[str, str], *, signing_header: str) -> tuple[HeaderProblem, ...]:
    """All problems of `headers`. `signing_header` is the installation's name of the signature header."""
    problems: list[HeaderProblem] = []
    if len(headers) > MAX_HEADERS:
        problems.append(
            _problem(None, HeaderFault.TOO_MANY, f"{len(headers)} headers; at most {MAX_HEADERS} are allowed")
        )
    seen: set[str] = set()
    for name, value in headers.items():
        lower = name.lower()
        if not _NAME.fullmatch(name):
            problems.append(
                _problem(name, HeaderFault.NAME_SYNTAX, "a name has 1 to 64 letters, digits or !#$%&'*+-.^_`|~")
            )
        elif is_reserved(lower, signing_header=signing_header):
            problems.append(_problem(name, HeaderFault.NAME_RESERVED, "this header is set by us, or reserved"))
        elif lower in seen:
            problems.append(
                _problem(name, HeaderFault.NAME_TWICE, "this header is given twice; upper and lower case are the same")
            )
        seen.add(lower)
        problems.extend(_value_problems(name, value))
    return tuple(problems)


def is_reserved(name: str, *, signing_header: str) -> bool:
    """True if the header `name` is reserved for Hookledger, a proxy or a cloud's metadata service."""
    lower = name.lower()
    return lower in _RESERVED_NAMES or lower == signing_header.lower() or lower.startswith(_RESERVED_PREFIXES)


def _value_problems(name: str, value: str) -> list[HeaderProblem]:
    problems = []
    if len(value) > MAX_VALUE_LENGTH:
        problems.append(
            _problem(name, HeaderFault.VALUE_TOO_LONG, f"the value is longer than {MAX_VALUE_LENGTH:,} characters")
        )
    if not _VALUE.fullmatch(value):
        problems.append(
            _problem(name, HeaderFault.VALUE_SYNTAX, "the value may only have visible ASCII characters, space and tab")
        )
    return problems


def _problem(name: str | None, fault: HeaderFault, message: str) -> HeaderProblem:
    return HeaderProblem(name=name, fault=fault, message=message)
