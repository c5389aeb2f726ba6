"""Routes, each with an event type of its own, and somebody who publishes: one event is one delivery.

Every event says when it was published and its number among those of its route, so that the receiving side knows latency
and order without asking the daemon. Daemons are real processes with the settings that an operator gets.
"""

from __future__ import annotations

import asyncio
import base64
import json
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

import aiohttp

from eventstore import domain_events
from eventstore.domain_events.events import NewEvent
from tests.benchmarks.ground import fresh_database
from tests.benchmarks.throughput import DATA
from tests.support.cli import CommandLine
from tests.support.house import House, house
from tests.support.running import Running, running

TENANTS = 10
TRANSACTION_EVENTS = 10_000
_MASTER_KEY = base64.b64encode(b"k" * 32).decode()  # the one of tests/support/house.py, which makes the routes
_REST = json.dumps(DATA, separators=(",", ":"))[1:]


@dataclass(kw_only=True)
class Scene:
    """`it` is a house that delivers nothing: it makes routes, publishes, and looks into the database."""

    it: House
    home: Path
    tenants: list[str] = field(default_factory=list)
    _numbers: Counter[int] = field(default_factory=Counter)

    async def routes(self, targets: Sequence[str], *, tenants: Sequence[str] = ()) -> None:
        """Makes route n for target n, of one tenant after the other; each of `tenants` has at least one."""
        names = tenants or [f"tenant-{n}" for n in range(TENANTS)]
        for number, (target, tenant) in enumerate(zip(targets, cycle(names), strict=False)):
            await self.it.route(target, f"load.r{number}", tenant=tenant)
            self.tenants.append(tenant)

    def event(self, route: int) -> NewEvent:
        """The next event for a route, as of now."""
        self._numbers[route] += 1
        number = self._numbers[route]
        return NewEvent(
            tenant=self.tenants[route],
            id=f"r{route}-{number}",
            type=f"load.r{route}",
            data=f'{{"published_at":{time.monotonic():.6f},"number":{number},{_REST}'.encode(),
        )

    def published(self, routes: Sequence[int]) -> int:
        """How many events of these routes there are."""
        return sum(self._numbers[route] for route in routes)

    async def publish(self, routes: Sequence[int], *, count: int) -> None:
        """Publishes so many events, to one route after the other, in large transactions."""
        turns = cycle(routes)
        while count > 0:
            events = [self.event(route) for route in islice(turns, min(count, TRANSACTION_EVENTS))]
            await domain_events.publish(self.it.database, events, seconds=60)
            count -= len(events)

    async def offer(self, url: str, routes: Sequence[int], *, per_second: int, seconds: float) -> int:
        """Publishes through the API of the daemon at `url` at a steady rate, however long it takes to answer.

        Returns how many events that were.
        """
        turns, batch = cycle(routes), max(1, per_second // 40)
        count = int(per_second * seconds) // batch
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:

            async def post() -> None:
                lines = b"\n".join(_line(self.event(route)) for route in islice(turns, batch))
                headers = {"Content-Type": "application/x-ndjson"}
                async with session.post(f"{url}/v1/events", data=lines, headers=headers) as answer:
                    if (await answer.json())["accepted"] != batch:
                        raise SystemExit(f"the daemon did not take a batch: {answer.status}")

            started = time.monotonic()
            for turn in range(count):
                await asyncio.sleep(started + turn * batch / per_second - time.monotonic())
                group.create_task(post())
        return count * batch

    @asynccontextmanager
    async def daemon(self, **settings: str) -> AsyncIterator[Running]:
        """A daemon on the database of the scene."""
        home = Path(tempfile.mkdtemp(dir=self.home))
        environment = {"HOOKLEDGER_SIGNING__MASTER_KEY": _MASTER_KEY, **settings}
        async with running(CommandLine(home, self.it.database.url, **environment)) as daemon:
            yield daemon


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    with tempfile.TemporaryDirectory(prefix="hookledger-benchmark-") as home:
        async with fresh_database() as database_url, house(database_url, run=False) as it:
            yield Scene(it=it, home=Path(home))


def _line(event: NewEvent) -> bytes:
    head = json.dumps({"tenant": event.tenant, "id": event.id, "type": event.type})
    return head[:-1].encode() + b',"data":' + event.data + b"}"
