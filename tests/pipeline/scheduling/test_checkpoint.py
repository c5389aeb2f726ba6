"""The checkpoint depends on PostgreSQL only: a receiver that never answers holds up neither it nor anybody else."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

from aiohttp import web

from daemon.core.delivery.retry import RetryPolicy
from tests.support.house import house
from tests.support.receiver import receiver


async def test_it_moves_on_while_one_route_never_answers(database_url: str) -> None:
    never = asyncio.Event()

    async def hang(_request: web.Request) -> web.StreamResponse:
        await never.wait()
        return web.Response()

    once = RetryPolicy(first=timedelta(hours=1), cap=timedelta(hours=1), attempts=1)
    async with receiver() as there, house(database_url, timeout_seconds=2.5, retry=once) as it:
        there.answer["/hang"] = hang
        dead = await it.route(there.url + "/hang", "order.create")
        await it.route(there.url + "/well", "*")
        hanging = await it.publish("order.create", count=30)
        await there.count(16, path="/hang")
        began = time.monotonic()
        others = await it.publish("item.change", count=200)
        await there.count(230, path="/well", seconds=1)
        await it.until_accounted(seconds=3)
        assert time.monotonic() - began < 3.3
        # Nothing is lost: what hangs has a row that says so.
        (row,) = await it.rows(
            "SELECT (SELECT count(*) FROM hookledger.retry) + (SELECT coalesce(sum(cardinality(seqs)), 0) FROM hookledger.parked)"
            " + (SELECT count(*) FROM hookledger.attempt WHERE route_id = $1) AS accounted",
            dead.id,
        )
        assert row["accounted"] >= 30
        await it.until_row("SELECT count(*) = 30 FROM hookledger.attempt WHERE route_id = $1", dead.id)
        assert await it.outcomes(dead.id) == {event_id: ["failed"] for event_id in hanging}
        assert {
            r["error"] for r in await it.rows("SELECT error FROM hookledger.attempt WHERE route_id = $1", dead.id)
        } == {"timeout"}
        await it.until_row(
            "SELECT (SELECT count(*) FROM hookledger.retry) + (SELECT count(*) FROM hookledger.parked) = 0"
        )
        assert set(others) <= set(await it.outcomes())
        never.set()


async def test_it_never_passes_a_delivery_without_a_row(database_url: str) -> None:
    """Looked at many times while a load runs: behind the checkpoint each pair has an outcome, a retry or a parked entry."""
    async with receiver() as there, house(database_url) as it:
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
                                WHERE hookledger.tick_of(e.txid) <= upto.tick)
                    SELECT count(*) AS events, coalesce(sum((SELECT count(*) FROM hookledger.attempt a WHERE a.seq = b.seq)
                         + (SELECT count(*) FROM hookledger.retry r WHERE r.seq = b.seq)
                         + (SELECT count(*) FROM hookledger.parked p WHERE b.seq = ANY (p.seqs))), 0) AS rows
                      FROM behind b
                    """
                )
                assert row["rows"] == row["events"] * 4
                watched += 1
        await it.until_accounted()
        # Accounted may also mean parked, on a machine that cannot keep up.
        await there.count(published * 4, seconds=30)
        await it.until_row("SELECT count(*) = $1 FROM hookledger.attempt", published * 4, seconds=30)
        assert len(there.received) == published * 4
