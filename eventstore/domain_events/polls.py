"""Polls: one question makes the next tick, brings its events, and tells how far both logs have come.

A publisher can ask it in its own transaction (`publish`): what was published and its tick become
visible together, durable together, by one flush of the disk, in one round trip. So an event that is published alone is
read in the moment in which it is acknowledged.

A poll brings the events of the newest tick to somebody who has read everything up to the tick before. They are few: for
a tick of many events the caller asks page by page (eventstore/domain_events/tail.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import asyncpg

from eventstore.domain_events.events import (
    NewEvent,
    StoredEvent,
    columns_of,
    despite_deadlocks,
    telling_held_ids,
)
from eventstore.domain_events.ticks import LogMark, Tick
from eventstore.postgres.connect import DEADLINE_SECONDS, SERVER_SETTINGS, Database, milliseconds


class ReadUpto(NamedTuple):
    """What somebody has read: all up to a tick, of some shards, given in bits. By default there is nothing to bring."""

    tick: int = -1
    shards: int = 0


NOTHING_READ = ReadUpto()


class Poll(NamedTuple):
    """`made` is the number of the tick that this call made, None if there was nothing new. `newest` is the newest tick,
    None if there is none, and `mark` how to know it again. `route_pos` is the last position of the route log, 0 if
    there is none. `known_snap` and `known_hash` stand where the caller has read; None if nothing stands there.
    `events` are those of the newest tick in the shards of the caller, None if they were not brought. `clock` is the
    database's, and steady time was ahead of it by `ahead_microseconds`. `snapshot` is one whose every event and change
    the poll has found, None if it was not asked for (eventstore/domain_events/glances.py).
    """

    made: int | None
    newest: Tick | None
    mark: LogMark
    route_pos: int
    known_snap: str | None
    known_hash: bytes | None
    events: list[StoredEvent] | None
    clock: datetime
    ahead_microseconds: int
    snapshot: str | None = None


_COLUMNS = """
       made, newest, newest_snap::text, newest_at, newest_route_pos, newest_closed_upto, newest_touched, route_pos,
       timeline, known_snap::text, known_hash, clock_timestamp() AS clock,
       (SELECT ahead_microseconds FROM hookledger.steady_clock) AS ahead,
       seqs, recorded_ats, shards, tenants, ids, types, occurred_ats, datas, contexts, snapshots, backfills,
       test_routes, all_hops
"""
# In the order of the fields of StoredEvent.
_EVENT_COLUMNS = tuple(_COLUMNS.replace(",", " ").split()[-13:])

_POLL = f"SELECT {_COLUMNS}, pg_current_snapshot()::text AS snapshot FROM hookledger.poll($1, $2, $3, $4)"

_USUAL_PATIENCE = SERVER_SETTINGS["lock_timeout"]

# The poll takes its place in the transaction after what is published, since it depends on its result. What is published
# waits for each lock for $14 at most. The rest waits as any statement: the commit of a tick waits for those of others.
_PUBLISH = f"""
SELECT fresh, {_COLUMNS}
  FROM (SELECT set_config('lock_timeout', $14, true) AS patience OFFSET 0) soon
       CROSS JOIN LATERAL (
       SELECT CASE WHEN patience IS NOT NULL
                   THEN hookledger.publish_many($5, $6, $7, $8, $9, $10, $11, $12, $13) END AS fresh OFFSET 0) published
       CROSS JOIN LATERAL (
       SELECT CASE WHEN fresh IS NOT NULL
                   THEN set_config('lock_timeout', '{_USUAL_PATIENCE}', true) END AS usual OFFSET 0) rest
       CROSS JOIN LATERAL
       hookledger.poll($1, $2, $3, $4, CASE WHEN usual IS NOT NULL THEN pg_current_xact_id() END) poll
"""


async def poll(database: Database, *, known_tick: int, known_pos: int, read: ReadUpto = NOTHING_READ) -> Poll:
    """Makes the next tick as `ticks.make` does, and returns it with the positions of both logs, in one round trip."""
    async with database.connection() as connection:
        (row,) = await connection.fetch(_POLL, known_tick, known_pos, *read)
    return _poll(row, snapshot=row["snapshot"])


async def publish(
    database: Database,
    events: Sequence[NewEvent],
    *,
    known_tick: int,
    known_pos: int,
    read: ReadUpto = NOTHING_READ,
    seconds: float = DEADLINE_SECONDS,
    lock_seconds: float | None = None,
) -> tuple[list[bool], Poll]:
    """Stores events durably as `events.publish` does, and makes the tick of them in the same transaction, unless
    somebody holds up the lock that ticks take.
    """
    patience = _USUAL_PATIENCE if lock_seconds is None else milliseconds(lock_seconds)
    arguments = (known_tick, known_pos, *read, *columns_of(events), patience)

    async def once() -> asyncpg.Record:
        async with database.connection(seconds=seconds) as connection:
            with telling_held_ids():
                (row,) = await connection.fetch(_PUBLISH, *arguments)
        return row

    row = await despite_deadlocks(once)
    return row["fresh"], _poll(row)


def _poll(row: asyncpg.Record, *, snapshot: str | None = None) -> Poll:
    mark = LogMark(row["timeline"], row["newest"], row["newest_snap"])
    newest, events = None, None
    if mark.tick:
        newest = Tick(
            tick=mark.tick,
            snap=mark.snap,
            at=row["newest_at"],
            route_pos=row["newest_route_pos"],
            closed_upto=row["newest_closed_upto"],
            touched=row["newest_touched"],
        )
        if row["seqs"] is not None:
            columns = zip(*(row[name] for name in _EVENT_COLUMNS), strict=True)
            events = [StoredEvent(*(*column, newest.tick, newest.closed_upto)) for column in columns]
    return Poll(
        row["made"],
        newest,
        mark,
        row["route_pos"],
        row["known_snap"],
        row["known_hash"],
        events,
        row["clock"],
        row["ahead"],
        snapshot,
    )
