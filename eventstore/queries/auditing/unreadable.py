"""Times that the database can hold and we never write: infinity, years before Christ, and those after 9999.

Python has none of them, so reading or comparing one is an error. Nobody looks for them beforehand, which would take a
walk over all rows: a caller that meets such an error asks here where they are.
"""

from __future__ import annotations

from typing import NamedTuple

from eventstore.postgres.connect import Database

_SECONDS = 3600.0

# What reading or comparing one raises.
ERRORS = (TypeError, ValueError, OverflowError)

# For each table what tells a row, and its times.
_TIMES = {
    "route_event": (("pos",), ("effective_at",)),
    "tick": (("tick",), ("at", "closed_upto")),
    "domain_event": (("seq",), ("recorded_at", "occurred_at")),
    "attempt": (("route_id", "seq", "number"), ("at", "event_time", "started_at")),
    "retry": (("route_id", "seq"), ("recorded_at", "event_time", "due_at")),
    "parked": (("route_id", "epoch", "flush"), ("event_times", "recorded_ats")),
    "resend": (("id",), ("at",)),
    "replay": (("id",), ("sendable_from", "created_at", "since", "until", "ended_at")),
    "api_token": (("id",), ("created_at", "expires_at", "revoked_at")),
    "lost_log": (("timeline", "first_tick", "first_pos"), ("since", "until")),
    "route_key": (("route_id", "key_id"), ("created_at",)),
    "route_headers": (("route_id", "headers_id"), ("created_at",)),
    "seal": (("n",), ("at", "events_kept_from", "attempts_kept_from", "event_days", "attempt_days")),
}
_ARRAYS = ("event_times", "recorded_ats", "event_days", "attempt_days")


def _statement(table: str, keys: tuple[str, ...], column: str) -> str:
    key = " || ', ' || ".join(f"'{name} ' || {name}" for name in keys)
    value = f"(SELECT t FROM unnest({column}) t WHERE {_wrong('t')} LIMIT 1)" if column in _ARRAYS else column
    return (
        f"(SELECT '{table}' AS table, {key} AS key, '{column}' AS column, {value}::text AS value "
        f"FROM hookledger.{table} WHERE {_wrong(value)} LIMIT 20)"
    )


def _wrong(value: str) -> str:
    return f"NOT ({value} >= '1970-01-01' AND {value} < '9999-01-01')"


_STATEMENT = "\nUNION ALL\n".join(
    _statement(table, keys, column) for table, (keys, columns) in _TIMES.items() for column in columns
)


class UnreadableTime(NamedTuple):
    """Where such a time stands: table, row and column."""

    table: str
    key: str
    column: str
    value: str

    @property
    def detail(self) -> str:
        return f"{self.column} is {self.value}, which is no time that we write"


async def times(database: Database) -> list[UnreadableTime]:
    """The first such times of each column."""
    async with database.connection(seconds=_SECONDS) as connection:
        await connection.execute("SET statement_timeout = 0")
        try:
            rows = await connection.fetch(_STATEMENT)
        finally:
            await connection.execute("RESET statement_timeout")
    return [UnreadableTime(*row) for row in rows]
