"""What is hashed of a row, and of a seal.

The entry of a row is a JSON array without blanks: the name of its table, then its columns in a fixed order. Integers
are numbers, UUIDs texts as PostgreSQL writes them, times texts like 2026-11-23T08:00:00.000001Z, without a fraction if
it is 0. Payloads are in it by their SHA-256, in lower-case hex, so that a proof reveals none. Only quotes, backslashes
and control characters are escaped in a text, by the short form if there is one. orjson writes that in a fifth of the
time that joining texts took, and there are two rows for each delivery. An event that was a message of a source has one
column more, which says which.

A seal has its fields as texts, each as `<length in bytes>:<text>`, null as `~`; the first is `seal`. Numbers are
decimal, times are microseconds since 1970. The route log has the same form (eventstore/route_log/chain.py).
eventstore/README.md lists the columns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

import orjson

from daemon.core.sealing.tree import leaf_hash, leaf_hashes

# What a column of a row may hold.
SealedValue = int | str | datetime | UUID | None


class SealedTable(StrEnum):
    """The tables whose rows are leaves."""

    EVENT = "domain_event"
    ATTEMPT = "attempt"
    TICK = "tick"
    KEY = "route_key"
    HEADERS = "route_headers"
    RESEND = "resend"
    REPLAY = "replay"
    REPLAY_END = "replay_end"
    LOSS = "lost_log"
    TOKEN = "api_token"  # noqa: S105 - the name of a table
    TOKEN_END = "api_token_end"  # noqa: S105 - likewise


# The columns of each table in the order in which they are hashed. `tick` of an event is the tick that read it,
# `closed_upto` that tick's. A replay is two leaves: what was asked for, and what became of it once it has ended. So is
# a token: what it is, and when it was revoked.
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
    SealedTable.RESEND: ("id", "at", "route_id", "seq", "actor", "origin", "reason", "request_id", "causation_id"),
    SealedTable.REPLAY: (
        "id",
        "created_at",
        "route_id",
        "tenant",
        "wanted",
        "since",
        "until",
        "sendable_from",
        "actor",
        "origin",
        "reason",
        "request_id",
        "causation_id",
        "total",
    ),
    SealedTable.REPLAY_END: ("id", "created_at", "ended_at", "state", "detail", "scheduled", "withdrawn"),
    SealedTable.LOSS: (
        "timeline",
        "first_tick",
        "last_tick",
        "first_pos",
        "last_pos",
        "since",
        "until",
        "found_by",
    ),
    SealedTable.TOKEN: ("id", "created_at", "kind", "tenant", "name", "hash", "created_by", "expires_at"),
    SealedTable.TOKEN_END: ("id", "revoked_at"),
}

# The last column of an event that was a message of a source: `source/topic/partition/offset`.
MESSAGE = "message"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def columns_of(table: SealedTable, count: int) -> tuple[str, ...]:
    """The columns of a row with so many values. Raises ValueError if there is no such row."""
    columns = COLUMNS[table]
    if table is SealedTable.EVENT and count > len(columns):
        columns = (*columns, MESSAGE)
    if count != len(columns):
        raise ValueError(f"a row of {table} has {len(COLUMNS[table])} columns")
    return columns


def row_entry(table: SealedTable, values: Sequence[SealedValue]) -> bytes:
    """What is hashed of a row. `values` are in the order of `columns_of`; a UUID may be of asyncpg's own class."""
    return orjson.dumps((table.value, *values), default=str, option=orjson.OPT_UTC_Z)


def leaf(table: SealedTable, values: Sequence[SealedValue]) -> bytes:
    """The leaf hash of a row. `values` are in the order of `columns_of`."""
    return leaf_hash(row_entry(table, values))


def leaves(table: SealedTable, rows: Iterable[Sequence[SealedValue]]) -> list[bytes]:
    """The leaf hashes of many rows, as `leaf` makes each, without its three calls for each."""
    name, dumps, options = table.value, orjson.dumps, orjson.OPT_UTC_Z
    return leaf_hashes([dumps((name, *values), default=str, option=options) for values in rows])


def text_of(value: int | str | bytes | datetime | None) -> str | None:
    """A field of a seal as it is hashed."""
    match value:
        case None:
            return None
        case datetime():
            since = value - _EPOCH
            return str((since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds)
        case bytes():
            return value.hex()
        case _:
            return str(value)


def encode(fields: Iterable[str | None]) -> bytes:
    """The fields of a seal in one text that tells them apart."""
    return b"".join([b"~" if text is None else b"%d:%b" % (len(text.encode()), text.encode()) for text in fields])
