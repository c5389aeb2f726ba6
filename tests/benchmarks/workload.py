"""Routes, each with an event type of its own, and a producer: one event is one delivery.

Every event contains the time of its publication and its number within its route, so that the receiving side computes
latency and order without the daemon. Daemons are real processes with the default settings.
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
from http import HTTPStatus
from itertools import cycle, islice
from pathlib import Path

import aiohttp

from eventstore import domain_events
from eventstore.domain_events.events import NewEvent
from tests.benchmarks.fresh_database import fresh_database
from tests.benchmarks.throughput import DATA
from tests.support.pipeline.process import PipelineProcess, pipeline_process
from tests.support.processes.cli import CommandLine
from tests.support.processes.running import Running, running

TENANTS = 10
PUBLISH_ATTEMPTS = 10
TRANSACTION_EVENTS = 10_000
_MASTER_KEY = base64.b64encode(b"k" * 32).decode()  # that of tests/support/pipeline/process.py, which makes the routes
_REST = json.dumps(DATA, separators=(",", ":"))[1:].encode()


@dataclass(kw_only=True)
class Workload:
    """`process` delivers nothing: it makes routes, publishes events and queries the database. `padding` is a JSON value
    that takes the place of the rest of each event, None for the ordinary one.
    """

    process: PipelineProcess
    home: Path
    tenants: list[str] = field(default_factory=list)
    padding: bytes | None = None
    _numbers: Counter[int] = field(default_factory=Counter)

    async def routes(self, targets: Sequence[str], *, tenants: Sequence[str] = ()) -> None:
        """Makes route n for target n. The tenants take turns."""
        names = tenants or [f"tenant-{n}" for n in range(TENANTS)]
        for number, (target, tenant) in enumerate(zip(targets, cycle(names), strict=False)):
            await self.process.route(target, f"load.r{number}", tenant=tenant)
            self.tenants.append(tenant)

    def event(self, route: int) -> NewEvent:
        """The next event for a route, published now."""
        self._numbers[route] += 1
        number = self._numbers[route]
        head = f'{{"published_at":{time.monotonic():.6f},"number":{number},'.encode()
        return NewEvent(
            tenant=self.tenants[route],
            id=f"r{route}-{number}",
            type=f"load.r{route}",
            data=head + (_REST if self.padding is None else b'"padding":' + self.padding + b"}"),
        )

    def published(self, routes: Sequence[int]) -> int:
        """The number of events of these routes so far."""
        return sum(self._numbers[route] for route in routes)

    async def publish(self, routes: Sequence[int], *, count: int) -> None:
        """Publishes `count` events in large transactions. The routes take turns."""
        turns = cycle(routes)
        while count > 0:
            events = [self.event(route) for route in islice(turns, min(count, TRANSACTION_EVENTS))]
            await domain_events.publish(self.process.database, events, seconds=60)
            count -= len(events)

    async def publish_steadily(self, url: str, routes: Sequence[int], *, per_second: int, seconds: float) -> int:
        """Publishes through the API of the daemon at `url` at a steady rate, however long the answers take, and again
        what it could not take, as a publisher does.

        Returns the number of events.
        """
        turns, batch = cycle(routes), max(1, per_second // 40)
        count = int(per_second * seconds) // batch
        async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:

            async def post() -> None:
                lines = b"\n".join(line(self.event(route)) for route in islice(turns, batch))
                status, told = await _until_taken(session, f"{url}/v1/events", lines)
                if status != HTTPStatus.ACCEPTED or told["accepted"] + told["duplicates"] != batch:
                    raise SystemExit(f"the daemon did not take a batch: {status} {told}")

            started = time.monotonic()
            for turn in range(count):
                await asyncio.sleep(started + turn * batch / per_second - time.monotonic())
                group.create_task(post())
        return count * batch

    @asynccontextmanager
    async def daemon(self, *options: str, **settings: str) -> AsyncIterator[Running]:
        """Runs a daemon on the database."""
        async with running(self.command_line(**settings), *options) as daemon:
            yield daemon

    def command_line(self, **settings: str) -> CommandLine:
        """The command line on the database, with a home directory of its own."""
        home = Path(tempfile.mkdtemp(dir=self.home))
        environment = {"HOOKLEDGER_SIGNING__MASTER_KEY": _MASTER_KEY, **settings}
        return CommandLine(home, self.process.database.url, **environment)

    @staticmethod
    async def until_ready(url: str, *, seconds: float = 120.0) -> None:
        """Waits until a daemon is ready for everything."""
        async with aiohttp.ClientSession() as session:

            async def is_ready() -> bool:
                async with session.get(f"{url}/readyz") as answer:
                    return answer.status == 200

            async with asyncio.timeout(seconds):
                while not await is_ready():
                    await asyncio.sleep(0.05)


@asynccontextmanager
async def workload() -> AsyncIterator[Workload]:
    with tempfile.TemporaryDirectory(prefix="hookledger-benchmark-") as home:
        async with fresh_database() as database_url, pipeline_process(database_url, run=False) as process:
            yield Workload(process=process, home=Path(home))


def line(event: NewEvent) -> bytes:
    """An event as the API takes it."""
    head = json.dumps({"tenant": event.tenant, "id": event.id, "type": event.type})
    return head[:-1].encode() + b',"data":' + event.data + b"}"


async def _until_taken(session: aiohttp.ClientSession, url: str, lines: bytes) -> tuple[int, dict[str, int]]:
    """The answer to a batch. While there is no database, the batch is sent again, as a publisher does."""
    attempts = 0
    while True:
        async with session.post(url, data=lines, headers={"Content-Type": "application/x-ndjson"}) as answer:
            told = await answer.json()
        attempts += 1
        if answer.status != HTTPStatus.SERVICE_UNAVAILABLE or attempts == PUBLISH_ATTEMPTS:
            return answer.status, told
        await asyncio.sleep(float(answer.headers["Retry-After"]))
