"""Ticks: numbered cuts through the domain events, each with the position of the route log at that moment.

Any process may make the next tick: in a transaction of its own, or in that of what it publishes
(eventstore/domain_events/polls.py). Both take the lock that lifecycle appends take (`hookledger.next_tick` in
schema.sql). A tick is authoritative: live decisions and any later recomputation
read the same row.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from eventstore.postgres.connect import Database

# So many ticks are read at once.
PAGE_TICKS = 200

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_COLUMNS = "tick, snap::text, at, route_pos, closed_upto, touched"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """`snap` is the snapshot in PostgreSQL's text form, `xmin:xmax:xip,…`. Tick 0, which has no row, precedes all
    others and has an empty snapshot. `route_pos` is the last position of the route log at the tick. Every later
    lifecycle event takes effect after `closed_upto`. `touched` are the shards of its events, in bits (`bits_of`); None
    if it has many events.
    """

    tick: int
    snap: str
    at: datetime
    route_pos: int
    closed_upto: datetime
    touched: int | None

    def may_touch(self, shards: int) -> bool:
        """False if the tick has no event of these shards, given in bits."""
        return self.touched is None or self.touched & shards != 0


def bits_of(shards: Iterable[int]) -> int:
    """Shards as the bits of a number."""
    bits = 0
    for shard in shards:
        bits |= 1 << shard
    return bits


def notified(payload: str) -> tuple[int, Tick | None]:
    """The number of the tick that a notification tells of, and the tick; None if it was too long to be told."""
    number, *rest = payload.split(" ")
    if not rest:
        return int(number), None
    route_pos, at, closed_upto, snap, *touched = rest
    return int(number), Tick(
        tick=int(number),
        snap=snap,
        at=_time(at),
        route_pos=int(route_pos),
        closed_upto=_time(closed_upto),
        touched=int(touched[0]) if touched else None,
    )


def _time(microseconds: str) -> datetime:
    return _EPOCH + timedelta(microseconds=int(microseconds))


# Where an event stands in the order in which events are read: tick and seq.
LogPosition = tuple[int, int]


EMPTY_SNAP = "1:1:"

TICK_0 = Tick(tick=0, snap=EMPTY_SNAP, at=_EPOCH, route_pos=0, closed_upto=_EPOCH, touched=0)


class LogMark(NamedTuple):
    """What somebody has read of the log: a tick with its snapshot, on a timeline. By it they know the log again after a
    standby was promoted. `timeline` is None for somebody who has read nothing yet.
    """

    timeline: int | None = None
    tick: int = 0
    snap: str = EMPTY_SNAP


class SeenTick(NamedTuple):
    """What tells a tick from all others, on any timeline. A promoted standby gives the numbers of ticks and of
    transactions again, so a tick may look like one that is gone but for its time.
    """

    tick: int
    snap: str
    at: datetime


async def make(database: Database) -> int | None:
    """Makes the next tick if events were committed since the last one. Returns its number, else None."""
    async with database.connection() as connection:
        number: int | None = await connection.fetchval("SELECT hookledger.make_tick()")
    return number


async def after(database: Database, tick: int, *, limit: int = PAGE_TICKS) -> list[Tick]:
    """The ticks after number `tick`, in order."""
    async with database.connection() as connection:
        rows = await connection.fetch(
            f"SELECT {_COLUMNS} FROM hookledger.tick WHERE tick > $1 ORDER BY tick LIMIT $2", tick, limit
        )
    return [Tick(**row) for row in rows]


async def find(database: Database, number: int) -> Tick | None:
    """The tick of that number, None if it is not kept. Tick 0 is always there."""
    if number == 0:
        return TICK_0
    async with database.connection() as connection:
        row = await connection.fetchrow(f"SELECT {_COLUMNS} FROM hookledger.tick WHERE tick = $1", number)
    return None if row is None else Tick(**row)


async def newest_tick(database: Database) -> Tick:
    """The newest tick; tick 0 if there is none."""
    async with database.connection() as connection:
        row = await connection.fetchrow(f"SELECT {_COLUMNS} FROM hookledger.tick ORDER BY tick DESC LIMIT 1")
    return TICK_0 if row is None else Tick(**row)


async def snap_of(database: Database, tick: int) -> str:
    """The snapshot of one tick; the empty one for tick 0."""
    if tick == 0:
        return EMPTY_SNAP
    async with database.connection() as connection:
        return str(await connection.fetchval("SELECT snap::text FROM hookledger.tick WHERE tick = $1", tick))


async def seen_since(database: Database, tick: int) -> set[SeenTick]:
    """The ticks from number `tick` on."""
    async with database.connection() as connection:
        rows = await connection.fetch("SELECT tick, snap::text, at FROM hookledger.tick WHERE tick >= $1", tick)
    return {SeenTick(*row) for row in rows}


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


async def first(database: Database) -> int | None:
    """The number of the first tick that is kept, None if there is none."""
    async with database.connection() as connection:
        number: int | None = await connection.fetchval("SELECT min(tick) FROM hookledger.tick")
    return number
