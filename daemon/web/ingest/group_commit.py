"""Group commit for single events: the events that arrive while a commit is under way share the next commit.

A commit costs a flush of the disk, whether it has one event or a hundred. The first event is committed at once: it does
not wait for others. No event waits longer than its request may, in the queue and for PostgreSQL together. If the time
is over, an event that is still in the queue is not stored; an event that was sent to PostgreSQL may be stored. So the
producer repeats it with the same id.

A batch is a transaction of its own (storing.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import structlog

from daemon.web.ingest.storing import StoreResult, store, store_parts
from eventstore.domain_events.events import NewEvent, Publish
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import StoreError, StoreUnavailable

log = structlog.get_logger()

MAX_BATCH_EVENTS = 500
MAX_BATCH_BYTES = 4 * 1024 * 1024

# A producer gets an answer within 3 s. The difference is for sending the answer.
ANSWER_SECONDS = 2.5

# Two batches keep both cores busy, this process's and PostgreSQL's. More would only occupy connections.
BATCHES_AT_ONCE = 2

# An event, and the future that its request waits for.
_QueuedEvent = tuple[NewEvent, asyncio.Future[bool]]


class GroupCommit:
    """`publish` and `publish_batch` return when the events are durable. Single events are stored by the function
    `publish`, and `on_batch_stored` is called after the commit of a batch.
    """

    def __init__(self, database: Database, *, publish: Publish, on_batch_stored: Callable[[], None]) -> None:
        self._database = database
        self._publish = publish
        self._on_batch_stored = on_batch_stored
        self._queue: list[_QueuedEvent] = []
        self._task: asyncio.Task[None] | None = None
        self._failure: StoreUnavailable | None = None  # of the last commit
        self._batch_slots = asyncio.Semaphore(BATCHES_AT_ONCE)

    async def publish(self, event: NewEvent, *, seconds: float) -> bool:
        """True if the event is new, False if it is a duplicate. Raises StoreUnavailable or ValueRefused.

        One timer limits the wait: `asyncio.timeout` takes 5 µs, and this 1.
        """
        if seconds <= 0:
            raise self._too_late()
        loop = asyncio.get_running_loop()
        stored: asyncio.Future[bool] = loop.create_future()
        self._queue.append((event, stored))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._drain())
        timer = loop.call_later(seconds, self._give_up, stored)
        try:
            return await stored
        finally:
            timer.cancel()

    async def publish_batch(
        self, parts: AsyncIterator[list[NewEvent]], *, is_one_part: bool, seconds: float
    ) -> list[StoreResult]:
        """Stores all parts or none within `seconds`. The results are those of `store`. Raises StoreUnavailable."""
        if is_one_part:
            results = await store(self._database, [event async for part in parts for event in part], seconds=seconds)
        else:
            try:
                async with asyncio.timeout(seconds), self._batch_slots:
                    results = await store_parts(self._database, parts, seconds=seconds)
            except TimeoutError as error:
                raise StoreUnavailable("the batch could not be stored in time") from error
        if results:
            self._on_batch_stored()
        return results

    async def close(self) -> None:
        """Waits until the queue is empty and its commits are done."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _drain(self) -> None:
        while batch := self._next_batch():
            try:
                results = await store(
                    self._database, [event for event, _ in batch], publish=self._publish, seconds=ANSWER_SECONDS
                )
            except StoreError as error:
                if isinstance(error, StoreUnavailable):  # the queued events would fail as well, later
                    self._failure = error
                    batch, self._queue = batch + self._queue, []
                _resolve(batch, [error] * len(batch))
            except Exception as error:  # a mistake of ours; perhaps the events are stored
                log.exception("publish.crashed")
                _resolve(batch, [error] * len(batch))
            except BaseException:
                unstored = batch + self._queue
                _resolve(unstored, [StoreUnavailable("the daemon is stopping")] * len(unstored))
                raise
            else:
                self._failure = None
                _resolve(batch, results)

    def _next_batch(self) -> list[_QueuedEvent]:
        """The oldest queued events whose requests still wait, within the limits; at least one if there is any."""
        waiting = [(event, stored) for event, stored in self._queue if not stored.done()]
        count, size_bytes = 0, 0
        for event, _ in waiting[:MAX_BATCH_EVENTS]:
            size_bytes += len(event.data) + len(event.context or b"") + len(event.snapshot or b"")
            if count and size_bytes > MAX_BATCH_BYTES:
                break
            count += 1
        self._queue = waiting[count:]
        return waiting[:count]

    def _give_up(self, stored: asyncio.Future[bool]) -> None:
        """The time of a request is over: an event that is still in the queue is not stored any more."""
        if not stored.done():
            stored.set_exception(self._too_late())

    def _too_late(self) -> StoreUnavailable:
        """It says what kept the commit before from storing its events; this one has not ended."""
        said = "the event could not be stored in time"
        return StoreUnavailable(said if self._failure is None else f"{said}; the last try: {self._failure}")


def _resolve(batch: Sequence[_QueuedEvent], results: Sequence[bool | Exception]) -> None:
    """Gives each request that still waits its result."""
    for (_, stored), result in zip(batch, results, strict=True):
        if stored.done():
            continue
        if isinstance(result, Exception):
            stored.set_exception(result)
        else:
            stored.set_result(result)
