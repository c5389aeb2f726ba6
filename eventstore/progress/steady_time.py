"""Steady time: the database's clock without its steps. The due times of `retry` are kept in it.

`steady_clock` has one row: by how much steady time is ahead of the clock. When the clock steps, the first process that
notices corrects it, so a wait that was promised takes as long as promised, and no row of `retry` is rewritten. Whatever
compares or sets a due time adds AHEAD to the clock; whatever shows one takes AHEAD away.

Why one row, and not a shift of the due times in each owner's shards: the correction is one compare-and-set, so several
processes that notice the same step correct it once, and a shard that changes hands meanwhile, or that nobody has, needs
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from eventstore.postgres.connect import Database

# An uncorrelated subquery, so that it is evaluated once in a statement, and an index can be searched with it.
AHEAD = "(SELECT ahead_microseconds * interval '1 microsecond' FROM hookledger.steady_clock)"
# For comparisons in an index, and for locks that were waited for.
STATEMENT_TIME = f"(statement_timestamp() + {AHEAD})"
CLOCK_TIME = f"(clock_timestamp() + {AHEAD})"

_READ = """
SELECT clock_timestamp() AS at, ahead_microseconds FROM hookledger.steady_clock
"""

# $1 owner, $2 the value that was read, $3 the new one. A process that was stopped for long takes that for a step of the
# database's clock. Its shards have another owner by then, and so it corrects nothing.
_CORRECT = """
UPDATE hookledger.steady_clock SET ahead_microseconds = $3
 WHERE ahead_microseconds = $2 AND EXISTS (SELECT FROM hookledger.lease WHERE owner = $1)
RETURNING true
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockReading:
    """The database's clock, and by how much steady time was ahead of it."""

    at: datetime
    ahead_microseconds: int

    @property
    def steady(self) -> datetime:
        return self.at + timedelta(microseconds=self.ahead_microseconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class TimedReading:
    """A reading that was asked for and answered at these moments of a monotonic clock, in seconds."""

    reading: ClockReading
    asked_at: float
    answered_at: float


async def read(database: Database) -> ClockReading:
    async with database.connection() as connection:
        (row,) = await connection.fetch(_READ)
    return ClockReading(**row)


async def correct(database: Database, owner: str, *, read: int, microseconds: int) -> bool:
    """Sets by how much steady time is ahead. False if that is not `read` any more, or `owner` holds no shard."""
    async with database.connection() as connection:
        return bool(await connection.fetchval(_CORRECT, owner, read, microseconds))
