"""Events into the log: in one statement, or in parts of one transaction; refused values are told from good ones.

Parts are stored each while the next is being made: parsing takes one core, PostgreSQL another, and taking turns they
would take twice as long.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from eventstore import domain_events
from eventstore.domain_events.events import NewEvent
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import Deadlocked, ValueRefused

_T = TypeVar("_T")

StoreResult = bool | ValueRefused


async def store(database: Database, events: Sequence[NewEvent], *, seconds: float) -> list[StoreResult]:
    """Stores events in one transaction; for each, in order: True if it is new, False if it is a duplicate.

    If PostgreSQL refuses a value, the events are stored in halves, until only the culprits are left: a neighbour's
    mistake is nobody else's. Raises StoreUnavailable.
    """
    try:
        return list(await domain_events.publish(database, events, seconds=seconds))
    except ValueRefused as error:
        if len(events) == 1:
            return [error]
    middle = len(events) // 2
    first = await store(database, events[:middle], seconds=seconds)
    return first + await store(database, events[middle:], seconds=seconds)


async def store_parts(database: Database, parts: AsyncIterator[list[NewEvent]], *, seconds: float) -> list[StoreResult]:
    """Stores all parts in one transaction, each while the next is being made; outcomes as from `store`.

    Raises StoreUnavailable.
    """
    made: list[NewEvent] = []
    fresh: list[bool] = []

    async def noted() -> AsyncIterator[list[NewEvent]]:
        async for part in parts:
            made.extend(part)
            yield part

    left = noted()
    try:
        async with domain_events.publishing(database, seconds=seconds) as publish:
            part = await anext(left, None)
            while part is not None:
                async with _meanwhile(publish(part)) as storing:
                    part = await anext(left, None)
                fresh += storing.result()
    except (ValueRefused, Deadlocked):
        # Nothing of it is stored now. `store` knows what to do with a refused value, and waits crosswise for nobody.
        async for _ in left:
            pass
        return await store(database, made, seconds=seconds)
    return [*fresh]


@asynccontextmanager
async def _meanwhile(work: Coroutine[object, None, _T]) -> AsyncIterator[asyncio.Task[_T]]:
    """Does the work while the block runs; when the block has ended, the work has too. Raises what the work raises."""
    task = asyncio.create_task(work)
    try:
        yield task
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
