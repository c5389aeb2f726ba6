"""What is hashed of a row: its columns as texts, in a fixed order, each as `<length in bytes>:<text>`, null as `~`.

The first field is the name of the table. Numbers are decimal, times are microseconds since 1970, truth values `true` or
`false`, UUIDs as PostgreSQL writes them. Payloads are in it by their SHA-256, in lower-case hex, so that a proof
reveals none. The route log has the same form (eventstore/route_log/chain.py). eventstore/README.md lists the columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from types import NoneType
from uuid import UUID

from daemon.core.sealing.tree import leaf_hash

# What a column of a row may hold. Bytes are a digest.
SealedValue = int | str | bytes | datetime | UUID | None


class SealedTable(StrEnum):
    """The tables whose rows are leaves."""

    EVENT = "domain_event"
    ATTEMPT = "attempt"
    TICK = "tick"
    KEY = "route_key"
    HEADERS = "route_headers"


# The columns of each table in the order in which they are hashed. `tick` of an event is the tick that read it,
# `closed_upto` that tick's.
COLUMNS: dict[SealedTable, tuple[str, ...]] = {
    SealedTable.EVENT: (
        "seq",
        "recorded_at",
        "tenant",
        "id",
        "type",
        "occurred_at",
        "data_sha256",
        "context_sha256",
        "snapshot_sha256",
        "backfill",
        "test_route",
        "hops",
        "tick",
        "closed_upto",
    ),
    SealedTable.ATTEMPT: (
        "seq",
        "route_id",
        "number",
        "at",
        "tick",
        "event_time",
        "started_at",
        "shard",
        "status_code",
        "duration_ms",
        "route_version",
        "is_test",
        "outcome",
        "error",
        "tenant",
        "event_id",
        "event_type",
        "key_ids",
        "response_head_sha256",
        "response_body_sha256",
        "delivery_key",
    ),
    SealedTable.TICK: ("tick", "snap", "at", "route_pos", "closed_upto", "touched"),
    SealedTable.KEY: ("route_id", "key_id", "created_at"),
    SealedTable.HEADERS: ("route_id", "headers_id", "created_at"),
}

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _microseconds(at: datetime) -> str:
    since = at - _EPOCH
    return str((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds)


# By the class of a value, which is quicker than asking whether it is an instance: this runs twenty times for a row.
_TEXTS: dict[type, Callable[..., str | None]] = {
    int: str,
    str: str,
    bytes: bytes.hex,
    datetime: _microseconds,
    bool: lambda value: "true" if value else "false",
    NoneType: lambda _: None,
}


def text_of(value: SealedValue) -> str | None:
    """A value as it is hashed."""
    return _TEXTS.get(value.__class__, str)(value)


def encode(fields: Iterable[str | None]) -> bytes:
    """The fields in one text that tells them apart."""
    texts = list(fields)
    joined = "".join(["~" if text is None else f"{len(text)}:{text}" for text in texts])
    raw = joined.encode()
    if len(raw) == len(joined):  # as many bytes as characters, in each field
        return raw
    return b"".join([b"~" if text is None else b"%d:%b" % (len(text.encode()), text.encode()) for text in texts])


def leaf_of_texts(table: SealedTable, texts: Iterable[str | None]) -> bytes:
    """The leaf hash of a row whose columns are given as texts, in the order of COLUMNS."""
    return leaf_hash(encode((table.value, *texts)))


def leaf(table: SealedTable, values: Sequence[SealedValue]) -> bytes:
    """The leaf hash of a row. `values` are in the order of COLUMNS."""
    texts = _TEXTS
    return leaf_of_texts(table, [texts.get(value.__class__, str)(value) for value in values])
