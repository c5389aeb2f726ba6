"""Events that were written long after the day on which they are said to have been recorded.

The database records an event at its own time, and not earlier than the newest tick. A transaction that the snapshot of
a tick shows neither as ended nor as under way began after it. So a day has no event of a transaction that began after a
tick of the day after the next. An event that was written early in a long transaction keeps its time, and that began
before.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from eventstore.postgres.connect import Database
from eventstore.queries.auditing import log_marks

# Clocks are set, but by less than a day.
_CLOCK_STEP = timedelta(days=1)
_SECONDS = 60.0

# $1 and $2 the day, $3 the last tick that may be older than what was written. The ticks of before a restore have no
# snapshot any more, and the events that they have read no transaction.
_EVENT = """
SELECT e.seq, t.at FROM (
       SELECT snap_xmax, at FROM hookledger.tick WHERE tick > $3 AND snap_xmax > '1'::xid8 ORDER BY tick LIMIT 1) t
 CROSS JOIN LATERAL (
       SELECT seq FROM hookledger.domain_event
        WHERE recorded_at >= $1 AND recorded_at < $2 AND txid >= t.snap_xmax ORDER BY txid LIMIT 1) e
"""


class BackdatedEvent(NamedTuple):
    """An event that is said to be of that day, and was written after `written_after`."""

    seq: int
    day: date
    written_after: datetime


async def events(database: Database) -> list[BackdatedEvent]:
    """The first such event of each day."""
    found = []
    for day in await log_marks.days(database, "domain_event", older_than=2 * _CLOCK_STEP):
        begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
        end = begin + timedelta(days=1)
        last = await log_marks.last_tick_before(database, end + _CLOCK_STEP)
        async with database.connection(seconds=_SECONDS) as connection:
            row = await connection.fetchrow(_EVENT, begin, end, last)
        if row is not None:
            found.append(BackdatedEvent(seq=row["seq"], day=day, written_after=row["at"]))
    return found
