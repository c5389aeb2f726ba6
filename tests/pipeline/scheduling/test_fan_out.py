"""One large event for many routes: it is in memory once, whatever the number of routes."""

from __future__ import annotations

import asyncio
import json
import tracemalloc

from aiohttp import web

from eventstore import domain_events
from tests.support.pipeline.process import PipelineProcess, pipeline_process
from tests.support.receivers.receiver import Received, Receiver, receiver
from tests.support.values.builders import new_event

ROUTES = 1000
EVENT_BYTES = 250_000
# A third of one copy for each route. What is under way, 64 requests with a body each, takes about 40 MB with the
# receiver, which is in this process too.
MOST_BYTES = 80_000_000


class Forgetful(Receiver):
    """Counts requests without keeping their bodies."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        async for _ in request.content.iter_any():
            pass
        self.received.append(Received(request.path, {}, b""))
        async with self._news:
            self._news.notify_all()
        return web.Response(status=204)


async def test_a_large_event_for_a_thousand_routes_takes_memory_for_what_is_under_way_only(database_url: str) -> None:
    async with receiver(Forgetful()) as there, pipeline_process(database_url) as it:
        await create_routes(it, there.url)
        event = new_event(data=json.dumps({"n": "x" * EVENT_BYTES}).encode())
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            await domain_events.publish(it.database, [event])
            it.pipeline.hurry()
            await there.count(ROUTES, seconds=100)
            await it.until_row("SELECT count(*) = $1 FROM hookledger.attempt", ROUTES, seconds=60)
            peak = tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()
        assert sorted(each.path for each in there.received) == sorted(f"/{number}" for number in range(ROUTES))
        assert peak < MOST_BYTES


async def create_routes(it: PipelineProcess, url: str) -> None:
    async with asyncio.TaskGroup() as group:
        for start in range(8):
            group.create_task(_some(it, url, start))


async def _some(it: PipelineProcess, url: str, start: int) -> None:
    for number in range(start, ROUTES, 8):
        await it.route(f"{url}/{number}")
