"""The checkpoint depends on PostgreSQL only: a receiver that never answers holds up neither it nor other receivers."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from aiohttp import web

from daemon.core.delivery.retry import RetryPolicy
from daemon.core.routing.route import Route
from tests.support.pipeline.process import PipelineProcess, pipeline_process
from tests.support.receivers.receiver import Receiver, receiver


async def hanging_beside_others(it: PipelineProcess, there: Receiver, never: asyncio.Event) -> tuple[Route, list[str]]:
    """A route of 30 requests that hang until `never` is set, while 200 later events of another route are delivered.

    Returns when all of them are accounted for. Each hanging request has a row then.
    """

    async def hang(_request: web.Request) -> web.StreamResponse:
        await never.wait()
        return web.Response()

    there.answer["/hang"] = hang
    dead = await it.route(there.url + "/hang", "order.create")
    await it.route(there.url + "/well", "*")
    hanging = await it.publish("order.create", count=30)
    await there.count(16, path="/hang")
    others = await it.publish("item.change", count=200)
    await there.count(230, path="/well")
    await it.until_accounted()
    (row,) = await it.rows(
        "SELECT (SELECT count(*) FROM hookledger.retry) + (SELECT coalesce(sum(cardinality(seqs)), 0) FROM hookledger.parked)"
        " + (SELECT count(*) FROM hookledger.attempt WHERE route_id = $1) AS accounted",
        dead.id,
    )
    assert row["accounted"] >= 30
    assert set(others) <= set(await it.outcomes())
    return dead, hanging


NOTHING_WAITS = "SELECT (SELECT count(*) FROM hookledger.retry) + (SELECT count(*) FROM hookledger.parked) = 0"


async def test_it_moves_on_while_one_route_never_answers(database_url: str) -> None:
    never = asyncio.Event()
    async with receiver() as there, pipeline_process(database_url, timeout_seconds=100) as it:
        dead, hanging = await hanging_beside_others(it, there, never)
        assert await it.outcomes(dead.id) == {}
        never.set()
        await it.until_row("SELECT count(*) = 30 FROM hookledger.attempt WHERE route_id = $1", dead.id)
        assert await it.outcomes(dead.id) == {event_id: ["delivered"] for event_id in hanging}
        await it.until_row(NOTHING_WAITS)


async def test_requests_that_it_has_passed_end_by_their_timeout(database_url: str) -> None:
    never = asyncio.Event()
    once = RetryPolicy(first=timedelta(hours=1), cap=timedelta(hours=1), attempts=1)
    async with receiver() as there, pipeline_process(database_url, timeout_seconds=2.5, retry=once) as it:
        dead, hanging = await hanging_beside_others(it, there, never)
        await it.until_row("SELECT count(*) = 30 FROM hookledger.attempt WHERE route_id = $1", dead.id)
        assert await it.outcomes(dead.id) == {event_id: ["failed"] for event_id in hanging}
        assert {
            r["error"] for r in await it.rows("SELECT error FROM hookledger.attempt WHERE route_id = $1", dead.id)
        } == {"timeout"}
        await it.until_row(NOTHING_WAITS)
        never.set()


async def test_it_never_passes_a_delivery_without_a_row(database_url: str) -> None:
    """During a load, each pair behind the checkpoint always has an outcome, a retry or a parked entry."""
    async with receiver() as there, pipeline_process(database_url) as it:
        for n in range(4):
            await it.route(f"{there.url}/{n}", "*")
        watched = 0
        published = 0
        async with asyncio.timeout(30):
            while published < 1000 or watched < 10:
                published += len(await it.publish(count=50))
                (row,) = await it.rows(
                    """
                    WITH upto AS MATERIALIZED (SELECT shard, tick FROM hookledger.checkpoint),
                    behind AS (SELECT e.seq, e.shard FROM hookledger.domain_event e JOIN upto USING (shard)
                                WHERE hookledger.tick_of(e.txid) <= upto.tick),
                    accounted AS (SELECT a.route_id, a.seq FROM behind JOIN hookledger.attempt a USING (seq)
                                   UNION SELECT r.route_id, r.seq FROM behind JOIN hookledger.retry r USING (seq)
                                   UNION SELECT p.route_id, b.seq FROM behind b JOIN hookledger.parked p ON b.seq = ANY (p.seqs))
                    SELECT (SELECT count(*) FROM behind) AS events, (SELECT count(*) FROM accounted) AS pairs
                    """
                )
                assert row["pairs"] == row["events"] * 4
                watched += 1
        await it.until_accounted()
        # On a slow machine some of the accounted pairs may be parked.
        await there.count(published * 4, seconds=30)
        await it.until_row("SELECT count(*) = $1 FROM hookledger.attempt", published * 4, seconds=30)
        assert len(there.received) == published * 4
