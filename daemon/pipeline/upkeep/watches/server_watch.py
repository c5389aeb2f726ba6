"""Watches what an administrator or a failover does to the server and that no statement tells: all goes on, and yet what
is acknowledged is lost, or nothing can be published.

    another server was promoted             this process leaves the former primary (eventstore/postgres/servers/dialing)
    the partition of a day was detached     nothing can be published on that day, and what it has is passed over
    a setting by which a crash loses data   a daemon does not start by it; with `needs_durability` it is told here

The last two make the daemon unready: `faults`. The log names what to do.
"""

from __future__ import annotations

import asyncio

import structlog

from daemon.pipeline.tunables import DEFAULTS, Tunables
from eventstore.postgres import schema
from eventstore.postgres.connect import Database, check_durability
from eventstore.postgres.errors import UnsafeServer
from eventstore.postgres.schema import DetachedPartition

log = structlog.get_logger()


class ServerWatch:
    """`run_once` waits, then looks."""

    def __init__(self, database: Database, tunables: Tunables = DEFAULTS, *, needs_durability: bool) -> None:
        self._database = database
        self._pause_seconds = tunables.server_look_seconds
        self._needs_durability = needs_durability
        self._detached: DetachedPartition | None = None
        self._unsafe: UnsafeServer | None = None

    @property
    def faults(self) -> list[str]:
        """In sentences without a full stop, for anybody who asks."""
        found = [] if self._unsafe is None else [str(self._unsafe)]
        if self._detached is not None:
            found.append("a partition of these days was detached: partition.detached in the log says which")
        return found

    async def run_once(self) -> None:
        await asyncio.sleep(self._pause_seconds)
        await self._database.look_for_promoted()
        before, self._detached = self._detached, await schema.detached_partition(self._database)
        if self._detached is not None and self._detached != before:
            log.error("partition.detached", cause=self._detached.cause, hint=self._detached.hint)
        if self._needs_durability:
            await self._look_at_durability()

    async def _look_at_durability(self) -> None:
        unsafe: UnsafeServer | None = None
        try:
            await check_durability(self._database)
        except UnsafeServer as error:
            unsafe = error
        if unsafe is not None and self._unsafe is None:
            log.error("database.unsafe", cause=str(unsafe), hint=unsafe.hint)
        self._unsafe = unsafe
