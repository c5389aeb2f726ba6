"""Moments as people type them into a field, in UTC."""

from __future__ import annotations

from datetime import UTC, datetime

from daemon.core.event import instant


def typed(text: str) -> datetime | None:
    """The moment; None for an empty field. A browser's field gives no zone, and our links give one.

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
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError) as error:  # the latter: a time of the year 1 or 9999 may have none in UTC
        raise ValueError("must be a date and a time in UTC, like 2026-11-24 08:30") from error


def field_value(text: str) -> str:
    """The same for the field that it is typed into; what is no moment is left as it is."""
    try:
        at = typed(text)
    except ValueError:
        return text
    return "" if at is None else at.replace(tzinfo=None).isoformat(timespec="seconds")
