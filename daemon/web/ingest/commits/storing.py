"""Storing events in the log: in one statement, or in parts of one transaction. Refused values reject only their events.

Each part is stored while the next is parsed. Parsing keeps one core busy and PostgreSQL another; one after the other
would take twice as long.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from eventstore import domain_events
from eventstore.domain_events.events import NewEvent, Publish
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import Deadlocked, IdHeld, Locked, ValueRefused

_T = TypeVar("_T")

StoreResult = bool | ValueRefused


# So long a request waits for the end of another transaction that has published the same id, while it has a connection
# and other events wait for it: longer than a commit takes. Then it gives both away, and asks again after a pause.
LOCK_SECONDS = 0.05


async def store(
    database: Database, events: Sequence[NewEvent], *, publish: Publish = domain_events.publish, seconds: float
) -> list[StoreResult]:
    """Stores events in one transaction, by the function `publish`. For each event, in order: True if it is new, False
    if it is a duplicate, or the ValueRefused that rejects it.

    If PostgreSQL refuses a value, each half of the events is stored by itself, and so on until only the events with
    refused values are left. Raises StoreUnavailable; IdHeld soon, if a transaction that has not ended has published one
    of the ids.
    """
    try:
        return list(await _published(database, events, publish, seconds))
    except ValueRefused as error:
        if len(events) == 1:
            return [error]
    middle = len(events) // 2
    first = await store(database, events[:middle], publish=publish, seconds=seconds)
    return first + await store(database, events[middle:], publish=publish, seconds=seconds)


async def _published(
    database: Database, events: Sequence[NewEvent], publish: Publish, seconds: float
) -> Sequence[bool]:
    """Which of the events are new. Any lock that is not that of an id is waited for as long as by other statements."""
    try:
        return await publish(database, events, seconds=seconds, lock_seconds=LOCK_SECONDS)
    except IdHeld:
        raise
    except Locked:
        return await publish(database, events, seconds=seconds)


async def store_parts(
    database: Database, parts: AsyncIterator[list[NewEvent]], *, seconds: float, events: list[NewEvent]
) -> list[StoreResult] | None:
    """Stores all parts in one transaction, each while the next is parsed, and appends them to `events`. The results are
    those of `store`; None if nothing is stored and `events` are to be stored by it.

    Raises StoreUnavailable.
    """
    are_new: list[bool] = []

    async def collected() -> AsyncIterator[list[NewEvent]]:
        async for part in parts:
            events.extend(part)
            yield part

    remaining = collected()
    try:
        async with domain_events.publishing(database, seconds=seconds, lock_seconds=LOCK_SECONDS) as publish:
            part = await anext(remaining, None)
            while part is not None:
                async with _concurrently(publish(part)) as storing:
                    part = await anext(remaining, None)
                are_new += storing.result()
    except (ValueRefused, Deadlocked, Locked):
        # The transaction was rolled back. `store` handles a refused value, and a single statement takes its ids in an
        # order that does not deadlock.
        async for _ in remaining:
            pass
        return None
    return [*are_new]


@asynccontextmanager
async def _concurrently(coroutine: Coroutine[object, None, _T]) -> AsyncIterator[asyncio.Task[_T]]:
    """Runs a coroutine while the block runs, and waits for it at the end of the block. Raises what it raises."""
    task = asyncio.create_task(coroutine)
    try:
        yield task
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
