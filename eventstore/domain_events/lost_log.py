"""What the log lost when a standby that had not received everything was promoted, as the daemons knew it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from eventstore.postgres.connect import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class LostLog:
    """Ticks and positions of the route log that are gone, from `first_…` to `last_…`; none if the last is below the
    first. What was acknowledged between `since`, None for the beginning of the log, and `until` may be gone.
    `timeline` is that of the server that goes on.
    """

    timeline: int
    first_tick: int
    last_tick: int
    first_pos: int
    last_pos: int
    since: datetime | None
    until: datetime

    @property
    def sentence(self) -> str:
        """What is gone, for a person."""
        ticks, routes = self.last_tick - self.first_tick + 1, self.last_pos - self.first_pos + 1
        gone = [f"ticks {self.first_tick} to {self.last_tick}"] if ticks > 0 else []
        gone += [f"changes of routes {self.first_pos} to {self.last_pos}"] if routes > 0 else []
        since = "" if self.since is None else f"between {self.since:%Y-%m-%d %H:%M:%S} and "
        return (
            f"a standby that had not received everything was promoted: {' and '.join(gone)} are gone, and what was "
            f"acknowledged {since or 'until '}{self.until:%Y-%m-%d %H:%M:%S} UTC may be lost with the old primary"
        )


_RECORD = """
INSERT INTO hookledger.lost_log (timeline, first_tick, last_tick, first_pos, last_pos, since, found_by)
VALUES ($1, $2, $3, $4, $5, (SELECT at FROM hookledger.tick WHERE tick < $2 ORDER BY tick DESC LIMIT 1), $6)
ON CONFLICT DO NOTHING
"""

# What processes have found of one loss is one. {which} those to read.
_LOSSES = """
SELECT timeline, first_tick, max(last_tick) AS last_tick, first_pos, max(last_pos) AS last_pos, min(since) AS since,
       min(until) AS until
  FROM hookledger.lost_log {which} GROUP BY timeline, first_tick, first_pos
"""
_ONE = _LOSSES.format(which="WHERE timeline = $1 AND first_tick = $2 AND first_pos = $3")
# $1 null: whenever it was
_READ = f"""
SELECT * FROM ({_LOSSES.format(which="")}) losses
 WHERE $1::interval IS NULL OR until > clock_timestamp() - $1 ORDER BY until
"""


async def record(
    database: Database, *, timeline: int, ticks: tuple[int, int], positions: tuple[int, int], found_by: str
) -> LostLog:
    """Records the first and the last tick, and positions of the route log, that are gone. Returns the loss, with what
    other processes have found of it.
    """
    async with database.connection() as connection:
        await connection.execute(_RECORD, timeline, *ticks, *positions, found_by)
        (row,) = await connection.fetch(_ONE, timeline, ticks[0], positions[0])
    return LostLog(**row)


async def read(database: Database, *, within: timedelta | None = None) -> list[LostLog]:
    """What was lost since the schema was made, or within that time, oldest first."""
    async with database.connection() as connection:
        return [LostLog(**row) for row in await connection.fetch(_READ, within)]
