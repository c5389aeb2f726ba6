"""Parsers for option values: times, headers, selections. Pure.

A wrong value raises `click.BadParameter` with an example of a right one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, time
from typing import NamedTuple
from uuid import UUID

import click

from daemon.core.events.event import storable

NONE = "none"

# Positions are bigints.
_POSITION_DIGITS = 18
_SHA256 = re.compile("[0-9a-fA-F]{64}")


def timestamp(text: str) -> datetime:
    """An RFC 3339 time with an offset, or a date, which means its midnight in UTC. Returns it in UTC.

    For `click.option(type=…)`.
    """
    try:
        return storable(datetime.combine(date.fromisoformat(text), time(), tzinfo=UTC))
    except ValueError:
        pass
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is None:
            raise click.BadParameter(f"{text!r} has no offset: append Z for UTC, or yours, like {text}+01:00")
        return storable(at)
    except (ValueError, OverflowError):
        hint = "write it like 2026-11-23T08:00:00Z, or as a date like 2026-11-23"
        raise click.BadParameter(f"{text!r} is no time: {hint}") from None


def listen_address(text: str) -> str:
    """A host and a port. Whether the daemon may listen there, its configuration says. For `click.option(type=…)`."""
    from daemon.config import host_and_port  # here, so that `hookledger --help` stays fast

    try:
        host_and_port(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    return text


class LogHead(NamedTuple):
    """A position of the route log and its hash."""

    position: int
    hash: bytes


def log_head(text: str) -> LogHead:
    """`POS:HASH`, as `rebuild` prints it. For `click.option(type=…)`."""
    position, _, digits = text.partition(":")
    if not (position.isascii() and position.isdigit() and len(position) <= _POSITION_DIGITS and int(position)):
        raise click.BadParameter(f"{text!r} begins with no position: give the head that a rebuild printed, POS:HASH")
    if not _SHA256.fullmatch(digits):
        raise click.BadParameter(f"{text!r} ends with no SHA-256: give the head that a rebuild printed, POS:HASH")
    return LogHead(int(position), bytes.fromhex(digits))


def headers(lines: Iterable[str]) -> dict[str, str]:
    """`Name: value` lines as a mapping. A name may be given once, in any case."""
    parsed: dict[str, str] = {}
    for line in lines:
        name, colon, value = (part.strip() for part in line.partition(":"))
        if not colon or not name:
            raise click.BadParameter(f"{line!r} is no header: write it like 'X-Shop: acme'", param_hint="--header")
        if name.lower() in {known.lower() for known in parsed}:
            raise click.BadParameter(f"{name} is given twice: give each header once", param_hint="--header")
        parsed[name] = value
    return parsed


def snapshot(selections: Iterable[str]) -> tuple[tuple[str, tuple[str, ...] | None], ...] | None:
    """`customer`, `orders:public_id,total` … as in PayloadOptions. None for no selection and for the word `none`."""
    texts = tuple(selections)
    if texts in {(), (NONE,)}:
        return None
    parsed: dict[str, tuple[str, ...] | None] = {}
    for selection in texts:
        entity, colon, field_list = (part.strip() for part in selection.partition(":"))
        fields = tuple(dict.fromkeys(name.strip() for name in field_list.split(",") if name.strip()))
        if not entity or (colon and not fields):
            raise click.BadParameter(
                f"{selection!r} selects nothing: write it like customer, or like orders:public_id,total",
                param_hint="--snapshot",
            )
        if entity in parsed:
            raise click.BadParameter(f"{entity} is given twice: list all of its fields in one", param_hint="--snapshot")
        parsed[entity] = fields if colon else None
    return tuple(sorted(parsed.items()))


def rate(text: str | None) -> float | None:
    """Requests per second. None for None and for the word `none`."""
    if text is None or text.strip().lower() == NONE:
        return None
    try:
        return float(text)
    except ValueError:
        message = f"{text!r} is no rate: give requests per second, like 5 or 0.5, or none"
        raise click.BadParameter(message, param_hint="--rate-limit") from None


def expression(text: str | None) -> str | None:
    """A JMESPath expression, unchecked. None for None and for the word `none`."""
    return None if text is None or text.strip().lower() == NONE else text


def token(text: str) -> str:
    """An API token, without the line end that a file of variables may leave at it. For `click.option(type=…)`.

    No message repeats it.
    """
    found = text.strip()
    if not (found.isascii() and found.isprintable()):
        raise click.BadParameter("it has characters that no token has: copy it again")
    return found


def route_id(text: str) -> UUID:
    """The id of a route. For `click.option(type=…)`."""
    try:
        return UUID(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no route id: see hookledger routes list") from None


def delivery_id(text: str) -> UUID:
    """The id of a delivery, the `webhook-id` of its requests. For `click.option(type=…)`."""
    try:
        return UUID(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no delivery id: see hookledger deliveries list") from None
