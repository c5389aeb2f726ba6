"""Instants as PostgreSQL keeps them: aware, UTC, whole microseconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(at: datetime) -> int:
    """Microseconds since 1970, exactly (`datetime.timestamp` is a float and is not)."""
    return (at - _EPOCH) // timedelta(microseconds=1)
