"""Idempotency keys, called request ids in the tables. Each belongs to one command: a lifecycle command, a manual retry
or a replay.

A constraint keeps the ids of each table unique. No constraint covers several tables: two different commands that use
one id at the same moment are both carried out.
"""

from __future__ import annotations

from enum import StrEnum

from eventstore.postgres.connect import Database


class UsedKey(StrEnum):
    """The tables that store request ids."""

    LOG = "route_event"
    RETRIES = "resend"
    REPLAYS = "replay"


def _is_used(tables: set[UsedKey]) -> str:
    conditions = [f"EXISTS (SELECT FROM hookledger.{table} WHERE request_id = $1)" for table in sorted(tables)]
    return f"SELECT {' OR '.join(conditions)}"


_IS_USED = {None: _is_used({*UsedKey})} | {table: _is_used({*UsedKey} - {table}) for table in UsedKey}


async def is_used(database: Database, request_id: str, *, besides: UsedKey | None = None) -> bool:
    """True if a command in any table other than `besides` has this request id."""
    async with database.connection() as connection:
        used: bool = await connection.fetchval(_IS_USED[besides], request_id)
    return used
