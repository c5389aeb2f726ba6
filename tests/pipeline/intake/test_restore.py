"""A process on the restored dump of another cluster: finished deliveries are not sent again, the others are sent once."""

from __future__ import annotations

import json
import os
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from daemon import audit
from daemon.core.delivery.retry import RetryPolicy
from daemon.deliveries import replays
from daemon.deliveries.replays import ReplayPeriod, ReplayStatus
from eventstore.domain_events import ticks
from eventstore.postgres import lineage, schema
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import SchemaMismatch
from eventstore.progress import replays as store
from eventstore.queries.metrics import route_metrics
from eventstore.queries.metrics.route_metrics import Counts
from tests.support.pipeline.process import CONTEXT, PipelineProcess, pipeline_process
from tests.support.postgres.dump import restored_elsewhere
from tests.support.receivers.receiver import Receiver, receiver, status
from tests.support.rows.credentials import LOG_MACS

SECONDS = 30.0
EVER = ReplayPeriod(since=datetime(2000, 1, 1, tzinfo=UTC), until=datetime(2100, 1, 1, tzinfo=UTC))
TEST_DATABASE_URL = "HOOKLEDGER_TEST_DATABASE_URL"


def sent(there: Receiver, path: str) -> Counter[str]:
    return Counter(json.loads(got.body)["id"] for got in there.at(path))


async def audited(it: PipelineProcess) -> audit.AuditReport:
    end = datetime.now(UTC) + timedelta(hours=1)
    return await audit.audit(it.database, start=end - timedelta(days=2), end=end)


@pytest.mark.skipif(TEST_DATABASE_URL in os.environ, reason="only the embedded server surely fits its own pg_dump")
async def test_a_restored_dump_goes_on_where_it_was_taken(database_url: str) -> None:
    patient = RetryPolicy(first=timedelta(hours=1), cap=timedelta(hours=1), attempts=5)
    async with receiver() as there:
        there.answer["/failing"] = status(500)
        async with pipeline_process(database_url, retry=patient) as it:
            prompt = await it.route(f"{there.url}/prompt")
            await it.route(f"{there.url}/failing")
            done = await it.publish(count=20)
            await it.until_accounted(seconds=SECONDS)
            await it.until_row("SELECT count(*) = 40 FROM hookledger.attempt", seconds=SECONDS)
            digest = (await audit.rebuild(it.database)).state_sha256
        async with pipeline_process(database_url, run=False) as it:
            unread = await it.publish(count=3)
            await ticks.make(it.database)
            unread += await it.publish(count=2, tenant="acme")
            replay = await replays.begin(it.database, prompt, EVER, ReplayStatus.ALL, CONTEXT, macs=LOG_MACS)
            assert await store.schedule(it.database, replay, limit=5) == (5, True)

        with restored_elsewhere(database_url) as elsewhere:
            await begin(elsewhere, read=len(done), unread=len(unread), retrying=len(done) + 5)
            async with pipeline_process(elsewhere, retry=patient) as it:
                new = await it.publish(count=5)
                await it.until_accounted(seconds=SECONDS)
                await it.until_row("SELECT count(*) = 80 FROM hookledger.attempt", seconds=SECONDS)
                await it.until_row("SELECT state = 'done' FROM hookledger.replay", seconds=SECONDS)
                expected = Counter(done + unread + new)
                assert sent(there, "/prompt") == expected + Counter(done)
                assert sent(there, "/failing") == expected
                assert (await audit.rebuild(it.database)).state_sha256 == digest
                report = await audited(it)
                assert (report.events, report.pairs, report.unread, report.findings) == (30, 60, 0, [])
                for event_id in (done[0], unread[0], unread[-1], new[0]):
                    told = await audit.explain(it.database, event_id)
                    assert sorted(each.verdict for each in told) == ["delivered", "pending"]
                await it.rows("UPDATE hookledger.retry SET due_at = clock_timestamp()")
                there.answer["/failing"] = status(204)
                await it.until_row("SELECT count(*) = 0 FROM hookledger.retry", seconds=SECONDS)
                assert sent(there, "/failing") == Counter(dict.fromkeys(expected, 2))
                assert sent(there, "/prompt") == expected + Counter(done)
                metrics = await route_metrics.read(it.database, prompt.id)
                counted = sum(metrics.periods.values(), Counts())
                assert (counted.successful, counted.successful_retries) == (50, 20)


async def begin(url: str, *, read: int, unread: int, retrying: int) -> None:
    database = Database(url, pool_size=1)
    await database.open()
    try:
        with pytest.raises(SchemaMismatch, match="another PostgreSQL cluster"):
            await schema.check(database)
        found = await lineage.begin(database)
        assert found is not None
        assert (found.read, found.unread, found.settled, found.retrying) == (read, unread, 0, retrying)
        await schema.check(database)
    finally:
        await database.close()
