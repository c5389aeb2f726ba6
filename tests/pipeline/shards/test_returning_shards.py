"""Shards that leave a process and come back: state from before they left or from meanwhile must not be used."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import Any

import pytest

from daemon.core.delivery.retry import RetryPolicy
from daemon.pipeline.tunables import Tunables
from eventstore.domain_events.events import shard_of
from tests.pipeline.shards.test_processes import LONG, HeldReceiver, holds_all, until_shared
from tests.support.pipeline.process import PipelineProcess, pipeline_process
from tests.support.receivers.receiver import Received, receiver, status
from tests.support.until import until
from tests.support.values.builders import TENANTS

LATE = RetryPolicy(first=timedelta(hours=1), cap=timedelta(hours=1))
SOON = RetryPolicy(first=timedelta(seconds=2), cap=timedelta(seconds=2), attempts=9)
DELIVERED_TWICE = """
SELECT count(*) FROM (SELECT FROM hookledger.attempt WHERE outcome = 'delivered' GROUP BY route_id, seq HAVING count(*) > 1) t
"""


@pytest.mark.parametrize("each", [30, 300])
async def test_a_probe_that_fails_after_its_shard_has_left_does_not_bring_the_lane_back(
    database_url: str, each: int
) -> None:
    tunables = Tunables(breaker_first_pause_seconds=0.3, breaker_longest_pause_seconds=0.5)
    options: dict[str, Any] = {"breaker_failures": 1, "route_concurrency": 1, "retry": LATE}
    async with receiver() as there, pipeline_process(database_url, **options, tunables=tunables) as one:
        gate = HeldReceiver(there)
        gate.status = 500
        await until(lambda: holds_all(one), seconds=LONG)
        for tenant in TENANTS:
            await one.route(there.url + "/", tenant=tenant)
            await one.publish(tenant=tenant, count=1)
        gate.release(len(TENANTS))
        await one.until_row("SELECT count(*) = $1 FROM hookledger.attempt", len(TENANTS), seconds=LONG)
        for tenant in TENANTS:
            await one.publish(tenant=tenant, count=each)
        await one.until_row("SELECT sum(pairs) >= $1 FROM hookledger.parked", len(TENANTS) * each, seconds=LONG)
        lanes = one.pipeline._lanes
        await until(lambda: len(lanes.in_flight) == len(TENANTS), seconds=LONG)
        async with pipeline_process(database_url, **options, tunables=tunables) as two:
            await until_shared(one, two)
            gone = set(two.pipeline.shards.held)
            gate.release(100_000)
            await until(lambda: not any(delivery.shard in gone for delivery in lanes.in_flight), seconds=LONG)
            assert not any(lane.is_parking for lane in lanes if lane.shard in gone)
            gate.status = 200
            await two.until_row(
                "SELECT count(*) = 0 FROM hookledger.parked WHERE shard = ANY ($1::smallint[])", list(gone), seconds=60
            )
        await until(lambda: holds_all(one), seconds=LONG)
        await one.until_row("SELECT count(*) = 0 FROM hookledger.parked", seconds=60)
        assert await one.rows(DELIVERED_TWICE) == [{"count": 0}]


async def test_the_order_holds_when_a_shard_leaves_and_comes_back(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url, retry=SOON) as one:
        await until_shared(one)
        for tenant in TENANTS:
            await one.route(f"{there.url}/{tenant}", tenant=tenant, ordered=True)
        async with pipeline_process(database_url, retry=SOON) as two:
            # The lanes are busy while their shards leave.
            async with asyncio.timeout(LONG):
                while not two.pipeline.shards.held:
                    for tenant in TENANTS:
                        await one.publish(tenant=tenant)
            await until_shared(one, two)
            await one.until_accounted(seconds=LONG)
            tenants = [tenant for tenant in TENANTS if _is_of(two, tenant)]
            assert tenants
            for tenant in tenants:
                there.answer["/" + tenant] = status(503)
            failed = {tenant: (await two.publish(tenant=tenant))[0] for tenant in tenants}
            await two.until_row("SELECT count(*) = $1 FROM hookledger.retry", len(tenants), seconds=LONG)
        await until_shared(one)
        for tenant in tenants:
            del there.answer["/" + tenant]
        there.received.clear()
        later = {tenant: (await one.publish(tenant=tenant))[0] for tenant in tenants}
        await one.until_row("SELECT count(*) = 0 FROM hookledger.retry", seconds=LONG)
        await one.until_accounted(seconds=LONG)
        for tenant in tenants:
            await there.count(2, path="/" + tenant, seconds=LONG)
            assert _ids(there.at("/" + tenant)) == [failed[tenant], later[tenant]]


def _is_of(it: PipelineProcess, tenant: str) -> bool:
    return shard_of(tenant) in it.pipeline.shards.held


def _ids(received: list[Received]) -> list[str]:
    return [json.loads(got.body)["id"] for got in received]
