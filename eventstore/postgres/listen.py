"""Notifications from PostgreSQL. They reduce delay; polling guarantees progress. A loop that waits for a notification
must be correct without it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import asyncpg

from eventstore.postgres.connect import DEADLINE_SECONDS, DIAL_SECONDS, DRIVER_ERRORS, SERVER_SETTINGS, translated
from eventstore.postgres.database_url import location
from eventstore.postgres.dialing import Dialer

ROUTE = "hookledger_route"  # a lifecycle event was committed
TICK = "hookledger_tick"  # a tick was made
LEASE = "hookledger_lease"  # a process joined or left, or released shards
RETRY = "hookledger_retry"  # a delivery was made due by hand, or a replay began or was cancelled

_PROBE_SECONDS = 5.0


async def listen(url: str, channels: Sequence[str], on_notification: Callable[[str], None]) -> None:
    """Calls `on_notification(channel)` for each notification, and once for each channel after connecting. Never
    returns.

    Raises StoreUnavailable when the connection is lost or a probe on it gets no answer. The calls after connecting make
    up for notifications that were missed in between.
    """
    dial = Dialer(url, where=location(url), settings=SERVER_SETTINGS, seconds=DIAL_SECONDS)
    connection: asyncpg.Connection | None = None
    closed = asyncio.Event()
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            connection = await dial()
            connection.add_termination_listener(lambda _connection: closed.set())
            for channel in channels:
                await connection.add_listener(channel, lambda _connection, _pid, name, _payload: on_notification(name))
        for channel in channels:
            on_notification(channel)
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
