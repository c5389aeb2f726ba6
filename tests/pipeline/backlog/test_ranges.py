"""Ranges: a route with too many parked deliveries keeps only a range of ticks, and each delivery is sent once all the same."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from daemon import audit
from daemon.core.delivery.retry import RetryPolicy
from daemon.core.routing.route import PayloadOptions
from daemon.core.sentences.explanations import ExplainedDecision
from daemon.core.webhook.payload import FilterResult, PayloadEvent
from daemon.expressions.evaluator import Evaluator
from daemon.pipeline.recording.recorder import Recorder
from daemon.pipeline.tunables import Tunables
from eventstore import domain_events
from eventstore.domain_events import tail, ticks
from eventstore.domain_events.events import NewEvent
from eventstore.domain_events.ticks import LogPosition
from eventstore.progress.rows import ParkedRow
from eventstore.queries.events import sample_events
from tests.pipeline.backlog.test_parking import NONE_PARKED, PARKED, ids_of
from tests.support.pipeline.crash import crashing_process, possible_duplicates
from tests.support.pipeline.process import PipelineProcess, pipeline_process
from tests.support.receivers.receiver import gate, once, receiver, status
from tests.support.until import until

RANGED = "SELECT coalesce(sum(pairs), 0) >= $1 FROM hookledger.parked_range"
BEGINS_BEHIND = "SELECT coalesce(max(from_seq), 0) > $1 FROM hookledger.parked_range"
NO_RANGE = "SELECT count(*) = 0 FROM hookledger.parked_range"


SMALL_LANES = Tunables(
    lane_queue=10,
    unmeasured_lane_queue=10,
    low_water=10,
    range_pairs=20,
    chunk_events=10,
    expand_pairs=15,
    expand_ticks=4,
)


async def publish_in_ticks(it: PipelineProcess, *, ticks: int, each: int) -> list[str]:
    """Publishes `each` events per tick, in `ticks` ticks. Returns their ids."""
    published = []
    for _ in range(ticks):
        published += await it.publish(count=each)
        await it.until_row(
            "SELECT NOT hookledger.has_news("
            "coalesce((SELECT snap FROM hookledger.tick ORDER BY tick DESC LIMIT 1), '1:1:'))"
        )
    return published


def taken_out(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Filled with the number of rows that are taken out of a range, for each time."""
    listed: list[int] = []
    original = Recorder.listed

    def noted(recorder: Recorder, rows: list[ParkedRow]) -> None:
        listed.append(len(rows))
        original(recorder, rows)

    monkeypatch.setattr(Recorder, "listed", noted)
    return listed


def beginnings(it: PipelineProcess, monkeypatch: pytest.MonkeyPatch) -> list[LogPosition | None]:
    """Filled with each beginning that a range gets."""
    begun: list[LogPosition | None] = []
    recorder = it.pipeline._recorder
    original = recorder.ranged

    def noted(route_id: UUID, shard: int, range_from: LogPosition | None, pairs: int) -> None:
        begun.append(range_from)
        original(route_id, shard, range_from, pairs)

    monkeypatch.setattr(recorder, "ranged", noted)
    return begun


async def listed_twice(database_url: str) -> list[int]:
    """The seqs that a packed row has although their range has them too, or another packed row."""
    connection = await asyncpg.connect(database_url)
    try:
        rows = await connection.fetch(
            """
            WITH packed AS (
                SELECT p.route_id, u.* FROM hookledger.parked p, unnest(p.seqs, p.ticks) AS u (seq, tick))
            SELECT seq FROM packed JOIN hookledger.parked_range r USING (route_id)
             WHERE (tick, seq) >= (r.from_tick, r.from_seq)
             UNION ALL SELECT seq FROM packed GROUP BY seq HAVING count(*) > 1
            """
        )
    finally:
        await connection.close()
    return [row["seq"] for row in rows]


async def findings(it: PipelineProcess) -> list[audit.AuditFinding]:
    now = datetime.now(UTC)
    report = await audit.audit(it.database, start=now - timedelta(hours=1), end=now + timedelta(hours=1))
    return report.findings


async def test_what_is_ranged_is_counted_not_listed_and_comes_back_in_order_once(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url, route_concurrency=1, tunables=SMALL_LANES) as it:
        opened = gate(there, "/")
        route = await it.route(there.url + "/")
        published = await publish_in_ticks(it, ticks=12, each=10)
        await it.until_row(RANGED, 60)
        await it.until_accounted()
        assert not await it.rows("SELECT FROM hookledger.parked WHERE cardinality(seqs) > 30")
        assert await findings(it) == []
        (explained,) = await audit.explain(it.database, published[-1])
        assert (explained.verdict, explained.pending and explained.pending.state) == (
            ExplainedDecision.PENDING,
            "parked",
        )
        opened.set()
        published += await publish_in_ticks(it, ticks=3, each=5)
        await it.until_row("SELECT count(*) = $1 FROM hookledger.attempt", len(published), seconds=30)
        await it.until_row(NO_RANGE)
        await it.until_row(NONE_PARKED)
        lane = it.pipeline._lanes.lane(route.id, 0)
        await until(lambda: not lane.is_parking)
        published += await it.publish(count=5)
        await it.until_row("SELECT count(*) = $1 FROM hookledger.attempt", len(published))
        assert ids_of(there) == published
        assert await findings(it) == []


async def test_a_test_event_is_in_no_range(database_url: str) -> None:
    """It is never parked: it waits in `retry` by itself, and comes first."""
    async with receiver() as there, pipeline_process(database_url, route_concurrency=1, tunables=SMALL_LANES) as it:
        opened = gate(there, "/")
        route = await it.route(there.url + "/")
        published = await publish_in_ticks(it, ticks=8, each=10)
        await it.until_row(RANGED, 20)
        test = NewEvent(tenant="acme", id="test_1", type="order.create", data=b"{}")
        await sample_events.publish(it.database, route.id, [test])
        it.pipeline.hurry()
        await it.until_row(
            "SELECT count(*) = 1 FROM hookledger.retry JOIN hookledger.domain_event USING (seq) WHERE id = 'test_1'"
        )
        published += await publish_in_ticks(it, ticks=2, each=5)
        await it.until_accounted()
        assert await findings(it) == []
        (explained,) = await audit.explain(it.database, "test_1")
        assert explained.pending is not None
        assert explained.pending.state == "retrying"
        opened.set()
        await it.until_row("SELECT count(*) = $1 FROM hookledger.attempt", len(published) + 1, seconds=30)
        await it.until_row(NO_RANGE)
        await it.until_row(NONE_PARKED)
        assert sorted(ids_of(there)) == sorted([*published, "test_1"])
        assert await findings(it) == []


async def test_a_range_holds_only_what_the_route_was_due(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url, route_concurrency=1, tunables=SMALL_LANES) as it:
        opened = gate(there, "/")
        await it.route(there.url + "/", "order.*", payload=PayloadOptions(filter="data.object.n < `4`"))
        due: list[str] = []
        for _ in range(10):
            due += (await publish_in_ticks(it, ticks=1, each=8))[:4]
            await it.publish("customer.create", count=3)
            await it.publish("order.create", tenant="globex", count=3)
        await it.until_row(RANGED, 5)
        opened.set()
        await it.until_row("SELECT count(*) = $1 FROM hookledger.attempt", len(due), seconds=30)
        await it.until_row(NO_RANGE)
        assert ids_of(there) == due


async def test_a_disabled_route_never_gets_what_was_ranged(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url, route_concurrency=1, tunables=SMALL_LANES) as it:
        opened = gate(there, "/")
        route = await it.route(there.url + "/")
        before = await publish_in_ticks(it, ticks=10, each=10)
        await it.until_row(RANGED, 50)
        await it.disable(route)
        await it.enable(route)
        after = await publish_in_ticks(it, ticks=2, each=5)
        opened.set()
        await it.until_row(
            "SELECT count(*) = 10 FROM hookledger.attempt WHERE outcome = 'delivered' AND event_id = ANY ($1::text[])",
            after,
            seconds=30,
        )
        await it.until_row(
            "SELECT count(DISTINCT seq) = $1 FROM hookledger.attempt", len(before) + len(after), seconds=30
        )
        await it.until_row(NO_RANGE)
        arrived = set(ids_of(there))
        assert set(after) <= arrived
        assert len(arrived & set(before)) <= 1, "the one that was under way"


async def test_a_crash_at_any_time_loses_nothing_of_a_range(database_url: str) -> None:
    published: list[str] = []
    allowed = 0
    async with receiver() as there:
        opened = gate(there, "/")
        for progress in (0, 40, 100, 160):
            async with crashing_process(database_url, tunables=SMALL_LANES) as it:
                if not published:
                    await it.route(there.url + "/")
                    published = await publish_in_ticks(it, ticks=20, each=10)
                    await it.until_row(PARKED, 20)
                    await it.until_row(RANGED, 100)
                else:
                    opened.set()
                await there.count(progress)
            allowed += possible_duplicates(it)
        async with pipeline_process(database_url, tunables=SMALL_LANES) as it:
            await it.until_row("SELECT count(DISTINCT seq) = 200 FROM hookledger.attempt", seconds=30)
            await it.until_row(NONE_PARKED)
            await it.until_row(NO_RANGE)
        counts = Counter(ids_of(there))
        assert set(counts) == set(published)
        assert counts.total() - 200 <= allowed


async def test_a_huge_tick_is_written_out_in_chunks_and_a_crash_between_them_loses_and_repeats_nothing(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "PAGE_ROWS", 10)
    few_at_a_time = replace(SMALL_LANES, expand_pairs=20, breaker_first_pause_seconds=0.05)
    rows_per_flush = taken_out(monkeypatch)
    published: list[str] = []
    allowed, seen = 0, 0
    async with receiver() as there:
        opened = gate(there, "/")
        for crash in range(5):
            async with crashing_process(database_url, tunables=few_at_a_time) as it:
                if not published:
                    await it.route(there.url + "/")
                    published = await publish_in_ticks(it, ticks=5, each=10)
                    await it.until_row(RANGED, 1)
                    published += await publish_in_ticks(it, ticks=1, each=300)
                    await it.until_row(RANGED, 300)
                else:
                    opened.set()
                    await it.until_row(BEGINS_BEHIND, seen)
                    (begin,) = await it.rows("SELECT from_seq FROM hookledger.parked_range")
                    seen = begin["from_seq"]
            allowed += possible_duplicates(it)
            assert await listed_twice(database_url) == [], f"after crash {crash}"
        async with pipeline_process(database_url, tunables=few_at_a_time) as it:
            await it.until_row("SELECT count(DISTINCT seq) = $1 FROM hookledger.attempt", len(published), seconds=30)
            await it.until_row(NONE_PARKED)
            await it.until_row(NO_RANGE)
            assert await findings(it) == []
    counts = Counter(ids_of(there))
    assert set(counts) == set(published)
    assert counts.total() - len(published) <= allowed
    assert 0 < max(rows_per_flush) <= 20


async def test_a_huge_tick_without_anything_for_the_route_is_passed_over_in_chunks(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "PAGE_ROWS", 10)
    tunables = replace(SMALL_LANES, expand_events=20)
    async with receiver() as there, pipeline_process(database_url, route_concurrency=1, tunables=tunables) as it:
        opened = gate(there, "/")
        await it.route(there.url + "/", "order.*")
        published = await publish_in_ticks(it, ticks=5, each=10)
        await it.until_row(RANGED, 1)
        await it.publish("customer.create", count=200)
        published += await publish_in_ticks(it, ticks=1, each=10)
        begun = beginnings(it, monkeypatch)
        opened.set()
        await it.until_row("SELECT count(*) = $1 FROM hookledger.attempt", len(published), seconds=30)
        await it.until_row(NO_RANGE)
        assert ids_of(there) == published
    assert len({begin for begin in begun if begin and begin[1]}) >= 200 // 20 - 1


async def test_a_chunk_ends_within_a_page_once_its_time_is_over(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tunables = replace(SMALL_LANES, expand_seconds=0.0, expand_pairs=1000)
    rows_per_flush = taken_out(monkeypatch)
    async with receiver() as there, pipeline_process(database_url, route_concurrency=1, tunables=tunables) as it:
        opened = gate(there, "/")
        await it.route(there.url + "/")
        published = await publish_in_ticks(it, ticks=4, each=10)
        await it.until_row(RANGED, 1)
        published += await publish_in_ticks(it, ticks=1, each=40)
        opened.set()
        await it.until_row("SELECT count(*) = $1 FROM hookledger.attempt", len(published), seconds=30)
        await it.until_row(NO_RANGE)
        assert ids_of(there) == published
    assert max(rows_per_flush) <= 2


async def test_while_a_range_waits_for_its_filter_others_are_retried_drained_and_suppressed(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def slow(
        _evaluator: Evaluator, _tenant: str, _event: PayloadEvent, filters: Sequence[str]
    ) -> dict[str, FilterResult]:
        asked.set()
        await may_answer.wait()
        return dict.fromkeys(filters, FilterResult.PASSES)

    async with receiver() as there, pipeline_process(database_url, route_concurrency=1, tunables=SMALL_LANES) as it:
        opened, other_opened, never = gate(there, "/"), gate(there, "/other"), gate(there, "/closed")
        await it.route(there.url + "/", payload=PayloadOptions(filter="type != 'a.b'"))
        other = await it.route(there.url + "/other", tenant="globex")
        closed = await it.route(there.url + "/closed", tenant="initech")
        due = await publish_in_ticks(it, ticks=8, each=10)
        await it.publish(tenant="initech", count=15)
        others = await it.publish(tenant="globex", count=15)
        await it.until_row(RANGED, 1)
        await it.until_row("SELECT count(DISTINCT route_id) = 3 FROM hookledger.parked")
        await it.until_accounted()
        monkeypatch.setattr(it.pipeline._backlog.ranges, "_tunables", replace(SMALL_LANES, loop_steps=0))
        monkeypatch.setattr(Evaluator, "filter_results", slow)
        opened.set()
        await asked.wait()
        there.answer["/other"] = once(status(500))
        other_opened.set()
        await it.until_row(
            "SELECT count(*) = 15 FROM hookledger.attempt WHERE route_id = $1 AND outcome = 'delivered'", other.id
        )
        await it.disable(closed)
        never.set()
        await it.until_row(
            "SELECT count(*) >= 14 FROM hookledger.attempt WHERE route_id = $1 AND outcome = 'suppressed'", closed.id
        )
        assert not may_answer.is_set()
        may_answer.set()
        await it.until_row("SELECT count(*) = 0 FROM hookledger.parked_range", seconds=30)
        await it.until_row(NONE_PARKED)
        await there.count(len(due))
        assert [id for id in ids_of(there) if id in due] == due
        assert set(others) <= set(ids_of(there))


async def test_tenants_take_turns_with_their_ranges_and_so_do_their_routes(database_url: str) -> None:
    async with pipeline_process(database_url, run=False) as it:
        ranges = it.pipeline._backlog.ranges
        routes = [await it.route("https://example.com/", tenant=tenant) for tenant in ("loud", "loud", "loud", "other")]
        lanes = [it.pipeline._lanes.lane(route.id, domain_events.shard_of(route.tenant)) for route in routes]
        for lane in lanes:
            ranges.ask(lane)
        ranges.ask(lanes[0])
        assert ranges.is_awaited(routes[2].id)
        ranges.forget(routes[2].id)
        assert not ranges.is_awaited(routes[2].id)
        assert [ranges._next() for _ in range(4)] == [lanes[0], lanes[3], lanes[1], None]


async def test_of_few_ranges_it_is_kept_how_far_a_tick_is_written_out(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "PAGE_ROWS", 10)
    tunables = replace(SMALL_LANES, open_cuts=1)
    async with receiver() as there, pipeline_process(database_url, route_concurrency=1, tunables=tunables) as it:
        kept: list[int] = []
        ranges = it.pipeline._backlog.ranges
        keep_open = ranges._keep_open

        def noted(*arguments: Any) -> None:
            keep_open(*arguments)
            kept.append(len(ranges._open_cuts))

        monkeypatch.setattr(ranges, "_keep_open", noted)
        opened = gate(there, "/")
        for _ in range(3):
            await it.route(there.url + "/")
        published = await publish_in_ticks(it, ticks=5, each=10)
        await it.until_row("SELECT count(*) = 3 FROM hookledger.parked_range")
        published += await publish_in_ticks(it, ticks=1, each=60)
        opened.set()
        await it.until_row("SELECT count(*) = $1 FROM hookledger.attempt", 3 * len(published), seconds=30)
        await it.until_row(NO_RANGE)
        assert Counter(ids_of(there)) == dict.fromkeys(published, 3)
    assert set(kept) == {1}


async def test_ticks_without_an_event_of_the_shard_are_passed_over(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A busy installation makes a million ticks a day, and a quiet tenant has events in few of them."""
    read: list[int] = []
    original = tail.LeanCut.page

    async def noted(cut: tail.LeanCut, from_seq: int) -> tail.LeanPage:
        read.append(cut._tick.tick)
        return await original(cut, from_seq)

    monkeypatch.setattr(tail.LeanCut, "page", noted)
    async with receiver() as there, pipeline_process(database_url, route_concurrency=1, tunables=SMALL_LANES) as it:
        opened = gate(there, "/")
        await it.route(there.url + "/")
        published = await publish_in_ticks(it, ticks=4, each=10)
        await it.until_row(RANGED, 5)
        for number in range(50):
            await domain_events.publish(
                it.database, [NewEvent(tenant="globex", id=f"g{number}", type="order.create", data=b"{}")]
            )
            await ticks.make(it.database)
        published += await publish_in_ticks(it, ticks=1, each=10)
        await it.until_accounted()
        opened.set()
        await it.until_row("SELECT count(*) = $1 FROM hookledger.attempt", len(published), seconds=30)
        await it.until_row(NO_RANGE)
        assert ids_of(there) == published
    assert len(set(read)) <= 5


async def test_a_range_is_written_out_before_retention_takes_its_events(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tunables = replace(SMALL_LANES, breaker_first_pause_seconds=3600.0, range_spare_time=timedelta(days=60))
    late = RetryPolicy(first=timedelta(hours=1), cap=timedelta(hours=1))
    async with (
        receiver() as there,
        pipeline_process(database_url, route_concurrency=1, breaker_failures=1, retry=late, tunables=tunables) as it,
    ):
        there.answer["/"] = status(500)
        await it.route(there.url + "/")
        await publish_in_ticks(it, ticks=10, each=10)
        await it.until_row(RANGED, 50)
        await it.until_accounted()
        monkeypatch.setattr(it.pipeline._backlog.parking, "_tunables", replace(tunables, age_seconds=0.0))
        await it.publish(count=1)
        await it.until_row(PARKED, 90, seconds=20)
        await it.until_row("SELECT coalesce(sum(pairs), 0) <= 1 FROM hookledger.parked_range", seconds=20)
        assert await findings(it) == []


async def test_a_range_whose_receiver_answers_is_written_out_too_before_retention_takes_its_events(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rate lets it go slower than its events come: else the beginning of its range would keep all events for ever."""
    tunables = replace(SMALL_LANES, range_spare_time=timedelta(days=60))
    async with receiver() as there, pipeline_process(database_url, tunables=tunables) as it:
        await it.route(there.url + "/", rate_limit_per_second=0.1)
        published = await publish_in_ticks(it, ticks=10, each=10)
        await it.until_row(RANGED, 50)
        await it.until_accounted()
        monkeypatch.setattr(it.pipeline._backlog.parking, "_tunables", replace(tunables, age_seconds=0.0))
        published += await it.publish(count=1)
        await it.until_row("SELECT coalesce(sum(pairs), 0) <= 1 FROM hookledger.parked_range", seconds=20)
        await it.until_row(PARKED, 90, seconds=20)
        assert await findings(it) == []
