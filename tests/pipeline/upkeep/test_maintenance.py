"""Retention in a running daemon: it drops only accounted events, logs what it drops, and disturbs nothing."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from daemon import audit
from daemon.core.delivery.retry import RetryPolicy
from daemon.pipeline.tunables import Tunables
from eventstore.access import sessions
from eventstore.access.sessions import PendingLink
from eventstore.postgres import schema
from eventstore.postgres.errors import SchemaMismatch
from eventstore.retention.retention import Keep
from tests.support.pipeline.process import PipelineProcess, pipeline_process
from tests.support.receivers.receiver import receiver, status
from tests.support.rows.credentials import MACS
from tests.support.until import until

AGE = timedelta(days=40)
SECONDS = 30.0
ATTACHED = "SELECT string_agg(inhrelid::regclass::text, ', ') FROM pg_inherits WHERE inhparent = 'hookledger.domain_event'::regclass"
WITHOUT_ATTEMPTS = Keep(events=timedelta(days=100), attempts=timedelta(days=30))
PATIENT = RetryPolicy(first=timedelta(hours=1), cap=timedelta(hours=1), attempts=5)


async def age(url: str, *, routes: bool = True) -> None:
    """Makes all rows 40 days older. If that includes `routes`, their hash chain is broken."""
    sql = await asyncpg.connect(url, server_settings={"timezone": "UTC"})
    try:
        day = datetime.now(UTC).date() - AGE
        for part in (day - timedelta(days=1), day, day + timedelta(days=1)):
            await sql.execute("SELECT hookledger.ensure_partitions($1, $1)", part)
        await sql.execute(
            f"""
            SET session_replication_role = replica;
            UPDATE hookledger.domain_event SET recorded_at = recorded_at - interval '{AGE.days} days';
            UPDATE hookledger.attempt SET at = at - interval '{AGE.days} days';
            UPDATE hookledger.route_metric SET hour = hour - interval '{AGE.days} days';
            UPDATE hookledger.route_tally SET hour = hour - interval '{AGE.days} days', at = at - interval '{AGE.days} days';
            UPDATE hookledger.retry SET recorded_at = recorded_at - interval '{AGE.days} days'
            """
        )
        if routes:
            await sql.execute(
                f"UPDATE hookledger.route_event SET effective_at = effective_at - interval '{AGE.days + 1} days'"
            )
    finally:
        await sql.close()


async def until_gone(it: PipelineProcess, parent: str) -> None:
    """Waits until no partition of more than 31 days ago is left."""
    await it.until_row(
        "SELECT count(*) = 0 FROM pg_class WHERE relnamespace = 'hookledger'::regnamespace AND relkind = 'r' "
        "AND relname ~ ('^' || $1 || '_[0-9]{8}$') AND relname < $1 || to_char(now() - interval '31 days', '_YYYYMMDD')",
        parent,
        seconds=SECONDS,
    )


async def test_what_retention_drops_under_a_running_daemon_is_accounted_for(database_url: str) -> None:
    async with receiver() as there:
        there.answer["/failing"] = status(500)
        async with pipeline_process(database_url, retry=PATIENT) as it:
            prompt = await it.route(f"{there.url}/prompt")
            failing = await it.route(f"{there.url}/failing")
            old = await it.publish(count=3)
            await it.until_row("SELECT count(*) = 6 FROM hookledger.attempt", seconds=SECONDS)
            await it.until_accounted(seconds=SECONDS)
        await age(database_url)
        async with pipeline_process(database_url, retry=PATIENT) as it:
            new = await it.publish()
            await it.until_row(
                "SELECT count(*) = 3 FROM hookledger.attempt WHERE outcome = 'expired' AND route_id = $1",
                failing.id,
                seconds=SECONDS,
            )
            await until_gone(it, "domain_event")
            await until_gone(it, "attempt")
            await there.count(8, seconds=SECONDS)
            await it.until_row("SELECT count(*) = 1 FROM hookledger.retry", seconds=SECONDS)
            with pytest.raises(audit.UnknownEvent):
                await audit.explain(it.database, old[0])
            assert await it.rows("SELECT FROM hookledger.retry WHERE seq <= 3") == []
            told = {each.route_id: each.verdict for each in await audit.explain(it.database, new[0])}
            assert told == {prompt.id: "delivered", failing.id: "pending"}


async def test_an_event_whose_outcomes_are_gone_is_not_called_pending(database_url: str) -> None:
    (old,) = await one_delivered(database_url)
    await age(database_url)
    async with pipeline_process(database_url, run=False) as it:
        (told,) = await audit.explain(it.database, old)
        assert told.verdict == "delivered"
    async with pipeline_process(database_url, keep=WITHOUT_ATTEMPTS) as it:
        await until_gone(it, "attempt")
        (told,) = await audit.explain(it.database, old)
        assert (told.verdict, told.attempts) == ("no_longer_kept", ())


async def test_an_audit_says_from_when_on_it_can_tell(database_url: str) -> None:
    (old,) = await one_delivered(database_url)
    await age(database_url, routes=False)
    end = datetime.now(UTC) + timedelta(hours=1)
    async with pipeline_process(database_url, run=False) as it:
        report = await audit.audit(it.database, start=end - 2 * AGE, end=end)
        assert [each.event_id for each in report.findings] == [old], "moved to before the creation of its route"
        assert (report.events, report.kept_from) == (1, None)
    async with pipeline_process(database_url, keep=WITHOUT_ATTEMPTS) as it:
        await until_gone(it, "attempt")
        report = await audit.audit(it.database, start=end - 2 * AGE, end=end)
        assert (report.events, report.findings) == (0, [])
        assert report.kept_from is not None
        assert end - AGE < report.kept_from < end - timedelta(days=30)
        report = await audit.audit(it.database, start=report.kept_from, end=end)
        assert report.kept_from is None


async def one_delivered(url: str) -> list[str]:
    async with receiver() as there, pipeline_process(url) as it:
        await it.route(there.url)
        ids = await it.publish()
        await it.until_row("SELECT count(*) = 1 FROM hookledger.attempt", seconds=SECONDS)
        await it.until_accounted(seconds=SECONDS)
        return ids


async def test_what_keeps_old_days_until_a_person_acts_is_told(database_url: str) -> None:
    sql = await asyncpg.connect(database_url)
    day = datetime.now(UTC).date() - AGE
    await sql.execute("SELECT hookledger.ensure_partitions($1, $1)", day)
    await sql.execute("CREATE TABLE hookledger.others PARTITION OF hookledger.domain_event DEFAULT")
    await sql.close()
    async with pipeline_process(database_url) as it:
        await until(lambda: it.pipeline.standing_faults != [])
        (fault,) = it.pipeline.standing_faults
        assert fault.startswith(f"nothing is dropped from domain_event_{day:%Y%m%d} on: there is a default partition")
        assert it.pipeline.stage_faults == []


@pytest.mark.parametrize("days_ahead", [schema.PARTITION_DAYS_AHEAD])
async def test_a_partition_that_is_missing_is_made_within_minutes(database_url: str) -> None:
    """The partitions of today and of the next days are missing, as after the clock was put forward."""
    tunables = Tunables(partition_seconds=0.05)
    async with pipeline_process(database_url, tunables=tunables) as it:
        await it.until_accounted(seconds=SECONDS)
        sql = await asyncpg.connect(database_url)
        await sql.execute("DROP TABLE " + await sql.fetchval(ATTACHED))
        await sql.close()
        await it.until_row(
            "SELECT count(*) = 9 FROM pg_inherits WHERE inhparent = 'hookledger.domain_event'::regclass",
            seconds=SECONDS,
        )
        assert await it.publish()


async def test_a_daemon_whose_server_was_replaced_by_a_restored_one_ends(database_url: str) -> None:
    tunables = Tunables(partition_seconds=0.05)
    async with pipeline_process(database_url, run=False, tunables=tunables) as it:
        running = asyncio.create_task(it.pipeline.run())
        await it.until_row("SELECT count(*) = 16 FROM hookledger.lease WHERE owner IS NOT NULL", seconds=SECONDS)
        await it.rows("UPDATE hookledger.meta SET value = '42' WHERE key = 'system_identifier'")
        async with asyncio.timeout(SECONDS):
            with pytest.raises(ExceptionGroup) as ended:
                await running
        assert ended.group_contains(SchemaMismatch, match="another PostgreSQL cluster")


async def test_login_links_that_are_over_are_swept_away(database_url: str) -> None:
    async with pipeline_process(database_url, run=False) as it:
        for number, seconds in enumerate((0, 3600)):
            link = bytes([number]) * 32
            made = PendingLink(tenant=None, actor="dashboard", role="manage")
            await sessions.add_link(
                it.database, link, made, created_by="test", life=timedelta(seconds=seconds), macs=MACS
            )
    async with pipeline_process(database_url, keep=WITHOUT_ATTEMPTS) as it:
        await it.until_row("SELECT count(*) = 1 FROM hookledger.login_link", seconds=SECONDS)


async def test_audits_that_are_over_for_a_month_are_swept_away(database_url: str) -> None:
    add = (
        "INSERT INTO hookledger.audit_job (id, actor, created_at) VALUES (gen_random_uuid(), $1, now() - $2::interval)"
    )
    async with pipeline_process(database_url, run=False) as it:
        for days in (29, 31):
            await it.rows(add, f"{days}", timedelta(days=days))
    async with pipeline_process(database_url, keep=WITHOUT_ATTEMPTS) as it:
        await it.until_row("SELECT count(*) = 1 FROM hookledger.audit_job", seconds=SECONDS)
        assert [row["actor"] for row in await it.rows("SELECT actor FROM hookledger.audit_job")] == ["29"]
