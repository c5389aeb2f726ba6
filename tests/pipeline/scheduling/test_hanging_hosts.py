"""A host at which the receivers of very many tenants hang at once: what the others wait for, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import UUID

from aiohttp import web
from structlog.testing import capture_logs

from daemon.core.routing.route import Route
from daemon.pipeline.scheduling.lane import Lane
from tests.pipeline.sending.test_sample_events import load_catalogue, send_test_events
from tests.support.pipeline.process import PipelineProcess, pipeline_process
from tests.support.receivers.receiver import Receiver, gate, receiver
from tests.support.until import until

TENANTS = 60
# Half of the workers: without more the host would have them all after two seconds.
CONCURRENCY = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Outage:
    """Webhooks of many tenants at one `host`, which hangs until `opened` is set, and of one tenant at `elsewhere`."""

    it: PipelineProcess
    host: Receiver
    elsewhere: Receiver
    opened: asyncio.Event
    routes: dict[UUID, Route]

    @property
    def held(self) -> int:
        return sum(len(hanging.lanes) for hanging in self.it.pipeline._lanes._hosts.held.values())

    @property
    def last_held(self) -> Lane:
        (hanging,) = self.it.pipeline._lanes._hosts.held.values()
        return hanging.lanes[-1]

    async def until_found(self) -> None:
        """Until it was found out that the host hangs, and lanes wait for it."""
        await until(lambda: self.held > 0)


@asynccontextmanager
async def outage(database_url: str, *, code: int = 204) -> AsyncIterator[Outage]:
    async with (
        receiver() as host,
        receiver() as elsewhere,
        pipeline_process(database_url, concurrency=CONCURRENCY, route_concurrency=2, timeout_seconds=60) as it,
    ):
        opened = gate(host, "/hook", code)
        routes = [await it.route(f"{host.url}/hook", tenant=f"t{number}") for number in range(TENANTS)]
        await it.route(f"{elsewhere.url}/hook", tenant="quiet")
        for number in range(TENANTS):
            await it.publish(tenant=f"t{number}")
        yield Outage(it=it, host=host, elsewhere=elsewhere, opened=opened, routes={route.id: route for route in routes})
        opened.set()


async def test_a_host_that_hangs_leaves_workers_to_the_others(database_url: str) -> None:
    async with outage(database_url) as the:
        await the.until_found()
        for number in range(1, 4):
            await the.it.publish(tenant="quiet")
            await the.elsewhere.count(number)
        await the.host.count(CONCURRENCY + 2)  # there are probes
        await the.it.publish(tenant="quiet")
        await the.elsewhere.count(4)
        assert len(the.host.received) < 2 * CONCURRENCY


async def test_a_host_that_hangs_leaves_the_places_for_slow_receivers_to_those_that_answer(database_url: str) -> None:
    async with outage(database_url) as the:
        there, it = the.elsewhere, the.it

        async def slowly(_request: web.Request) -> web.StreamResponse:
            await asyncio.sleep(1.5)
            return web.Response(status=204)

        there.answer["/hook"] = slowly
        await it.publish(tenant="quiet")
        await there.count(1)
        await the.until_found()
        await until(lambda: len(it.pipeline._lanes.in_flight) > CONCURRENCY)
        await it.until_row("SELECT count(*) = 1 FROM hookledger.attempt WHERE tenant = 'quiet'")
        for number in range(2, 5):
            await it.publish(tenant="quiet")
            await there.count(number, seconds=20)
        (lane,) = [lane for lane in it.pipeline._lanes if lane.tenant == "quiet"]
        assert lane.is_slow
        assert not the.opened.is_set()


async def test_once_a_host_answers_everything_is_sent_to_it_at_once(database_url: str) -> None:
    async with outage(database_url) as the:
        await the.until_found()
        the.opened.set()
        await the.host.count(TENANTS)
        await the.it.until_row(f"SELECT count(*) = {TENANTS} FROM hookledger.attempt WHERE outcome = 'delivered'")
        lanes = the.it.pipeline._lanes
        await until(lambda: not lanes.in_flight and not lanes._hosts.held)
        assert not lanes._hosts._slow
        assert (lanes._fast.in_flight, lanes._slow.in_flight) == (0, 0)


async def test_where_a_host_fails_instead_everything_is_still_tried(database_url: str) -> None:
    async with outage(database_url, code=500) as the:
        await the.until_found()
        the.opened.set()
        await the.it.until_row(
            f"SELECT count(DISTINCT route_id) = {TENANTS} FROM hookledger.attempt WHERE outcome = 'retrying'"
        )
        await until(lambda: not the.it.pipeline._lanes._hosts.held)


async def test_a_webhook_that_is_edited_away_from_a_host_that_hangs_does_not_wait(database_url: str) -> None:
    async with outage(database_url) as the:
        await the.until_found()
        held = the.last_held
        await the.it.edit(the.routes[held.route_id], target_url=f"{the.elsewhere.url}/moved")
        await the.elsewhere.count(1, path="/moved")


async def test_a_test_event_goes_out_at_once_to_a_host_that_hangs(database_url: str) -> None:
    async with outage(database_url) as the:
        await load_catalogue(the.it, "order.create")
        await the.until_found()
        held = the.last_held
        await send_test_events(the.it, the.routes[held.route_id])
        # The last one of those that wait for a probe would have to wait for half a minute.
        await the.host.until(lambda: any("Hookledger-Test" in each.headers for each in the.host.received), seconds=10)


async def test_the_log_says_which_host_hangs_and_when_it_answers(database_url: str) -> None:
    async with outage(database_url) as the:
        with capture_logs() as lines:
            await until(lambda: "host.hangs" in [line["event"] for line in lines])
            the.opened.set()
            await until(lambda: "host.answers" in [line["event"] for line in lines])
        told = [line for line in lines if line["event"].startswith("host.")]
        assert [line["event"] for line in told] == ["host.hangs", "host.answers"]
        assert {line["host"] for line in told} == {the.host.url.removeprefix("http://")}
        assert told[0]["requests"] >= CONCURRENCY
        assert told[0]["webhooks_waiting"] > 0
