"""A producer that never gives up on an event, and writes down what it was told about each.

An event whose answer was lost, or was 503, is published again under its id: that is what the contract asks of
producers. So one event has many answers and, in the end, one fate.
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

# A client of ours waits longer than the daemon may take to answer (3 s), so that we see it if it does take longer.
MAX_QUEUED_SECONDS = 8.0
PAUSE_SECONDS = 0.1
# Of a daemon that nobody gets an answer from any more, a test should say so.
GIVE_UP_SECONDS = 40.0
_NDJSON = {"Content-Type": "application/x-ndjson"}


class Fate(StrEnum):
    """What a producer knows of an event."""

    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """One event; it was recorded between the first time it was asked for and the answer, if at all."""

    id: str
    tenant: str
    type: str
    fate: Fate = Fate.UNKNOWN
    asked_at: float = 0.0
    answered_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """One answer to a batch; status None: there was none."""

    status: int | None
    at: float
    seconds: float


@dataclass(kw_only=True)
class Producer:
    """`log` knows every event by its id. `url` is asked for at each request, since daemons come and go."""

    url: Callable[[], str]
    session: aiohttp.ClientSession
    tenants: Sequence[str] = ("acme",)
    types: Sequence[str] = ("order.create",)
    log: dict[str, Publication] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)
    payload: str = ""
    _numbers: count[int] = field(default_factory=lambda: count(1))
    _run: str = field(default_factory=lambda: uuid4().hex[:8])

    def made(self, number: int, *, type: str | None = None) -> list[Publication]:
        """New events, of one tenant and type after the other."""
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
        """Publishes events, one batch after the other, each until it is acknowledged."""
        events = self.made(number, type=type)
        for start in range(0, number, batch):
            await self.insist(events[start : start + batch])
        return events

    async def insist(self, events: Sequence[Publication]) -> None:
        """Publishes one batch until there is an answer that is one."""
        while not await self.attempt(events):
            await asyncio.sleep(PAUSE_SECONDS)

    async def attempt(self, events: Sequence[Publication]) -> bool:
        """Asks once; true if the fate of the events is known now."""
        asked_at = time.monotonic()
        for event in events:
            self.log.setdefault(event.id, replace(event, asked_at=asked_at))
        status, fates = None, {}
        try:
            async with self.session.post(
                f"{self.url()}/v1/events",
                data="\n".join(self._line(event) for event in events),
                headers=_NDJSON,
                timeout=aiohttp.ClientTimeout(total=MAX_QUEUED_SECONDS),
            ) as response:
                status = response.status
                if status == 202:
                    fates = {each["id"]: each["status"] for each in (await response.json())["events"]}
        except (aiohttp.ClientError, TimeoutError, OSError):
            status = None
        answered_at = time.monotonic()
        self.answers.append(Answer(status=status, at=answered_at, seconds=answered_at - asked_at))
        is_known = status is not None and status < 500
        if is_known:
            for event in events:
                fate = Fate.ACKNOWLEDGED if fates.get(event.id) in ("accepted", "duplicate") else Fate.REFUSED
                self.log[event.id] = replace(self.log[event.id], fate=fate, answered_at=answered_at)
        return is_known

    @asynccontextmanager
    async def load(self, *, per_second: float, batch: int = 10, at_once: int = 16) -> AsyncIterator[None]:
        """Publishes at a steady rate during the block, then until the last event is acknowledged."""
        stop = asyncio.Event()
        places = asyncio.Semaphore(at_once)

        async def one() -> None:
            async with places:
                await self.insist(self.made(batch))

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

    def refusals(self, since: float = 0.0) -> list[Answer]:
        """Answers of 5xx."""
        return [each for each in self.answers if each.at >= since and each.status is not None and each.status >= 500]

    def _line(self, event: Publication) -> str:
        content = {"text": self.payload} if self.payload else {}
        return json.dumps({"tenant": event.tenant, "id": event.id, "type": event.type, "data": content})
