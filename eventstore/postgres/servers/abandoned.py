"""Sessions that were given up while the server had not answered, and that it may not be done with.

A commit that waits for a synchronous standby that is away, or for a disk that stands still, waits for as long as that
lasts: no timeout of the server ends it, nor does it notice that its client is gone. Each use that is given up after its
deadline would leave one more such session, until the server has none left for anybody, not for other databases either.
So a pool that has left as many as it may have connections makes no other one until some have ended.

What merely takes long does not count: it ends, and a caller could let it stand in the way of the others.
"""

from __future__ import annotations

import time

import asyncpg

from eventstore.postgres.errors import StoreUnavailable

ASK_SECONDS = 1.0

_ACTIVE = """
SELECT p.pid, a.wait_event = 'SyncRep' OR a.wait_event ILIKE 'wal%' AS is_committing
  FROM unnest($1::integer[]) AS p (pid) CROSS JOIN LATERAL pg_stat_get_activity(p.pid) a
 WHERE a.state = 'active'
"""


class Abandoned:
    """The sessions that one pool has given up; `most` is how many may wait in their commit before `admit` refuses."""

    def __init__(self, most: int, *, where: str) -> None:
        self._most = most
        self._where = where
        self._pids: set[int] = set()
        self._asks_again_at = 0.0
        self._waiting = 0

    def add(self, pid: int) -> None:
        self._pids.add(pid)

    def require_patience(self) -> None:
        """Raises StoreUnavailable if there were too many a moment ago."""
        if time.monotonic() < self._asks_again_at:
            raise self._too_many()

    async def admit(self, connection: asyncpg.Connection) -> None:
        """Asks a new connection about the others. Raises StoreUnavailable if there are too many."""
        if len(self._pids) < self._most:
            return
        rows = await connection.fetch(_ACTIVE, list(self._pids))
        self._pids = {row["pid"] for row in rows}
        self._waiting = sum(bool(row["is_committing"]) for row in rows)
        if self._waiting >= self._most:
            self._asks_again_at = time.monotonic() + ASK_SECONDS
            raise self._too_many()

    def _too_many(self) -> StoreUnavailable:
        return StoreUnavailable(
            f"PostgreSQL at {self._where} has not ended {self._waiting} commits that were given up",
            hint="see whether a standby of synchronous_standby_names is away, and whether the disk of the write-ahead "
            "log stands still",
        )
