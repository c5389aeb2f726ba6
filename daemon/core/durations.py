"""Durations as people write them, `30d`, `1h30m`, and as they read them, `142 ms`, `23 h 59 min`."""

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


def shown(milliseconds: float) -> str:
    """142 ms, 1.2 s."""
    return f"{milliseconds:.0f} ms" if round(milliseconds) < 1000 else f"{milliseconds / 1000:.1f} s"


def span(length: timedelta) -> str:
    """23 h 59 min."""
    minutes, seconds = divmod(max(0, int(length.total_seconds())), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [f"{days} d" if days else "", f"{hours} h" if hours else "", f"{minutes} min" if minutes else ""]
    return " ".join([part for part in parts if part][:2]) or f"{seconds} s"


def age(seconds: float) -> str:
    """How old something is: exactly below a minute, 142 ms, 1.2 s, and then as a span."""
    return shown(seconds * 1000) if seconds < 60 else span(timedelta(seconds=seconds))
