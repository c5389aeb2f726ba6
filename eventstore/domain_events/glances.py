"""Glances: has anything been committed since a poll? Neither log is read for the answer, so it costs a tenth of a poll.

A poll tells the snapshot in which it began, and finds all that is visible there. A later snapshot that shows no other
transaction than those that the asker knows to have written nothing of the logs has nothing new. Transactions that were
rolled back count as shown, since nobody tells them apart: then the asker polls for nothing.
"""

from __future__ import annotations

from collections.abc import Container
from datetime import datetime
from typing import NamedTuple

# With more transactions between two snapshots there is something new, for all that anybody cares.
MOST_TRANSACTIONS = 64


class Glance(NamedTuple):
    """`snapshot` is what is visible, in PostgreSQL's text form, on a timeline of the write-ahead log. `clock` is the
    database's, and steady time was ahead of it by `ahead_microseconds`.
    """

    snapshot: str
    timeline: int
    clock: datetime
    ahead_microseconds: int


# Values of a Glance, for the SELECT list of a statement that takes one along.
COLUMNS = """
       pg_current_snapshot()::text AS snapshot, hookledger.timeline() AS timeline, clock_timestamp() AS clock,
       (SELECT ahead_microseconds FROM hookledger.steady_clock) AS ahead_microseconds
"""


def shows_nothing_new(before: str, now: str, *, known: Container[int]) -> bool:
    """True if snapshot `now` shows no transaction that `before`, which was taken earlier, does not, but for `known`."""
    if before == now:
        return True
    first, open_before = _parsed(before)
    end, open_now = _parsed(now)
    if not 0 <= end - first <= MOST_TRANSACTIONS:
        return False
    appeared = (open_before | set(range(first, end))) - open_now
    return all(txid in known for txid in appeared)


def _parsed(snapshot: str) -> tuple[int, set[int]]:
    """The first number that no transaction had yet, and the transactions that were under way."""
    _, xmax, under_way = snapshot.split(":")
    return int(xmax), {int(txid) for txid in under_way.split(",") if txid}
