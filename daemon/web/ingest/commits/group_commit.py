"""Group commit for single events: the events that arrive while a commit is under way share the next commit.

A commit costs a flush of the disk, whether it has one event or a hundred. The first event is committed at once: it does
not wait for others. No event waits longer than its request may, in the queue and for PostgreSQL together. If the time
is over, an event that is still in the queue is not stored; an event that was sent to PostgreSQL may be stored. So the
producer repeats it with the same id.

An event may have to wait for a transaction of somebody else, which has published the same id and has not ended. Those
who share its commit would wait too. So its tenant gets a queue of its own for that time, in which the event is tried
again from time to time, and keeps no connection in between.

A batch is a transaction of its own (storing.py).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence

import structlog

from daemon.web.ingest.commits.storing import StoreResult, store, store_parts
from daemon.web.ingest.commits.tenant_queue import (
    ANSWER_SECONDS,
    HELD_SECONDS,
    QueuedEvent,
    TenantQueue,
    first_of,
    resolve,
)
from eventstore.domain_events.events import NewEvent, Publish
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import IdHeld, StoreError, StoreUnavailable

log = structlog.get_logger()

# Two batches keep both cores busy, this process's and PostgreSQL's. More would only occupy connections.
BATCHES_AT_ONCE = 2

# So long the tenants that have to wait are searched for among the events of a commit, while those in the queue wait. In
# this time one is found among 500.
SEARCH_SECONDS = 0.5


class GroupCommit:
    """`publish` and `publish_batch` return when the events are durable. Single events are stored by the function
    `publish`, and `on_batch_stored` is called after the commit of a batch.
    """

    def __init__(self, database: Database, *, publish: Publish, on_batch_stored: Callable[[], None]) -> None:
        self._database = database
        self._publish = publish
        self._on_batch_stored = on_batch_stored
        self._queue: list[QueuedEvent] = []
        self._task: asyncio.Task[None] | None = None
        self._apart: dict[str, TenantQueue] = {}
        self._failure: StoreUnavailable | None = None  # of the last commit
        self._batch_slots = asyncio.Semaphore(BATCHES_AT_ONCE)
        # One connection is enough for all that is tried again.
        self._held_turn = asyncio.Semaphore(1)

    async def publish(self, event: NewEvent, *, seconds: float) -> bool:
        """True if the event is new, False if it is a duplicate. Raises StoreUnavailable or ValueRefused.

        One timer limits the wait: `asyncio.timeout` takes 5 µs, and this 1.
        """
        if seconds <= 0:
            raise self._too_late()
        loop = asyncio.get_running_loop()
        queued = QueuedEvent(event, loop.create_future())
        if self._apart and (apart := self._apart.get(event.tenant)) is not None:
            apart.add([queued])
        else:
            self._queue.append(queued)
            if self._task is None or self._task.done():
                self._task = asyncio.create_task(self._drain())
        timer = loop.call_later(seconds, self._give_up, queued)
        try:
            return await queued.stored
        finally:
            timer.cancel()

    async def publish_batch(
        self, parts: AsyncIterator[list[NewEvent]], *, is_one_part: bool, seconds: float
    ) -> list[StoreResult]:
        """Stores all parts or none within `seconds`. The results are those of `store`. Raises StoreUnavailable."""
        ends_at = asyncio.get_running_loop().time() + seconds
        events: list[NewEvent] = []
        try:
            async with asyncio.timeout_at(ends_at):
                if is_one_part:
                    events += [event async for part in parts for event in part]
                    results = await self._stored(events, seconds)
                else:
                    async with self._batch_slots:
                        results = await store_parts(self._database, parts, seconds=seconds, events=events)
                        if results is None:
                            results = await self._stored(events, seconds)
                if results is None:
                    results = await self._despite_held(events, seconds, ends_at=ends_at - HELD_SECONDS)
        except TimeoutError as error:
            raise StoreUnavailable("the batch could not be stored in time") from error
        if results:
            self._on_batch_stored()
        return results

    async def close(self) -> None:
        """Waits until the queues are empty and their commits are done."""
        for apart in self._apart.values():
            apart.end()
        while tasks := [task for task in self._tasks() if not task.done()]:
            await asyncio.wait(tasks)

    def _tasks(self) -> list[asyncio.Task[None]]:
        tasks = (self._task, *(apart.task for apart in self._apart.values()))
        return [task for task in tasks if task is not None]

    async def _stored(self, events: Sequence[NewEvent], seconds: float) -> list[StoreResult] | None:
        """What `store` returns; None if another transaction holds one of the ids."""
        try:
            return await store(self._database, events, seconds=seconds)
        except IdHeld:
            return None

    async def _despite_held(self, events: Sequence[NewEvent], seconds: float, *, ends_at: float) -> list[StoreResult]:
        """What `store` returns once the transaction has ended that holds one of the ids. Raises IdHeld."""
        try:
            async with asyncio.timeout_at(ends_at):
                while True:
                    await asyncio.sleep(HELD_SECONDS)
                    async with self._held_turn:
                        results = await self._stored(events, seconds)
                    if results is not None:
                        return results
        except TimeoutError as error:
            raise IdHeld from error

    async def _drain(self) -> None:
        while batch := self._next_batch():
            await self._commit(batch, search_until=time.monotonic() + SEARCH_SECONDS)

    def _next_batch(self) -> list[QueuedEvent]:
        batch, self._queue = first_of(self._queue)
        return batch

    async def _commit(self, batch: list[QueuedEvent], *, search_until: float) -> None:
        """Stores events, but for those of tenants that have to wait: these get queues of their own. So do all that are
        left if these are not found in time.
        """
        batch = [each for each in batch if not each.stored.done()]
        if not batch:
            return
        try:
            results = await store(
                self._database, [each.event for each in batch], publish=self._publish, seconds=ANSWER_SECONDS
            )
        except IdHeld:
            await self._divide(batch, search_until)
        except StoreError as error:
            if isinstance(error, StoreUnavailable):  # the queued events would fail as well, later
                self._failure = error
                batch, self._queue = batch + self._queue, []
            resolve(batch, [error] * len(batch))
        except Exception as error:  # a mistake of ours; perhaps the events are stored
            log.exception("publish.crashed")
            resolve(batch, [error] * len(batch))
        except BaseException:
            unstored = batch + self._queue
            resolve(unstored, [StoreUnavailable("the daemon is stopping")] * len(unstored))
            raise
        else:
            self._failure = None
            resolve(batch, results)

    async def _divide(self, batch: list[QueuedEvent], search_until: float) -> None:
        """Stores each half of the tenants by itself; one that is left has to wait."""
        tenants = sorted({each.event.tenant for each in batch})
        if len(tenants) == 1 or time.monotonic() > search_until:
            for tenant in tenants:
                self._set_apart(tenant, [each for each in batch if each.event.tenant == tenant])
            return
        half = set(tenants[: len(tenants) // 2])
        for is_first in (True, False):
            part = [each for each in batch if (each.event.tenant in half) == is_first]
            await self._commit(part, search_until=search_until)

    def _set_apart(self, tenant: str, batch: list[QueuedEvent]) -> None:
        """Gives a tenant a queue of its own until none of its events has waited for long."""
        apart = self._apart.get(tenant)
        if apart is None:
            apart = self._apart[tenant] = TenantQueue(self._database, self._publish, self._held_turn)
            apart.task = asyncio.create_task(apart.drain(lambda: self._apart.pop(tenant)))
        apart.add(batch)

    def _give_up(self, queued: QueuedEvent) -> None:
        """The time of a request is over: an event that is still in the queue is not stored any more."""
        if not queued.stored.done():
            queued.stored.set_exception(queued.held or self._too_late())

    def _too_late(self) -> StoreUnavailable:
        """It says what kept the commit before from storing its events; this one has not ended."""
        said = "the event could not be stored in time"
        return StoreUnavailable(said if self._failure is None else f"{said}; the last try: {self._failure}")
