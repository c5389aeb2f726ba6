"""Replays: failed deliveries, or all of a period, are sent again without disturbing other routes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from daemon import audit
from daemon.commands import Conflict
from daemon.core.delivery.retry import RetryPolicy
from daemon.core.routing.route import Route
from daemon.deliveries import replays
from daemon.deliveries.replays import ReplayPeriod, ReplayStatus
from daemon.pipeline.tunables import Tunables
from eventstore.progress.replays import Replay
from tests.support.pipeline.crash import crashing_process, possible_duplicates
from tests.support.pipeline.process import CONTEXT, PipelineProcess, pipeline_process
from tests.support.receivers.receiver import Receiver, gate, receiver, status
from tests.support.rows.credentials import LOG_MACS
from tests.support.until import until

ONCE = RetryPolicy(first=timedelta(seconds=1), attempts=1)
# One attempt per delivery, and a breaker that tolerates many failures.
PATIENT: dict[str, Any] = {"retry": ONCE, "breaker_failures": 1000}
EVER = ReplayPeriod(since=datetime(2000, 1, 1, tzinfo=UTC), until=datetime(2100, 1, 1, tzinfo=UTC))


SMALL_PARTS = Tunables(replay_part_seqs=5, replay_waiting_rows=10, replay_pause_seconds=0.01)


async def failed_route(it: PipelineProcess, there: Receiver, count: int) -> Route:
    """A route with `count` deliveries that failed for good. The process must have the settings `PATIENT`."""
    there.answer["/"] = status(500)
    route = await it.route(there.url + "/")
    await it.publish(count=count)
    await it.until_row("SELECT count(*) = $1 FROM hookledger.attempt", count, seconds=20)
    return route


async def no_findings(it: PipelineProcess) -> None:
    report = await audit.audit(it.database, start=EVER.since, end=EVER.until)
    assert not report.findings
    assert not report.unread


async def begin(
    it: PipelineProcess, route: Route, wanted: ReplayStatus = ReplayStatus.FAILED, period: ReplayPeriod = EVER
) -> Replay:
    timeline = it.projection.index.timeline(route.id)
    assert timeline is not None
    return await replays.begin(it.database, timeline.current, period, wanted, CONTEXT, macs=LOG_MACS)


async def until_ended(it: PipelineProcess, replay: Replay, state: str = "done") -> dict[str, object]:
    await it.until_row("SELECT state <> 'running' FROM hookledger.replay WHERE id = $1", replay.id, seconds=30)
    (row,) = await it.rows("SELECT * FROM hookledger.replay WHERE id = $1", replay.id)
    assert row["state"] == state
    assert await it.rows("SELECT * FROM hookledger.replay_part") == []
    return row


async def test_what_failed_is_sent_again_and_what_was_delivered_is_not(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url, retry=ONCE) as it:
        there.answer["/"] = status(500)
        route = await it.route(there.url + "/")
        failed = await it.publish(count=15)
        await it.until_row("SELECT count(*) = 15 FROM hookledger.attempt")
        there.answer.clear()
        delivered = await it.publish(count=5)
        await it.until_row("SELECT count(*) = 20 FROM hookledger.attempt")
        replay = await begin(it, route)
        assert replay.total == 15
        row = await until_ended(it, replay)
        assert row["scheduled"] == 15
        outcomes = await it.outcomes()
        assert {i: outcomes[i] for i in failed} == {i: ["failed", "delivered"] for i in failed}
        assert {i: outcomes[i] for i in delivered} == {i: ["delivered"] for i in delivered}
        assert await it.rows("SELECT * FROM hookledger.retry") == []


async def test_all_of_a_period_comes_in_order_under_the_same_ids(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url) as it:
        route = await it.route(there.url + "/", ordered=True)
        await it.publish(count=30)
        await it.until_row("SELECT count(*) = 30 FROM hookledger.attempt")
        first = [got.headers["webhook-id"] for got in there.received]
        await until_ended(it, await begin(it, route, ReplayStatus.ALL))
        assert [got.headers["webhook-id"] for got in there.received] == first * 2
        await no_findings(it)


async def test_little_of_a_replay_is_in_line_at_a_time(database_url: str) -> None:
    async with (
        receiver() as there,
        pipeline_process(database_url, **PATIENT, route_concurrency=2, tunables=SMALL_PARTS) as it,
    ):
        route = await failed_route(it, there, 60)
        opened = gate(there, "/")
        replay = await begin(it, route)
        await it.until_row("SELECT count(*) = 10 FROM hookledger.retry WHERE replay = $1", replay.id)
        await there.count(62)
        (row,) = await it.rows("SELECT scheduled FROM hookledger.replay")
        assert row["scheduled"] == 10
        opened.set()
        row = await until_ended(it, replay)
        assert (row["total"], row["scheduled"]) == (60, 60)
        assert set(map(tuple, (await it.outcomes()).values())) == {("failed", "delivered")}
        assert len(there.received) == 120


async def test_cancelled_it_sends_no_more_than_what_was_under_way(database_url: str) -> None:
    async with (
        receiver() as there,
        pipeline_process(database_url, **PATIENT, route_concurrency=2, tunables=SMALL_PARTS) as it,
    ):
        route = await failed_route(it, there, 60)
        opened = gate(there, "/")
        replay = await begin(it, route)
        await there.count(62)
        await until(lambda: len(it.pipeline._working_set.seqs(route.id)) == 10)
        cancelled = await replays.cancel(it.database, replay, CONTEXT)
        assert (cancelled.state, cancelled.detail) == ("cancelled", "cancelled by test")
        await until(lambda: not it.pipeline._backlog.retrier.waiting_replays())
        opened.set()
        (live,) = await it.publish()
        await it.until_row("SELECT count(*) = 3 FROM hookledger.attempt WHERE outcome = 'delivered'")
        assert len(there.received) == 63
        outcomes = await it.outcomes()
        assert outcomes.pop(live) == ["delivered"]
        assert sorted(map(tuple, outcomes.values())) == [("failed",)] * 58 + [("failed", "delivered")] * 2
        assert await it.rows("SELECT * FROM hookledger.retry") == []
        await no_findings(it)


async def test_after_a_crash_it_goes_on_where_it_was(database_url: str) -> None:
    async with receiver() as there:
        async with crashing_process(database_url, **PATIENT, tunables=SMALL_PARTS) as it:
            route = await failed_route(it, there, 60)
            there.answer.clear()
            replay = await begin(it, route)
            await there.count(85)
        allowed = possible_duplicates(it)
        async with pipeline_process(database_url, **PATIENT, tunables=SMALL_PARTS) as it:
            row = await until_ended(it, replay)
            assert row["scheduled"] == 60
            assert set(map(tuple, (await it.outcomes()).values())) == {("failed", "delivered")}
            assert len(there.received) - 120 <= allowed
            await no_findings(it)


async def test_cancelled_after_a_crash_nothing_more_of_it_is_sent(database_url: str) -> None:
    async with receiver() as there:
        async with crashing_process(database_url, **PATIENT, tunables=SMALL_PARTS) as it:
            route = await failed_route(it, there, 60)
            there.answer.clear()
            replay = await begin(it, route)
            await there.count(75)
        async with pipeline_process(database_url, run=False, tunables=SMALL_PARTS) as it:
            assert (await replays.cancel(it.database, replay, CONTEXT)).state == "cancelled"
        there.received.clear()
        async with pipeline_process(database_url, **PATIENT, tunables=SMALL_PARTS) as it:
            (live,) = await it.publish()
            await it.until_row("SELECT count(*) = 1 FROM hookledger.attempt WHERE event_id = $1", live)
            await it.until_accounted()
            assert [json.loads(got.body)["id"] for got in there.received] == [live]
            assert {tuple(words) for words in (await it.outcomes()).values()} <= {
                ("failed",), ("failed", "delivered"), ("delivered",),
            }  # fmt: skip
            await no_findings(it)


async def test_handed_over_it_goes_on_elsewhere_and_nothing_is_sent_twice(database_url: str) -> None:
    async with receiver() as there:
        async with pipeline_process(database_url, **PATIENT, tunables=SMALL_PARTS) as it:
            route = await failed_route(it, there, 60)
            there.answer.clear()
            replay = await begin(it, route)
            await there.count(85)
        async with pipeline_process(database_url, **PATIENT, tunables=SMALL_PARTS) as it:
            row = await until_ended(it, replay)
            assert row["scheduled"] == 60
            assert len(there.received) == 120
            assert set(map(tuple, (await it.outcomes()).values())) == {("failed", "delivered")}


async def test_a_disable_ends_it(database_url: str) -> None:
    async with (
        receiver() as there,
        pipeline_process(database_url, **PATIENT, route_concurrency=2, tunables=SMALL_PARTS) as it,
    ):
        route = await failed_route(it, there, 60)
        opened = gate(there, "/")
        replay = await begin(it, route)
        await there.count(62)
        await it.disable(route)
        await it.enable(route)
        opened.set()
        row = await until_ended(it, replay, "cancelled")
        assert str(row["detail"]).startswith("the route was disabled at 20")
        assert str(row["detail"]).endswith(" UTC: what happened before is never sent")
        await it.until_row("SELECT count(*) = 0 FROM hookledger.retry")
        (live,) = await it.publish()
        await it.until_row("SELECT count(*) = 1 FROM hookledger.attempt WHERE event_id = $1", live)
        assert len(there.received) == 63
        assert {words[-1] for words in (await it.outcomes()).values()} <= {"failed", "delivered", "suppressed"}
        with pytest.raises(Conflict, match=r"before .* when the route was enabled"):
            await begin(
                it, route, period=ReplayPeriod(since=EVER.since, until=route.created_at + timedelta(microseconds=1))
            )
        await no_findings(it)


async def test_a_receiver_that_is_down_is_probed_and_not_stormed(database_url: str) -> None:
    async with (
        receiver() as there,
        pipeline_process(database_url, retry=ONCE, breaker_failures=5, route_concurrency=4, tunables=SMALL_PARTS) as it,
    ):
        route = await it.route(there.url + "/")
        await it.publish(count=60)
        await it.until_row("SELECT count(*) = 60 FROM hookledger.attempt")
        there.answer["/"] = status(503)
        replay = await begin(it, route, ReplayStatus.ALL)
        await it.until_row(
            "SELECT scheduled > 0 AND NOT EXISTS (SELECT FROM hookledger.retry WHERE replay IS NOT NULL) FROM hookledger.replay"
        )
        # Those queued when the breaker opened, and a probe or two since, but not all.
        assert len(there.received) <= 90
        there.answer.clear()
        row = await until_ended(it, replay)
        assert row["scheduled"] == 60
        await it.until_row("SELECT count(DISTINCT seq) = 60 FROM hookledger.attempt WHERE number = 2")


async def test_a_failed_resend_leaves_a_delivery_with_its_attempts_left(database_url: str) -> None:
    policy = RetryPolicy(first=timedelta(seconds=0.1), cap=timedelta(seconds=0.1), attempts=3)
    async with receiver() as there, pipeline_process(database_url, retry=policy) as it:
        route = await it.route(there.url + "/")
        (event_id,) = await it.publish()
        await it.until_row("SELECT count(*) = 1 FROM hookledger.attempt")
        there.answer["/"] = status(500)
        await until_ended(it, await begin(it, route, ReplayStatus.ALL))
        await it.until_row("SELECT count(*) = 3 FROM hookledger.attempt")
        assert await it.outcomes() == {event_id: ["delivered", "retrying", "failed"]}
