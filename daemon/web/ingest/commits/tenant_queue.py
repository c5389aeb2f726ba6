"""The events of a tenant for as long as one of them has to wait for a transaction of somebody else.

A producer's transaction has published the same id, and has not ended: whether the event is new is known only then. What
shares a statement with it waits too. So the held ones are found by halves, and tried again by themselves after a pause,
without a connection in between; the others are stored meanwhile.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, zip_longest

import structlog

from daemon.web.ingest.commits.storing import store
from eventstore.domain_events.events import NewEvent, Publish
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import IdHeld, StoreError, StoreUnavailable

log = structlog.get_logger()

MAX_BATCH_EVENTS = 500
MAX_BATCH_BYTES = 4 * 1024 * 1024

# A producer gets an answer within 3 s. The difference is for sending the answer.
ANSWER_SECONDS = 2.5

# The pause before an event, or a batch, is tried again whose id another transaction holds.
HELD_SECONDS = 0.2

# For so long after the last wait a tenant keeps its queue. If its next event had to wait too, others would wait for it
# until it is found among them; with many such tenants that would be all of the time.
LINGER_SECONDS = 10.0


@dataclass(slots=True, eq=False)
class QueuedEvent:
    """An event, the future that its request waits for, and what kept it from being stored so far."""

    event: NewEvent
    stored: asyncio.Future[bool]
    held: IdHeld | None = None


class TenantQueue:
    """The events of a tenant while one of them, at least, has an id that another transaction holds."""

    def __init__(self, database: Database, publish: Publish, turn: asyncio.Semaphore) -> None:
        self.task: asyncio.Task[None] | None = None
        self._database = database
        self._publish = publish
        self._turn = turn
        self._queue: list[QueuedEvent] = []
        self._arrived = asyncio.Event()
        self._held: dict[str, list[QueuedEvent]] = {}
        self._held_at = time.monotonic()
        self._is_ending = False

    def end(self) -> None:
        """Nothing comes any more."""
        self._is_ending = True
        self._arrived.set()

    def add(self, events: Iterable[QueuedEvent]) -> None:
        self._queue += events
        self._arrived.set()

    async def drain(self, on_end: Callable[[], object]) -> None:
        """Stores what is in the queue, until nothing has waited for long. Calls `on_end` then, before anything can come
        again.
        """
        due: list[str] = []
        try:
            while True:
                batch, self._queue = first_of(self._queue)
                if batch:
                    await self._commit(batch)
                elif due:
                    await self._try_again(due.pop(0))
                elif self._held:
                    if await self._has_paused(HELD_SECONDS):
                        due = [*self._held]
                elif self._is_ending or (left := self._held_at + LINGER_SECONDS - time.monotonic()) <= 0:
                    break
                else:
                    await self._has_paused(left)
        except BaseException:
            unstored = [*chain(self._queue, *self._held.values())]
            resolve(unstored, [StoreUnavailable("the daemon is stopping")] * len(unstored))
            raise
        finally:
            on_end()

    async def _has_paused(self, seconds: float) -> bool:
        """True after a pause, False as soon as something comes in."""
        self._arrived.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._arrived.wait()
                return False
        return True

    async def _commit(self, batch: list[QueuedEvent]) -> None:
        """Stores events, but for those whose ids are held: these are tried again after a pause."""
        held = self._held
        if known := [each for each in batch if each.event.id in held]:
            for each in known:
                held[each.event.id].append(each)
            batch = [each for each in batch if each.event.id not in held]
        if batch and not await self._are_stored(batch):
            ids = [*dict.fromkeys(each.event.id for each in batch)]
            if len(ids) == 1:
                held[ids[0]] = batch
                return
            half = set(ids[: len(ids) // 2])
            await self._commit([each for each in batch if each.event.id in half])
            await self._commit([each for each in batch if each.event.id not in half])

    async def _try_again(self, id: str) -> None:
        waiting = [each for each in self._held.pop(id) if not each.stored.done()]
        if waiting and not await self._are_stored(waiting):
            self._held[id] = waiting

    async def _are_stored(self, batch: list[QueuedEvent]) -> bool:
        """Whether it is known what became of events. False if one of their ids is held."""
        try:
            async with self._turn:
                results: Sequence[bool | Exception] = await store(
                    self._database, [each.event for each in batch], publish=self._publish, seconds=ANSWER_SECONDS
                )
        except IdHeld as error:
            for each in batch:
                each.held = error
            self._held_at = time.monotonic()
            return False
        except StoreError as error:
            results = [error] * len(batch)
        except Exception as error:  # a mistake of ours; perhaps the events are stored
            log.exception("publish.crashed")
            results = [error] * len(batch)
        except BaseException:
            resolve(batch, [StoreUnavailable("the daemon is stopping")] * len(batch))
            raise
        resolve(batch, results)
        return True


def first_of(queue: Sequence[QueuedEvent]) -> tuple[list[QueuedEvent], list[QueuedEvent]]:
    """The events to store next, within the limits, of those whose requests still wait, at least one if there is any;
    and the others, oldest first. Tenants take turns, so that no other event waits for all that one of them publishes.
    """
    waiting = [each for each in queue if not each.stored.done()]
    count, size_bytes = 0, 0
    in_turns = _in_turns(waiting) if len(waiting) > 1 else waiting
    for each in in_turns[:MAX_BATCH_EVENTS]:
        event = each.event
        size_bytes += len(event.data) + len(event.context or b"") + len(event.snapshot or b"")
        if count and size_bytes > MAX_BATCH_BYTES:
            break
        count += 1
    if count == len(waiting):
        return waiting, []
    first = in_turns[:count]
    chosen = set(map(id, first))
    return first, [each for each in waiting if id(each) not in chosen]


def _in_turns(waiting: Sequence[QueuedEvent]) -> list[QueuedEvent]:
    """The first event of each tenant, then the second of each, and so on."""
    by_tenant: dict[str, list[QueuedEvent]] = {}
    for each in waiting:
        by_tenant.setdefault(each.event.tenant, []).append(each)
    if len(by_tenant) == 1:
        return [*waiting]
    rounds = zip_longest(*by_tenant.values())
    return [each for events in rounds for each in events if each is not None]


def resolve(batch: Sequence[QueuedEvent], results: Sequence[bool | Exception]) -> None:
    """Gives each request that still waits its result."""
    for each, result in zip(batch, results, strict=True):
        if each.stored.done():
            continue
        if isinstance(result, Exception):
            each.stored.set_exception(result)
        else:
            each.stored.set_result(result)
