"""Group commit for single events: what arrives while a commit is under way goes together into the next one.

A commit costs a flush of the disk, whether it carries one event or a hundred. The first event goes at once, so nobody
waits for company. Nobody waits longer than ANSWER_SECONDS either, in the queue and for PostgreSQL together: an event
that was given up in the queue is not stored, one that was on its way may have been, so a producer repeats it by its id.

A batch is a transaction of its own (storing.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

from daemon.web.ingest.storing import StoreResult, store, store_parts
from eventstore.domain_events.events import NewEvent
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import StoreError, StoreUnavailable

MAX_BATCH_EVENTS = 500
MAX_BATCH_BYTES = 4 * 1024 * 1024

# A producer who gets no answer within 3 s is told so; what is left is for the answer's way back.
ANSWER_SECONDS = 2.5

# Two batches at once keep both cores busy; more would only keep connections from others.
BATCHES_AT_ONCE = 2

_Waiting = tuple[NewEvent, asyncio.Future[bool]]


class GroupCommit:
    """`publish` and `publish_batch` answer when the events are durable."""

    def __init__(self, database: Database, *, on_stored: Callable[[], None]) -> None:
        self._database = database
        self._on_stored = on_stored
        self._waiting: list[_Waiting] = []
        self._task: asyncio.Task[None] | None = None
        self._turns = asyncio.Semaphore(BATCHES_AT_ONCE)

    async def publish(self, event: NewEvent) -> bool:
        """True if the event is new, False if it is a duplicate. Raises StoreUnavailable or ValueRefused."""
        stored: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._waiting.append((event, stored))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain())
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await stored
        except TimeoutError as error:
            raise StoreUnavailable("the event could not be stored in time") from error

    async def publish_batch(
        self, parts: AsyncIterator[list[NewEvent]], *, is_one_part: bool, seconds: float
    ) -> list[StoreResult]:
        """Stores all parts or none within `seconds`; outcomes as from `store`. Raises StoreUnavailable."""
        if is_one_part:
            outcomes = await store(self._database, [event async for part in parts for event in part], seconds=seconds)
        else:
            try:
                async with asyncio.timeout(seconds), self._turns:
                    outcomes = await store_parts(self._database, parts, seconds=seconds)
            except TimeoutError as error:
                raise StoreUnavailable("the batch could not be stored in time") from error
        if outcomes:
            self._on_stored()
        return outcomes

    async def close(self) -> None:
        """Waits for the commits under way, and for those that somebody still waits for."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _drain(self) -> None:
        while batch := self._next_batch():
            try:
                outcomes = await store(self._database, [event for event, _ in batch], seconds=ANSWER_SECONDS)
            except StoreError as error:
                if isinstance(error, StoreUnavailable):  # the queue would only wait in vain, and is told at once
                    batch, self._waiting = batch + self._waiting, []
                _answer(batch, [error] * len(batch))
            except BaseException:
                everybody = batch + self._waiting
                _answer(everybody, [StoreUnavailable("the daemon is stopping")] * len(everybody))
                raise
            else:
                _answer(batch, outcomes)
                self._on_stored()

    def _next_batch(self) -> list[_Waiting]:
        """The longest-waiting events that somebody still waits for, within the limits; at least one if there is any."""
        waiting = [(event, stored) for event, stored in self._waiting if not stored.done()]
        count, size_bytes = 0, 0
        for event, _ in waiting[:MAX_BATCH_EVENTS]:
            size_bytes += len(event.data) + len(event.context or b"") + len(event.snapshot or b"")
            if count and size_bytes > MAX_BATCH_BYTES:
                break
            count += 1
        self._waiting = waiting[count:]
        return waiting[:count]


def _answer(batch: Sequence[_Waiting], outcomes: Sequence[bool | StoreError]) -> None:
    """Tells everybody who still waits."""
    for (_, stored), outcome in zip(batch, outcomes, strict=True):
        if stored.done():
            continue
        if isinstance(outcome, StoreError):
            stored.set_exception(outcome)
        else:
            stored.set_result(outcome)
