"""Ticks: numbered cuts through the domain events, each with the position of the route log at that moment.

Any process may make the next tick. It does so in a transaction of its own, under the lock that lifecycle
appends take (`hookledger.make_tick` in schema.sql). A tick is authoritative: live decisions and any later recomputation
read the same row.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from eventstore.postgres.connect import Database

_COLUMNS = "tick, snap::text, at, route_pos, closed_upto"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """`snap` is the snapshot in PostgreSQL's text form, `xmin:xmax:xip,…`. Tick 0, which has no row, precedes all
    others and has an empty snapshot. `route_pos` is the last position of the route log at the tick. Every later
    lifecycle event takes effect after `closed_upto`.
    """

    tick: int
    snap: str
    at: datetime
    route_pos: int
    closed_upto: datetime


# Where an event stands in the order in which events are read: tick and seq.
LogPosition = tuple[int, int]


class Poll(NamedTuple):
    """`made` is the number of the tick that this call made, None if there was nothing new; `newest` is the newest tick
    and `route_pos` the last position of the route log, 0 if there is none.
    """

    made: int | None
    newest: int
    route_pos: int


EMPTY_SNAP = "1:1:"


async def make(database: Database) -> int | None:
    """Makes the next tick if events were committed since the last one. Returns its number, else None."""
    async with database.connection() as connection:
        number: int | None = await connection.fetchval("SELECT hookledger.make_tick()")
    return number


async def poll(database: Database) -> Poll:
    """Makes the next tick as `make` does, and returns the positions of both logs, in one round trip."""
    async with database.connection() as connection:
        (row,) = await connection.fetch("SELECT made, newest, route_pos FROM hookledger.poll()")
    return Poll(row["made"], row["newest"], row["route_pos"])


async def after(database: Database, tick: int, *, limit: int = 200) -> list[Tick]:
    """The ticks after number `tick`, in order."""
    async with database.connection() as connection:
        rows = await connection.fetch(
            f"SELECT {_COLUMNS} FROM hookledger.tick WHERE tick > $1 ORDER BY tick LIMIT $2", tick, limit
        )
    return [Tick(**row) for row in rows]


async def snap_of(database: Database, tick: int) -> str:
    """The snapshot of one tick; the empty one for tick 0."""
    if tick == 0:
        return EMPTY_SNAP
    async with database.connection() as connection:
        return str(await connection.fetchval("SELECT snap::text FROM hookledger.tick WHERE tick = $1", tick))


async def route_pos(database: Database, tick: int) -> int:
    """The last position of the route log at a tick; 0 for a tick that is no longer kept."""
    async with database.connection() as connection:
        return await connection.fetchval("SELECT route_pos FROM hookledger.tick WHERE tick = $1", tick) or 0


_UNREAD = """
SELECT coalesce(t.tick, 0)
  FROM (SELECT) nothing LEFT JOIN LATERAL (
       SELECT tick, snap FROM hookledger.tick ORDER BY tick DESC LIMIT 1) t ON true
 WHERE hookledger.has_news(coalesce(t.snap, '1:1:'::pg_snapshot))
"""


async def unread(database: Database) -> int | None:
    """The number of the newest tick, 0 if there is none, if events were committed that it does not show; else None.

    It takes no lock, so it tells that ticks are held up.
    """
    async with database.connection() as connection:
        number: int | None = await connection.fetchval(_UNREAD)
    return number


async def newest(database: Database) -> int:
    """The number of the newest tick, 0 if there is none."""
    async with database.connection() as connection:
        return int(await connection.fetchval("SELECT coalesce(max(tick), 0) FROM hookledger.tick"))
