"""A producer that repeats each event until it is answered, and logs the result.

It publishes an event again under its id when the answer was lost or was 5xx, as producers must. So one event may have
several answers, and in the end it has one status.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from itertools import count
from uuid import uuid4

import aiohttp

# Longer than the daemon may take to answer (3 s), so that a test sees a slower answer.
MAX_QUEUED_SECONDS = 8.0
PAUSE_SECONDS = 0.1
# Then a test fails because the daemon does not answer.
GIVE_UP_SECONDS = 40.0
_NDJSON = {"Content-Type": "application/x-ndjson"}


class PublicationStatus(StrEnum):
    """What the producer knows of an event."""

    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """One event. If it is recorded at all, that happened between the first request and the answer (monotonic seconds)."""

    id: str
    tenant: str
    type: str
    status: PublicationStatus = PublicationStatus.UNKNOWN
    asked_at: float = 0.0
    answered_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchAnswer:
    """One answer to a batch; status None means that there was none."""

    status: int | None
    at: float
    seconds: float


@dataclass(kw_only=True)
class Producer:
    """`log` has every event by its id. `url` is called for each request, since daemons start and stop."""

    url: Callable[[], str]
    session: aiohttp.ClientSession
    tenants: Sequence[str] = ("acme",)
    types: Sequence[str] = ("order.create",)
    log: dict[str, Publication] = field(default_factory=dict)
    answers: list[BatchAnswer] = field(default_factory=list)
    payload: str = ""
    _numbers: count[int] = field(default_factory=lambda: count(1))
    _run: str = field(default_factory=lambda: uuid4().hex[:8])

    def new_events(self, number: int, *, type: str | None = None) -> list[Publication]:
        """New events that go through tenants and types in turn."""
        numbers = [next(self._numbers) for _ in range(number)]
        return [
            Publication(
                id=f"{self._run}-{n}",
                tenant=self.tenants[n % len(self.tenants)],
                type=type or self.types[n % len(self.types)],
            )
            for n in numbers
        ]

    async def publish(self, number: int, *, batch: int = 100, type: str | None = None) -> list[Publication]:
        """Publishes new events in batches, each until it is answered."""
        events = self.new_events(number, type=type)
        for start in range(0, number, batch):
            await self.publish_until_answered(events[start : start + batch])
        return events

    async def publish_until_answered(self, events: Sequence[Publication]) -> None:
        """Publishes one batch until the answer is not 5xx."""
        while not await self.attempt(events):
            await asyncio.sleep(PAUSE_SECONDS)

    async def attempt(self, events: Sequence[Publication]) -> bool:
        """Publishes a batch once. True if the status of its events is known now."""
        asked_at = time.monotonic()
        for event in events:
            self.log.setdefault(event.id, replace(event, asked_at=asked_at))
        status, results = None, {}
        try:
            async with self.session.post(
                f"{self.url()}/v1/events",
                data="\n".join(self._line(event) for event in events),
                headers=_NDJSON,
                timeout=aiohttp.ClientTimeout(total=MAX_QUEUED_SECONDS),
            ) as response:
                status = response.status
                if status == 202:
                    results = {each["id"]: each["status"] for each in (await response.json())["events"]}
        except (aiohttp.ClientError, TimeoutError, OSError):
            status = None
        answered_at = time.monotonic()
        self.answers.append(BatchAnswer(status=status, at=answered_at, seconds=answered_at - asked_at))
        is_known = status is not None and status < 500
        if is_known:
            for event in events:
                is_stored = results.get(event.id) in ("accepted", "duplicate")
                known = PublicationStatus.ACKNOWLEDGED if is_stored else PublicationStatus.REFUSED
                self.log[event.id] = replace(self.log[event.id], status=known, answered_at=answered_at)
        return is_known

    @asynccontextmanager
    async def load(self, *, per_second: float, batch: int = 10, at_once: int = 16) -> AsyncIterator[None]:
        """Publishes at a steady rate during the block, and waits at its end until the last batch is answered."""
        stop = asyncio.Event()
        places = asyncio.Semaphore(at_once)

        async def one() -> None:
            async with places:
                await self.publish_until_answered(self.new_events(batch))

        async def steadily(group: asyncio.TaskGroup) -> None:
            due = time.monotonic()
            while not stop.is_set():
                if not places.locked():
                    group.create_task(one())
                due = max(due + batch / per_second, time.monotonic())
                await asyncio.sleep(due - time.monotonic())

        async with asyncio.timeout(None) as limit, asyncio.TaskGroup() as group:
            group.create_task(steadily(group))
            try:
                yield
            finally:
                stop.set()
                limit.reschedule(asyncio.get_running_loop().time() + GIVE_UP_SECONDS)

    def refusals(self, since: float = 0.0) -> list[BatchAnswer]:
        """The answers of 5xx since `since` (monotonic seconds)."""
        return [each for each in self.answers if each.at >= since and each.status is not None and each.status >= 500]

    def _line(self, event: Publication) -> str:
        content = {"text": self.payload} if self.payload else {}
        return json.dumps({"tenant": event.tenant, "id": event.id, "type": event.type, "data": content})
