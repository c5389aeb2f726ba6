"""Somebody rewrites the route log under daemons that deliver: by SQL for which no trigger fires, and without a promotion.

What they have applied is then not what stands there, and nobody knows which of the two is true. So nothing is sent.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import asyncpg
import pytest
import pytest_asyncio
from aiohttp import web
from structlog.testing import capture_logs

from daemon.pipeline.upkeep.auto_disable import RouteDisabler
from tests.support.pipeline.process import PipelineProcess, pipeline_process
from tests.support.receivers.receiver import Receiver, receiver
from tests.support.until import until

# As append_route_event makes it, for a row that was changed and all after it: a chain that is whole, and another one.
RECHAIN = """
DO $$
DECLARE
    e hookledger.route_event;
    last bytea := '';
BEGIN
    FOR e IN SELECT * FROM hookledger.route_event ORDER BY pos LOOP
        e.prev_hash := last;
        last := sha256(last || convert_to(hookledger.canonical(ARRAY[
            e.pos::text, e.route_id::text, e.tenant, e.version::text, e.type,
            (extract(epoch FROM e.effective_at) * 1000000)::bigint::text, e.actor, e.origin, e.reason, e.request_id,
            e.correlation_id, e.causation_id, e.body]), 'UTF8'));
        UPDATE hookledger.route_event SET prev_hash = e.prev_hash, hash = last WHERE pos = e.pos;
    END LOOP;
END $$
"""
END_DELETED = "DELETE FROM hookledger.route_event WHERE pos >= 3"
EMPTIED = "DELETE FROM hookledger.route_event"
LAST_REWRITTEN = f"UPDATE hookledger.route_event SET reason = 'none' WHERE pos = 3; {RECHAIN}"
FIRST_REWRITTEN = f"UPDATE hookledger.route_event SET actor = 'nobody' WHERE pos = 1; {RECHAIN}"
REPLACED = """
DELETE FROM hookledger.route_event WHERE pos = 3;
SELECT hookledger.append_route_event(route_id, tenant, 2, 'disabled', 'nobody', 'api', NULL, NULL, NULL, NULL, '{}')
  FROM hookledger.route_event WHERE pos = 2
"""
# The end that was applied stands, and what comes after does not continue it.
FORKED = """
INSERT INTO hookledger.route_event (pos, route_id, tenant, version, type, effective_at, actor, origin, body, prev_hash, hash)
SELECT 4, route_id, tenant, 3, 'enabled', effective_at + interval '1 s', 'nobody', 'api', '{}', prev_hash, hash
  FROM hookledger.route_event WHERE pos = 3
"""

CONFIG = (
    '{"name":"","target_url":"http://127.0.0.1:9/","event_types":["*"],"header_names":[],"headers_id":null,'
    '"ordered":false,"rate_limit_per_second":RATE,"payload":{"snapshot":null,"filter":null,"transform":null}}'
)
FIRST = "(SELECT route_id FROM hookledger.route_event WHERE pos = 1)"
DISABLED = "(SELECT route_id FROM hookledger.route_event WHERE pos = 3)"


def forged(route: str, version: int, lifecycle_type: str, body: str = "{}") -> str:
    """An event as append_route_event writes it: it continues the chain."""
    return (
        f"SELECT hookledger.append_route_event({route}, 'acme', {version}, '{lifecycle_type}', 'nobody', 'api', "
        f"NULL, NULL, NULL, NULL, '{body}')"
    )


# The chain goes on and is whole, and no command can have written this.
IMPOSSIBLE = {
    "enabled, and never created": forged("gen_random_uuid()", 2, "enabled"),
    "created twice": forged(FIRST, 2, "disabled") + "; " + forged("gen_random_uuid()", 1, "created", "{}"),
    "disabled twice": forged(DISABLED, 3, "disabled"),
    "a version left out": forged(FIRST, 7, "disabled"),
    "of another tenant": forged(FIRST, 2, "disabled").replace("'acme'", "'globex'"),
    "not JSON": forged(FIRST, 2, "edited", "{"),
    "no configuration": forged(FIRST, 2, "edited", '{"config":{}}'),
    "no key": forged(FIRST, 2, "key_rotated", '{"grace_seconds":60}'),
    "a word for a rate": forged(
        FIRST, 2, "edited", f'{{"config":{CONFIG.replace("RATE", chr(34) + "fast" + chr(34))}}}'
    ),
    "a number for a type": forged(
        FIRST, 2, "edited", f'{{"config":{CONFIG.replace("RATE", "null").replace(chr(34) + "*" + chr(34), "[1]")}}}'
    ),
}


@pytest_asyncio.fixture
async def sql(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    connection.terminate()


async def rewrite(sql: asyncpg.Connection, change: str) -> None:
    await sql.execute(f"BEGIN; SET LOCAL session_replication_role = replica; {change}; COMMIT")


async def three_changes(it: PipelineProcess, there: Receiver) -> None:
    """A webhook that is delivered to, and another one that was disabled by the third change of the log."""
    await it.route(there.url + "/live")
    await it.disable(await it.route(there.url + "/disabled"))
    await it.publish()
    await it.until_accounted()


async def store(sql: asyncpg.Connection, count: int) -> None:
    """Events that no daemon has anything to do with."""
    for n in range(count):
        await sql.execute(
            "SELECT hookledger.publish(tenant => 'acme', type => 'order.create', data => $1::jsonb)",
            json.dumps({"n": n}),
        )


def told(logged: list[Any]) -> list[str]:
    return [line["cause"] for line in logged if line["event"] == "log.rewritten"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (END_DELETED, "it ends at position 2, and was applied here up to 3"),
        (EMPTIED, "it ends at position 0, and was applied here up to 3"),
        (LAST_REWRITTEN, "position 3 has another hash than the one that was applied here"),
        (FIRST_REWRITTEN, "position 3 has another hash than the one that was applied here"),
        (REPLACED, "position 3 has another hash than the one that was applied here"),
        (FORKED, "position 4 does not follow position 3 as applied here"),
    ],
)
async def test_nothing_is_sent_once_the_route_log_is_another_one(
    database_url: str, sql: asyncpg.Connection, change: str, sentence: str
) -> None:
    async with receiver() as there, pipeline_process(database_url) as it:
        await three_changes(it, there)
        sent = len(there.received)
        with capture_logs() as logged:
            await rewrite(sql, f"{change}; SELECT hookledger.publish('acme', 'order.create', '{{}}'::jsonb)")
            await until(lambda: it.pipeline.log_fault is not None)
            await store(sql, 3)
            await until(lambda: any(line["event"] == "database.unavailable" for line in logged))
        assert len(there.received) == sent
        (cause,) = told(logged)
        assert sentence in cause
        assert it.pipeline.log_fault is not None
        assert sentence in it.pipeline.log_fault
        assert "restart every daemon" in it.pipeline.log_fault
        assert not any(it.pipeline._gate.allows(shard) for shard in it.pipeline.shards.held)


async def test_every_one_of_several_daemons_finds_it(database_url: str, sql: asyncpg.Connection) -> None:
    async with receiver() as there, AsyncExitStack() as stack:
        daemons = [await stack.enter_async_context(pipeline_process(database_url)) for _ in range(3)]
        await three_changes(daemons[0], there)
        await until(lambda: all(it.projection.index.position == 3 for it in daemons))
        sent = len(there.received)
        with capture_logs() as logged:
            await rewrite(sql, END_DELETED)
            await until(lambda: all(it.pipeline.log_fault is not None for it in daemons))
        assert len(told(logged)) == len(daemons)
        assert len(there.received) == sent


async def test_a_daemon_that_is_started_again_delivers_by_what_stands_there(
    database_url: str, sql: asyncpg.Connection
) -> None:
    async with receiver() as there:
        async with pipeline_process(database_url) as it:
            await three_changes(it, there)
            await rewrite(sql, END_DELETED)
            await until(lambda: it.pipeline.log_fault is not None)
            missed = await it.publish()
        async with pipeline_process(database_url) as again:
            await again.until_accounted()
            assert again.pipeline.log_fault is None
            assert missed[0] in await again.outcomes()


async def test_a_request_that_was_sent_before_is_recorded(database_url: str, sql: asyncpg.Connection) -> None:
    async with receiver() as there, pipeline_process(database_url) as it:
        await three_changes(it, there)
        held = asyncio.Event()

        async def answer(_request: web.Request) -> web.StreamResponse:
            await held.wait()
            return web.Response(status=204)

        there.answer["/live"] = answer
        (sent,) = await it.publish()
        await there.count(2)
        await rewrite(sql, END_DELETED)
        await until(lambda: it.pipeline.log_fault is not None)
        held.set()
        await it.until_row("SELECT EXISTS (SELECT FROM hookledger.attempt WHERE event_id = $1)", sent)


@pytest.mark.parametrize("change", IMPOSSIBLE.values(), ids=IMPOSSIBLE)
async def test_nothing_is_sent_once_the_log_has_what_no_command_can_have_written(
    database_url: str, sql: asyncpg.Connection, change: str
) -> None:
    async with receiver() as there, pipeline_process(database_url) as it:
        await three_changes(it, there)
        sent = len(there.received)
        with capture_logs() as logged:
            await sql.execute(change)
            await store(sql, 1)
            await until(lambda: it.pipeline.log_fault is not None)
            await store(sql, 3)
            await until(lambda: any(line["event"] == "database.unavailable" for line in logged))
        assert len(there.received) == sent
        (cause,) = told(logged)
        assert "cannot have been written" in cause
        assert it.pipeline.log_fault is not None
        assert "restart every daemon" in it.pipeline.log_fault
        assert not any(it.pipeline._gate.allows(shard) for shard in it.pipeline.shards.held)


async def test_disabling_a_route_whose_log_is_broken_ends_no_loop(database_url: str, sql: asyncpg.Connection) -> None:
    async with pipeline_process(database_url, run=False) as it:
        route = await it.route("http://127.0.0.1:9/")
        await sql.execute(forged(FIRST, 2, "enabled"))
        disabler = RouteDisabler(it.projection.index, it.commands)
        disabler.gone(route)
        await disabler.run_once()
        assert await it.rows("SELECT type FROM hookledger.route_event WHERE version = 3") == []
