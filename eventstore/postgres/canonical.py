"""The text of a row that a hash or a MAC covers: each field as `<length in bytes>:<text>`, null as `~`.

The database writes the same (`hookledger.canonical` and `hookledger.microseconds` in schema.sql).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def netstring(field: str | None) -> bytes:
    """A field, with its length in front: no text of two fields is that of two others."""
    if field is None:
        return b"~"
    raw = field.encode()
    return b"%d:%s" % (len(raw), raw)


def microseconds(at: datetime) -> int:
    """Microseconds since 1970, exact. `datetime.timestamp` is a float and is not exact."""
    return (at - EPOCH) // MICROSECOND
