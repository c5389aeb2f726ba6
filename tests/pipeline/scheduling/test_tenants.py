"""A tenant with very many routes beside tenants with one: what the others wait for."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from daemon.pipeline.scheduling.pools import TENANT_PART
from daemon.pipeline.tunables import Tunables
from eventstore.domain_events.events import shard_of
from tests.support.pipeline.process import PipelineProcess, pipeline_process
from tests.support.receivers.receiver import Receiver, receiver
from tests.support.values.builders import TENANTS

ROUTES = 100
CONCURRENCY = 4
# One event of the tenant fills memory, and nothing of it is written down instead of sent.
FILLED_BY_ONE = Tunables(max_pairs=64, persist_seconds=60.0, max_queued_seconds=60.0, aside_seconds=0.0)


@pytest.mark.parametrize("is_neighbour", [False, True])
async def test_an_event_for_very_many_routes_holds_up_no_other_tenant(database_url: str, is_neighbour: bool) -> None:
    async with (
        receiver() as there,
        pipeline_process(database_url, concurrency=CONCURRENCY, tunables=FILLED_BY_ONE) as it,
    ):
        await _many_routes(it, there)
        quiet = next(
            name for name in (*TENANTS, *map("t{}".format, range(1000)))
            if name != "acme" and (shard_of(name) == shard_of("acme")) is is_neighbour
        )  # fmt: skip
        await it.route(f"{there.url}/quiet", tenant=quiet)
        await it.publish()
        await there.until(lambda: len(there.received) >= CONCURRENCY)
        await it.publish(count=2)  # they wait for room in memory
        for number in range(1, 4):
            await it.publish(tenant=quiet)
            await there.count(number, path="/quiet")
        assert len(there.received) < ROUTES / 2


async def test_receivers_of_one_tenant_that_hang_leave_workers_to_the_others(database_url: str) -> None:
    async with (
        receiver() as there,
        pipeline_process(database_url, concurrency=CONCURRENCY, route_concurrency=1, timeout_seconds=60.0) as it,
    ):
        opened = asyncio.Event()

        async def hang(_request: web.Request) -> web.Response:
            await opened.wait()
            return web.Response(status=204)

        for number in range(6 * CONCURRENCY):
            there.answer[f"/{number}"] = hang
            await it.route(f"{there.url}/{number}")
        await it.route(f"{there.url}/quiet", tenant="quiet")
        await it.publish()
        at_most = int(TENANT_PART * 2 * CONCURRENCY)
        await there.until(lambda: len(there.received) == at_most)
        for number in range(1, 4):
            await it.publish(tenant="quiet")
            await there.count(number, path="/quiet", seconds=20)
        assert len(there.received) == at_most + 3
        opened.set()
        await there.count(6 * CONCURRENCY + 3)


async def _many_routes(it: PipelineProcess, there: Receiver) -> None:
    async def slow(_request: web.Request) -> web.Response:
        await asyncio.sleep(0.5)
        return web.Response(status=204)

    for number in range(ROUTES):
        there.answer[f"/{number}"] = slow
        await it.route(f"{there.url}/{number}")
