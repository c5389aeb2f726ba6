"""The log goes back under a running pipeline, as after the promotion of a standby that was behind.

Here it goes back within one server, whose timeline is made to look like that of a promoted standby. Real promotions are
in tests/faults/test_failover.py; what happens without one in test_rewritten_log.py.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from daemon import audit
from daemon.audit import UnknownEvent
from daemon.core.delivery.retry import RetryPolicy
from daemon.core.routing.route import RouteStatus, config_to_body
from eventstore.domain_events import lost_log
from eventstore.domain_events.events import SHARDS
from eventstore.domain_events.lost_log import LostLog
from eventstore.postgres.errors import StoreUnavailable
from eventstore.progress import recording
from eventstore.progress.recording import Suppressed
from tests.support.pipeline.process import PipelineProcess, pipeline_process
from tests.support.postgres.lost_log import GO_BACK, go_back
from tests.support.receivers.receiver import receiver, status
from tests.support.until import until


@pytest_asyncio.fixture
async def sql(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    connection.terminate()


async def publish_ticks(it: PipelineProcess, count: int) -> list[str]:
    """Publishes events, each of which gets a tick of its own."""
    ids = []
    for _ in range(count):
        ids += await it.publish()
        await it.until_accounted()
    return ids


async def test_what_is_published_after_the_database_went_back_is_delivered_and_the_loss_is_told(
    database_url: str, sql: asyncpg.Connection
) -> None:
    async with receiver() as there, pipeline_process(database_url) as it:
        route = await it.route(there.url)
        kept = await publish_ticks(it, 3)
        gone = await publish_ticks(it, 4)
        with capture_logs() as logged:
            await go_back(sql, tick=3, position=1)
            after = await publish_ticks(it, 2)
        assert set(await it.outcomes(route.id)) == {*kept, *after}
        told = [line for line in logged if line["event"] == "log.went_back"]
        assert [(line["ticks"], line["positions"]) for line in told] == [([4, 7], None)]
        (lost,) = await lost_log.read(it.database)
        assert (lost.first_tick, lost.last_tick, lost.first_pos, lost.last_pos) == (4, 7, 2, 1)
        with pytest.raises(UnknownEvent, match="ticks 4 to 7 are gone"):
            await audit.explain(it.database, gone[0], tenant="acme")
        assert it.metrics.registry.get_sample_value("hookledger_database_went_back_total") == 1


async def test_a_tick_that_looks_like_one_that_is_gone_does_not_count_as_kept(
    database_url: str, sql: asyncpg.Connection
) -> None:
    """A promoted standby gives the numbers of transactions again too, so snapshots may be the same to the letter."""
    async with receiver() as there, pipeline_process(database_url) as it:
        await it.route(there.url)
        await publish_ticks(it, 7)
        again = "INSERT INTO hookledger.tick (tick, snap, at, route_pos, closed_upto) VALUES (4, $1, now(), 1, now())"
        snap = await sql.fetchval("SELECT snap::text FROM hookledger.tick WHERE tick = 4")
        go_back_to_3 = GO_BACK.format(tick=3, position=1).replace("COMMIT", "")
        await sql.execute(f"{go_back_to_3}; {again.replace('$1', repr(snap))}; COMMIT")
        await until(lambda: it.metrics.registry.get_sample_value("hookledger_database_went_back_total") == 1)
        (lost,) = await lost_log.read(it.database)
        assert (lost.first_tick, lost.last_tick) == (4, 7)


async def test_a_disable_that_is_gone_leaves_the_route_enabled(database_url: str, sql: asyncpg.Connection) -> None:
    async with receiver() as there, pipeline_process(database_url) as it:
        route, other = await it.route(there.url + "/a"), await it.route(there.url + "/b")
        await publish_ticks(it, 1)
        await it.disable(route)
        missed = await publish_ticks(it, 1)
        await go_back(sql, tick=1, position=2)
        await until(lambda: it.projection.index.position == 2)
        after = await publish_ticks(it, 1)
        timeline = it.projection.index.timeline(route.id)
        assert timeline is not None
        assert timeline.current.status is RouteStatus.ENABLED
        assert set(await it.outcomes(route.id)) == set(await it.outcomes(other.id))
        assert missed[0] not in await it.outcomes(other.id)
        assert after[0] in await it.outcomes(route.id)
        (lost,) = await lost_log.read(it.database)
        assert (lost.first_pos, lost.last_pos) == (3, 3)
        # Commands go on from what is there.
        await it.disable(route)
        assert (await audit.rebuild(it.database)).position == 3


async def test_a_disable_that_is_gone_suppresses_nothing(
    database_url: str, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was applied here, and the old primary died before what waits for its route was suppressed there."""
    suppress, is_away = recording.suppress, True

    async def away_at_first(*arguments: Any, **named: Any) -> Suppressed:
        if is_away:
            raise StoreUnavailable("the old primary is gone")
        return await suppress(*arguments, **named)

    monkeypatch.setattr(recording, "suppress", away_at_first)
    later = RetryPolicy(first=timedelta(hours=1), cap=timedelta(hours=1))
    async with receiver() as there, pipeline_process(database_url, retry=later) as it:
        there.answer["/"] = status(500)
        route, other = await it.route(there.url + "/"), await it.route(there.url + "/")
        (event_id,) = await publish_ticks(it, 1)
        await it.until_row("SELECT count(*) = 2 FROM hookledger.retry")
        await it.disable(route)
        await go_back(sql, tick=1, position=2)
        await until(lambda: it.projection.index.position == 2 and len(it.pipeline.shards.held) == SHARDS)
        is_away = False
        await it.disable(other)  # whose turn comes after the first one
        await it.until_row("SELECT count(*) = 0 FROM hookledger.retry WHERE route_id = $1", other.id)
        assert await it.outcomes(other.id) == {event_id: ["retrying", "suppressed"]}
        assert await it.outcomes(route.id) == {event_id: ["retrying"]}
        assert await it.rows("SELECT FROM hookledger.retry WHERE route_id = $1", route.id)


async def test_a_command_goes_on_from_what_is_left_before_anybody_has_noticed_that_more_was_there(
    database_url: str, sql: asyncpg.Connection
) -> None:
    """The process still knows a version that is gone: on top of that one the log would be broken for ever."""
    async with pipeline_process(database_url, run=False) as it:
        route = await it.route("http://127.0.0.1:9/")
        await it.edit(route, name="gone")
        await go_back(sql, tick=0, position=1)
        await it.disable(route)
        rows = await it.rows("SELECT version, type FROM hookledger.route_event ORDER BY pos")
        assert [(row["version"], row["type"]) for row in rows] == [(1, "created"), (2, "disabled")]
        assert (await audit.rebuild(it.database)).position == 2


async def test_a_disable_that_is_gone_is_not_taken_for_done(database_url: str, sql: asyncpg.Connection) -> None:
    async with pipeline_process(database_url, run=False) as it:
        route = await it.route("http://127.0.0.1:9/")
        await it.disable(route)
        await go_back(sql, tick=0, position=1)
        await it.disable(route)
        (rebuilt,) = (await audit.rebuild(it.database)).routes
        assert rebuilt.status is RouteStatus.DISABLED


async def test_a_disable_that_is_gone_is_told_although_the_new_primary_was_away_for_a_moment(
    database_url: str, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    record, attempts = lost_log.record, []

    async def away_at_first(*arguments: Any, **named: Any) -> LostLog:
        attempts.append(named)
        if len(attempts) == 1:
            raise StoreUnavailable("the new primary is away")
        return await record(*arguments, **named)

    monkeypatch.setattr(lost_log, "record", away_at_first)
    async with receiver() as there, pipeline_process(database_url) as it:
        route = await it.route(there.url)
        await publish_ticks(it, 1)
        await it.disable(route)
        await publish_ticks(it, 1)
        await go_back(sql, tick=1, position=1)
        await until(lambda: it.projection.index.position == 1)
        await publish_ticks(it, 1)
        (lost,) = await lost_log.read(it.database)
        assert (lost.first_tick, lost.last_tick, lost.first_pos, lost.last_pos) == (2, 2, 2, 2)
        assert len(attempts) == 2


async def test_a_log_that_was_promoted_and_that_nobody_can_have_written_is_refused(
    database_url: str, sql: asyncpg.Connection
) -> None:
    async with receiver() as there, pipeline_process(database_url) as it:
        route = await it.route(there.url)
        await it.disable(route)
        await publish_ticks(it, 1)
        enabled = GO_BACK.format(tick=1, position=1).replace(
            "COMMIT",
            f"SELECT hookledger.append_route_event('{route.id}', 'acme', 2, 'enabled', 'nobody', 'api', NULL, NULL, NULL, "
            "NULL, '{}'); COMMIT",
        )
        with capture_logs() as logged:
            await sql.execute(enabled)
            await until(lambda: it.pipeline.log_fault is not None)
        assert it.pipeline.log_fault is not None
        assert "position 2 cannot have been written" in it.pipeline.log_fault
        assert len([line for line in logged if line["event"] == "log.rewritten"]) == 1


async def test_changes_of_routes_that_took_the_place_of_others_are_folded(
    database_url: str, sql: asyncpg.Connection
) -> None:
    async with receiver() as there, pipeline_process(database_url) as it:
        route = await it.route(there.url)
        await it.edit(route, name="gone")
        await publish_ticks(it, 1)
        # Both logs go back, and have grown beyond what was read, before anybody looks.
        await sql.execute(GO_BACK.format(tick=1, position=1).replace("COMMIT", ""))
        for version, name in ((2, "other"), (3, "newest")):
            body = json.dumps({"config": config_to_body(replace(route.config, name=name))})
            await sql.execute(
                "SELECT hookledger.append_route_event($1, 'acme', $2, 'edited', 'a', 'api', NULL, NULL, NULL, NULL, $3)",
                route.id,
                version,
                body,
            )
        await sql.execute("COMMIT")
        await until(lambda: it.projection.index.position == 3)
        rebuilt = await audit.rebuild(it.database)
        assert list(it.projection.index.routes()) == list(rebuilt.routes)


async def test_all_shards_are_dropped_and_taken_again(database_url: str, sql: asyncpg.Connection) -> None:
    async with receiver() as there, pipeline_process(database_url) as it:
        await it.route(there.url)
        await publish_ticks(it, 2)
        before = it.pipeline.shards.writable()
        await go_back(sql, tick=1, position=1)
        await until(lambda: len(it.pipeline.shards.held) == len(before) and it.pipeline.shards.writable() != before)
        after = it.pipeline.shards.writable()
        assert all(after[shard] > epoch for shard, epoch in before.items())
        assert await sql.fetchval("SELECT hookledger.is_same_log($1, $2, $3)", *it.pipeline._recorder._known.mark)
