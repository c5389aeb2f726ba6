"""A running daemon adds up the outcomes that it records."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from daemon.core.delivery.retry import RetryPolicy
from daemon.pipeline.tunables import Tunables
from daemon.pipeline.upkeep.maintenance import MetricsRollup
from eventstore.postgres.connect import Database
from eventstore.queries.metrics import route_metrics, tally
from eventstore.queries.metrics.route_metrics import Counts
from tests.support.pipeline.process import pipeline_process
from tests.support.receivers.receiver import receiver, status
from tests.support.until import until
from tests.support.values.deliveries import delivery, outcome

SECONDS = 30.0


async def test_what_is_recorded_is_added_up_and_stays_the_same(database_url: str) -> None:
    tunables = Tunables(add_up_seconds=0.05)
    twice = RetryPolicy(first=timedelta(seconds=0.05), cap=timedelta(seconds=0.05), attempts=2)
    async with receiver() as there, pipeline_process(database_url, retry=twice, tunables=tunables) as it:
        there.answer["/failing"] = status(500)
        fine, failing = await it.route(f"{there.url}/fine"), await it.route(f"{there.url}/failing")
        await it.publish(count=3)
        await it.until_row(
            "SELECT coalesce(sum(successful), 0) = 3 AND coalesce(sum(failed), 0) = 3 FROM hookledger.route_metric",
            seconds=SECONDS,
        )
        await it.until_row("SELECT count(*) = 0 FROM hookledger.route_tally", seconds=SECONDS)
        for route, expected in ((fine, Counts(successful=3)), (failing, Counts(failed=3))):
            metrics = await route_metrics.read(it.database, route.id)
            assert (sum(metrics.periods.values(), Counts()), metrics.pending) == (expected, 0)


async def test_after_it_has_found_nothing_it_waits_for_outcomes(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [3, 0, 0]

    async def add_up(_database: Database) -> int:
        return found.pop(0)

    monkeypatch.setattr(tally, "add_up", add_up)
    rollup = MetricsRollup(Database("postgresql://nowhere.invalid/nothing"), Tunables(add_up_seconds=0.0))
    async with asyncio.timeout(SECONDS):
        await rollup.run_once()
        waiting = asyncio.ensure_future(rollup.run_once())
        await until(lambda: len(found) == 1)
        for _ in range(10):
            await asyncio.sleep(0)
        assert not waiting.done()
        rollup.recorded([], [])
        await asyncio.sleep(0)
        assert not waiting.done(), "a checkpoint is nothing to add up"
        rollup.recorded([outcome(delivery(1, tick=1))], [])
        await waiting
