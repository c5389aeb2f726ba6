"""Request ids: each stands for one command, whether it is noted in the route log, by a retry by hand or by a replay.

Each table keeps its own ids apart by a constraint. Between the tables nothing does: two different commands that use one
id at the very same moment are both carried out.
"""

from __future__ import annotations

from enum import StrEnum

from eventstore.postgres.connect import Database


class UsedKey(StrEnum):
    """Where request ids are noted."""

    LOG = "route_event"
    RETRIES = "resend"
    REPLAYS = "replay"


def _is_used(places: set[UsedKey]) -> str:
    looks = [f"EXISTS (SELECT FROM hookledger.{place} WHERE request_id = $1)" for place in sorted(places)]
    return f"SELECT {' OR '.join(looks)}"


_IS_USED = {None: _is_used({*UsedKey})} | {place: _is_used({*UsedKey} - {place}) for place in UsedKey}


async def is_used(database: Database, request_id: str, *, besides: UsedKey | None = None) -> bool:
    """True if the id stands for a command already, one that is noted elsewhere than `besides`."""
    async with database.connection() as connection:
        used: bool = await connection.fetchval(_IS_USED[besides], request_id)
    return used
