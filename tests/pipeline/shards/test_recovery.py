"""Crashes at any point, checked by the publisher's and the receiver's log: nothing is lost, and only unrecorded requests
are repeated."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter

import pytest

from daemon.core.delivery.retry import RetryPolicy
from eventstore.postgres.errors import StoreUnavailable
from eventstore.progress import backlog, recording
from tests.support.pipeline.crash import crashing_process, possible_duplicates
from tests.support.pipeline.process import pipeline_process
from tests.support.receivers.receiver import Receiver, receiver, status

ROUTES = 4


def pairs_of(there: Receiver) -> Counter[tuple[str, str]]:
    return Counter((got.path, json.loads(got.body)["id"]) for got in there.received)


async def crash_and_recover(database_url: str, *, events: int, crashes: int, seed: int) -> None:
    dice = random.Random(seed)
    published: list[str] = []
    allowed = 0
    total = events * ROUTES
    async with receiver() as there:
        for _ in range(crashes):
            async with crashing_process(database_url) as it:
                if not published:
                    for path in range(ROUTES):
                        await it.route(f"{there.url}/{path}")
                published += await it.publish(count=events // crashes)
                await there.count(int(len(published) * ROUTES * dice.uniform(0.2, 0.95)))
                for _turn in range(dice.randrange(20)):
                    await asyncio.sleep(0)
            allowed += possible_duplicates(it)
        async with pipeline_process(database_url) as it:
            await it.until_accounted()
            await it.until_row("SELECT count(DISTINCT (seq, route_id)) = $1 FROM hookledger.attempt", total)
            await it.until_row("SELECT count(*) = 0 FROM hookledger.parked")
            counts = pairs_of(there)
            assert len(counts) == total == len(published) * ROUTES, "lost"
            assert counts.total() - total <= allowed
            words = await it.rows("SELECT outcome, count(*) AS n FROM hookledger.attempt GROUP BY outcome")
            assert words == [{"outcome": "delivered", "n": total}]


@pytest.mark.parametrize("seed", range(3))
async def test_nothing_is_lost_in_crashes_at_random_points(database_url: str, seed: int) -> None:
    await crash_and_recover(database_url, events=500, crashes=5, seed=seed)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10, 20))
async def test_nothing_is_lost_in_many_crashes_at_random_points(database_url: str, seed: int) -> None:
    await crash_and_recover(database_url, events=5000, crashes=20, seed=seed)


async def test_retries_survive_a_crash(database_url: str) -> None:
    async with receiver() as there:
        there.answer["/"] = status(500)
        async with crashing_process(database_url) as it:
            await it.route(there.url + "/")
            published = await it.publish(count=100)
            await it.until_row("SELECT count(*) >= 50 FROM hookledger.attempt")
        there.answer.clear()
        async with pipeline_process(database_url) as it:
            await it.until_row("SELECT count(*) = 100 FROM hookledger.attempt WHERE outcome = 'delivered'")
            await it.until_row("SELECT count(*) = 0 FROM hookledger.retry")
            outcomes = await it.outcomes()
            assert set(outcomes) == set(published)
            assert all(words[-1] == "delivered" for words in outcomes.values())


async def test_a_successor_reads_none_of_what_is_accounted_for(database_url: str) -> None:
    """The outcomes were written and the checkpoint was not, as if the process had died between two flushes."""
    async with receiver() as there:
        async with pipeline_process(database_url) as it:
            await it.route(there.url)
            await it.publish(count=50)
            await it.until_accounted()
        async with pipeline_process(database_url, run=False) as it:
            await it.rows("UPDATE hookledger.checkpoint SET tick = 0 RETURNING 1")
        async with pipeline_process(database_url) as it:
            await it.until_accounted()
            assert len(there.received) == 50
            assert len(await it.outcomes()) == 50


async def test_a_retry_of_a_route_that_is_younger_than_the_projection_is_taken_over(database_url: str) -> None:
    async with receiver() as there:
        there.answer["/"] = status(500)
        async with pipeline_process(database_url, run=False) as late:
            async with crashing_process(database_url, retry=RetryPolicy()) as it:
                await it.route(there.url + "/")
                await it.publish()
                await it.until_row("SELECT count(*) = 1 FROM hookledger.retry")
                await it.rows("UPDATE hookledger.retry SET due_at = '-infinity' RETURNING 1")
            assert late.projection.index.position == 0
            there.answer.clear()
            running = asyncio.ensure_future(late.pipeline.run())
            await late.until_row("SELECT count(*) = 1 FROM hookledger.attempt WHERE outcome = 'delivered'")
            late.pipeline.stop()
            await running


async def test_nothing_is_sent_before_all_of_the_takeover_is_done(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stages start together with the lease, wherever the takeover is slow."""
    for name in ("checkpoints", "accounted", "parked_routes", "retrying_routes"):
        real = getattr(backlog, name)

        async def slowly(*arguments: object, _real: object = real, **options: object) -> object:
            result = await _real(*arguments, **options)  # type: ignore[operator] # a function of a module
            for _ in range(50):
                await asyncio.sleep(0.001)
            return result

        monkeypatch.setattr(backlog, name, slowly)
    async with receiver() as there:
        async with pipeline_process(database_url, run=False) as it:
            await it.route(there.url)
            await it.publish(count=20)
        async with pipeline_process(database_url) as it:
            await it.until_accounted()
            await it.until_row("SELECT count(*) = 20 FROM hookledger.attempt")
            assert len(there.received) == 20


async def test_an_answer_lost_at_the_commit_of_a_flush_writes_no_outcome_twice(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush = recording.flush
    lost: list[int] = []

    async def deaf(*arguments: object, number: int, **options: object) -> object:
        held = await flush(*arguments, number=number, **options)  # type: ignore[arg-type] # passed on as they came
        if number not in lost:
            lost.append(number)
            raise StoreUnavailable("the connection was cut after the commit")
        return held

    monkeypatch.setattr(recording, "flush", deaf)
    monkeypatch.setattr("daemon.pipeline.recording.recorder._BACKOFF_SECONDS", 0.01)
    async with receiver() as there, pipeline_process(database_url) as it:
        there.answer["/retry"] = status(500)
        await it.route(there.url + "/ok")
        await it.route(there.url + "/retry", "order.cancel")
        ids = await it.publish(count=300)
        await it.publish("order.cancel", count=5)
        await it.until_row("SELECT count(*) = 5 FROM hookledger.attempt WHERE outcome = 'failed'")
        await it.until_accounted()
        assert len(lost) > 2
        (row,) = await it.rows(
            "SELECT count(*) AS n, count(DISTINCT (route_id, seq, number)) AS single FROM hookledger.attempt"
        )
        assert row["n"] == row["single"] == 300 + 5 + 25
        assert [(await it.outcomes())[i] for i in ids] == [["delivered"]] * 300
