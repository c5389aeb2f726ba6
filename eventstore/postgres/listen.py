"""Notifications from PostgreSQL. They reduce delay; polling guarantees progress. A loop that waits for a notification
must be correct without it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Protocol

import asyncpg

from eventstore.postgres.connect import DEADLINE_SECONDS, DIAL_SECONDS, DRIVER_ERRORS, SERVER_SETTINGS, translated
from eventstore.postgres.servers.database_url import location
from eventstore.postgres.servers.dialing import Connection, Dialer, require_primary

ROUTE = "hookledger_route"  # a lifecycle event was committed
TICK = "hookledger_tick"  # a tick was made
LEASE = "hookledger_lease"  # a process joined, left or was found dead, or released shards
RETRY = "hookledger_retry"  # a delivery was made due by hand, or a replay began or was cancelled

_PROBE_SECONDS = 5.0


class SessionGuest(Protocol):
    """Uses the session of a listening connection between the notifications. Whatever it raises ends the connection."""

    async def begin(self, connection: Connection) -> None:
        """The session begins."""

    async def probe(self, connection: Connection) -> float:
        """Makes a round trip, and returns after how many seconds to make the next one."""

    def ended(self) -> None:
        """The session has ended, or did not begin."""


class Probing:
    """A guest that only tells a connection that is lost from one on which nothing happens."""

    async def begin(self, connection: Connection) -> None:
        """Nothing is to be done."""

    async def probe(self, connection: Connection) -> float:
        await connection.execute("SELECT 1")
        return _PROBE_SECONDS

    def ended(self) -> None:
        """Nothing is to be done."""


async def listen(
    url: str,
    channels: Sequence[str],
    on_notification: Callable[[str, str], None],
    *,
    guest: SessionGuest | None = None,
) -> None:
    """Calls `on_notification(channel, payload)` for each notification, and once for each channel, without a payload,
    after connecting. Never returns.

    Raises StoreUnavailable when the connection is lost or a probe on it gets no answer. The calls after connecting make
    up for notifications that were missed in between.
    """
    guest = guest or Probing()
    settings = SERVER_SETTINGS | {"application_name": "hookledger listener"}
    dial = Dialer(url, where=location(url), settings=settings, seconds=DIAL_SECONDS)
    connection: asyncpg.Connection | None = None
    closed = asyncio.Event()
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            connection = await dial()
            connection.add_termination_listener(lambda _connection: closed.set())
            for channel in channels:
                await connection.add_listener(
                    channel, lambda _connection, _pid, name, payload: on_notification(name, payload)
                )
            await guest.begin(connection)
        for channel in channels:
            on_notification(channel, "")
        while not closed.is_set():
            require_primary(connection, url)
            async with asyncio.timeout(DEADLINE_SECONDS):
                pause_seconds = await guest.probe(connection)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause_seconds):
                    await closed.wait()
        raise ConnectionResetError("the listening connection was closed")
    except DRIVER_ERRORS as error:
        raise translated(error, url) from error
    finally:
        guest.ended()
        if connection is not None:
            connection.terminate()
