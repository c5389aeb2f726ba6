"""A disable suppresses all pending deliveries for ever (daemon/README.md, The rules of routing)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from daemon import audit
from daemon.core.delivery.retry import RetryPolicy
from daemon.pipeline.tunables import Tunables
from tests.support.pipeline.crash import crashing_process
from tests.support.pipeline.process import CONTEXT, PipelineProcess, pipeline_process
from tests.support.receivers.receiver import gate, receiver, status
from tests.support.until import until

DELIVERED, UNSENT, AFTER_A_TRY = ["delivered"], ["suppressed"], ["retrying", "suppressed"]
LATER = RetryPolicy(first=timedelta(hours=1), cap=timedelta(hours=1))


async def no_findings(it: PipelineProcess) -> None:
    report = await audit.audit(
        it.database, start=datetime(2000, 1, 1, tzinfo=UTC), end=datetime(2100, 1, 1, tzinfo=UTC)
    )
    assert not report.findings
    assert not report.unread


async def test_what_happens_while_a_route_is_disabled_never_arrives(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url) as it:
        route = await it.route(there.url)
        before = await it.publish(count=3)
        await there.count(3)
        await it.disable(route)
        during = await it.publish(count=3)
        await it.until_accounted()
        await it.enable(route)
        after = await it.publish(count=3)
        await there.count(6)
        await it.until_accounted()
        outcomes = await it.outcomes()
        assert outcomes == dict.fromkeys(before + after, DELIVERED)
        assert [(await audit.explain(it.database, i))[0].verdict.value for i in during] == [
            "disabled_at_event_time"
        ] * 3
        assert len(there.received) == 6
        await no_findings(it)


async def test_a_daemon_that_slept_through_disable_and_enable_sends_nothing_of_the_time_between(
    database_url: str,
) -> None:
    async with receiver() as there:
        there.answer["/"] = status(500)
        async with pipeline_process(database_url, retry=LATER) as it:
            route = await it.route(there.url + "/")
            failing = await it.publish(count=3)
            await it.until_row("SELECT count(*) = 3 FROM hookledger.retry")
        async with pipeline_process(database_url, run=False) as it:
            unread = await it.publish(count=3)
            await it.disable(route)
            await it.publish(count=3)
            await it.enable(route)
            wanted = await it.publish(count=3)
        there.answer.clear()
        there.received.clear()
        async with pipeline_process(database_url) as it:
            await there.count(3)
            await it.until_accounted()
            await it.until_row("SELECT count(*) = 0 FROM hookledger.retry")
            assert len(there.received) == 3
            assert await it.outcomes() == (
                dict.fromkeys(failing, AFTER_A_TRY) | dict.fromkeys(unread, UNSENT) | dict.fromkeys(wanted, DELIVERED)
            )
            await no_findings(it)


async def test_pending_retries_are_suppressed_in_bulk_and_never_sent(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url, retry=LATER) as it:
        there.answer["/"] = status(500)
        route = await it.route(there.url + "/")
        ids = await it.publish(count=20)
        await it.until_row("SELECT count(*) = 20 FROM hookledger.retry")
        await it.disable(route)
        await it.until_row("SELECT count(*) = 0 FROM hookledger.retry", seconds=60)
        await it.enable(route)
        there.answer.clear()
        await it.publish()
        await there.count(21)
        await it.until_accounted()
        outcomes = await it.outcomes()
        assert {tuple(outcomes[i]) for i in ids} == {("retrying", "suppressed")}
        assert len(there.received) == 21


async def test_a_request_that_fails_after_the_disable_is_suppressed_at_once(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url, retry=LATER) as it:
        opened = gate(there, "/", 500)
        route = await it.route(there.url + "/")
        (event_id,) = await it.publish()
        await there.count(1)
        await it.disable(route)
        await it.enable(route)
        opened.set()
        await it.until_row("SELECT count(*) = 1 FROM hookledger.attempt WHERE outcome = 'suppressed'", seconds=60)
        assert await it.outcomes() == {event_id: ["retrying", "suppressed"]}


async def test_a_failure_not_yet_written_at_the_disable_does_not_wait_for_its_retry(database_url: str) -> None:
    """Its retry is created before the disable and written after it; without a check the row would stay until it is due."""
    tunables = Tunables(flush_seconds=60)
    async with receiver() as there, pipeline_process(database_url, retry=LATER, tunables=tunables) as it:
        there.answer["/"] = status(500)
        route = await it.route(there.url + "/")
        (event_id,) = await it.publish()
        await until(lambda: it.pipeline._recorder.backlog > 0)
        await it.disable(route)
        await it.until_row("SELECT count(*) = 1 FROM hookledger.attempt WHERE outcome = 'suppressed'", seconds=60)
        assert await it.outcomes() == {event_id: ["retrying", "suppressed"]}


async def test_each_parked_delivery_gets_one_last_word(database_url: str) -> None:
    """The route is disabled during a drain: each delivery is either sent or suppressed, none is both."""
    tunables = Tunables(lane_queue=10, unmeasured_lane_queue=10, low_water=10, chunk_events=20)
    async with receiver() as there, pipeline_process(database_url, route_concurrency=4, tunables=tunables) as it:
        opened = gate(there, "/")
        route = await it.route(there.url + "/")
        ids = await it.publish(count=400)
        await it.until_row("SELECT coalesce(sum(cardinality(seqs)), 0) > 300 FROM hookledger.parked")
        opened.set()
        await there.count(150)
        await it.disable(route)
        sent = len(there.received)
        await it.enable(route)
        await it.until_row("SELECT count(*) >= 400 FROM hookledger.attempt")
        await it.until_row("SELECT count(*) = 0 FROM hookledger.parked")
        (later,) = await it.publish()
        await it.until_row("SELECT count(*) = 1 FROM hookledger.attempt WHERE event_id = $1", later)
        await it.until_accounted()
        outcomes = await it.outcomes()
        words = [tuple(outcomes[i]) for i in ids]
        assert set(words) == {("delivered",), ("suppressed",)}
        # Requests that were connecting when the route was disabled may still have arrived.
        assert sent <= words.count(("delivered",)) <= sent + 4
        assert len(there.received) == words.count(("delivered",)) + 1
        assert outcomes[later] == ["delivered"]
        await no_findings(it)


async def test_parked_deliveries_of_a_route_that_does_not_answer_are_suppressed(database_url: str) -> None:
    tunables = Tunables(lane_queue=10, unmeasured_lane_queue=10)
    async with receiver() as there, pipeline_process(database_url, timeout_seconds=2, tunables=tunables) as it:
        gate(there, "/")
        route = await it.route(there.url + "/")
        ids = await it.publish(count=500)
        await it.until_row("SELECT coalesce(sum(cardinality(seqs)), 0) > 400 FROM hookledger.parked")
        await it.disable(route)
        await it.until_row("SELECT count(DISTINCT seq) = 500 FROM hookledger.attempt WHERE outcome = 'suppressed'")
        await it.until_row("SELECT count(*) = 0 FROM hookledger.parked")
        await it.until_row("SELECT count(*) = 0 FROM hookledger.retry")
        outcomes = await it.outcomes()
        assert all(outcomes[i].count("suppressed") == 1 for i in ids)
        assert len(there.received) <= 16
        await no_findings(it)


async def test_a_closed_window_is_remembered_through_a_crash(database_url: str) -> None:
    async with receiver() as there:
        opened = gate(there, "/")
        async with crashing_process(database_url) as it:
            route = await it.route(there.url + "/")
            ids = await it.publish(count=50)
            await there.count(16)
            await it.disable(route)
            await it.enable(route)
        opened.set()
        there.received.clear()
        async with pipeline_process(database_url) as it:
            (after,) = await it.publish()
            await it.until_accounted()
            assert len(there.received) == 1
            assert await it.outcomes() == dict.fromkeys(ids, UNSENT) | {after: ["delivered"]}


async def test_deleting_stops_like_disabling(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url, retry=LATER) as it:
        there.answer["/"] = status(503)
        route = await it.route(there.url + "/")
        (first,) = await it.publish()
        await it.until_row("SELECT count(*) = 1 FROM hookledger.retry")
        await it.commands.delete(route.tenant, route.id, CONTEXT)
        await it.publish()
        await it.until_row("SELECT count(*) = 0 FROM hookledger.retry")
        await it.until_accounted()
        assert await it.outcomes() == {first: ["retrying", "suppressed"]}
        assert len(there.received) == 1
