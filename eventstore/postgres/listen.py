"""Notifications from PostgreSQL. They hurry, polling guarantees: whoever waits for one must be right without it too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import asyncpg

from eventstore.postgres.connect import DEADLINE_SECONDS, DRIVER_ERRORS, SERVER_SETTINGS, translated

ROUTE = "hookledger_route"
TICK = "hookledger_tick"
LEASE = "hookledger_lease"
RETRY = "hookledger_retry"

_PROBE_SECONDS = 5.0


async def listen(url: str, channels: Sequence[str], ring: Callable[[str], None]) -> None:
    """Calls `ring(channel)` on each notification, and once per channel after connecting; returns never.

    Raises StoreUnavailable when the connection is lost or a probe on it goes unanswered. Ringing after connecting
    makes up for what was missed in between.
    """
    connection: asyncpg.Connection | None = None
    closed = asyncio.Event()
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            connection = await asyncpg.connect(url, server_settings=SERVER_SETTINGS, timeout=DEADLINE_SECONDS)
            connection.add_termination_listener(lambda _connection: closed.set())
            for channel in channels:
                await connection.add_listener(channel, lambda _connection, _pid, name, _payload: ring(name))
        for channel in channels:
            ring(channel)
        while not closed.is_set():
            try:
                async with asyncio.timeout(_PROBE_SECONDS):
                    await closed.wait()
            except TimeoutError:
                async with asyncio.timeout(DEADLINE_SECONDS):
                    await connection.execute("SELECT 1")
        raise ConnectionResetError("the listening connection was closed")
    except DRIVER_ERRORS as error:
        raise translated(error, url) from error
    finally:
        if connection is not None:
            connection.terminate()
