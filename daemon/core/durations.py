"""Durations as people write them: `30d`, `1h30m`."""

from __future__ import annotations

import re
from datetime import timedelta

_PARTS = re.compile(r"([0-9]{1,9})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse(text: str) -> timedelta:
    """The duration, above zero. Raises ValueError with a sentence for the user."""
    parts = _PARTS.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError("must be a number with a unit s, m, h, d or w, such as 5d or 1h30m")
    try:
        total = sum((timedelta(**{_UNITS[unit]: int(number)}) for number, unit in parts), timedelta())
    except OverflowError:
        raise ValueError("is too long") from None
    if not total:
        raise ValueError("must be longer than nothing")
    return total
