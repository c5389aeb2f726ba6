"""Seals are made beside deliveries, by one process for all, over restarts, retention, restores and lost commits."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from daemon import audit
from daemon.core.sealing.head import SealKey
from daemon.credentials.keys import Vault
from daemon.pipeline.upkeep.sealing import Sealing, SealSettings
from daemon.sealing.anchoring.anchors import parse_anchors
from daemon.sealing.auditing import audit_seals
from daemon.sealing.sealer import Sealer, SealRefused
from eventstore.postgres import lineage
from eventstore.postgres.connect import Database
from eventstore.retention import retention
from eventstore.retention.retention import Keep
from eventstore.seals import stored, turns
from tests.benchmarks.filler import fill_routes
from tests.support.audit.seals import PUBLIC_KEYS, VAULT, anchors_of, audited, seal
from tests.support.pipeline.process import CONTEXT, PipelineProcess, pipeline_process
from tests.support.receivers.receiver import receiver
from tests.support.rows.credentials import LOG_MACS

SOME_WORK_SECONDS = 0.0001


@pytest_asyncio.fixture
async def sql(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url, server_settings={"timezone": "UTC"})
    await connection.execute("SET session_replication_role = replica")
    yield connection
    connection.terminate()


async def until_sealed(it: PipelineProcess) -> None:
    """Waits until a seal covers every outcome and every tick."""
    await it.until_row(
        "SELECT (SELECT count(*) FROM hookledger.attempt) ="
        " (SELECT coalesce(sum((SELECT sum(r) FROM unnest(attempt_rows) r)), 0) FROM hookledger.seal)"
        " AND (SELECT coalesce(max(tick), 0) FROM hookledger.seal) = (SELECT max(tick) FROM hookledger.tick)"
    )


async def test_two_processes_seal_what_they_deliver_and_nothing_is_found(database_url: str, tmp_path: Path) -> None:
    anchors = tmp_path / "anchors"
    settings = SealSettings(every=timedelta(0), anchor_file=anchors)
    async with receiver() as there:
        for _ in range(2):  # the second time all is started again
            async with (
                pipeline_process(database_url, seals=settings) as it,
                pipeline_process(database_url, seals=settings),
            ):
                await it.route(there.url + "/a")
                for _ in range(20):
                    await it.publish(count=20)
                    report = await audited(it.database)
                    assert report.findings == []
                await it.until_accounted()
                await until_sealed(it)
    database = Database(database_url, pool_size=2)
    await database.open()
    report = await audited(database, anchors=parse_anchors(anchors.read_text()))
    assert (report.findings, report.anchors == report.seals, report.seals > 1) == ([], True, True)
    assert report.rows == 800 + 400 * 3  # events; outcomes: one route at first, then two
    await database.close()


async def test_only_one_process_has_the_turn(database_url: str) -> None:
    async with pipeline_process(database_url, run=False) as it:
        async with turns.turn(it.database) as held:
            assert held is not None
            assert await Sealer(it.database, VAULT.seal_keys).seal() is None
        assert await Sealer(it.database, VAULT.seal_keys).seal() is not None


async def test_what_is_new_beyond_the_limits_takes_several_seals(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "MAX_ROUTE_EVENTS", 3)
    monkeypatch.setattr(turns, "MAX_TICKS", 2)
    async with pipeline_process(database_url, run=False) as it:
        for number in range(8):
            await it.route(f"https://shop.example/{number}")
        await make_ticks(it.database, 5)
        made = [await seal(it.database)]
        while made[-1].is_behind:
            made.append(await seal(it.database))
        covered = [(each.seal.route_pos, each.seal.tick) for each in made if each.seal is not None]
        report = await audited(it.database)
    assert covered == [(3, 2), (6, 4), (8, 5)]
    assert (report.seals, report.findings) == (3, [])


async def test_the_event_loop_has_turns_while_a_seal_of_much_is_made(database_url: str) -> None:
    async with pipeline_process(database_url, run=False) as it:
        await fill_routes(database_url, 4_000)
        await make_ticks(it.database, 10_000)
        turns_taken: list[float] = []
        spinning = asyncio.ensure_future(spin(turns_taken))
        gc.disable()  # it takes longer than all that is looked for here
        try:
            await seal(it.database)
        finally:
            gc.enable()
            spinning.cancel()
    work = [seconds for seconds in turns_taken if seconds > SOME_WORK_SECONDS]
    assert max(work) < sum(work) / 5


async def make_ticks(database: Database, count: int) -> None:
    """So many ticks that read nothing."""
    async with database.connection() as connection:
        await connection.execute(
            "INSERT INTO hookledger.tick (tick, snap, at, route_pos, closed_upto)"
            " SELECT n, pg_current_snapshot(), now(), 0, now() FROM generate_series(1, $1::integer) n",
            count,
        )


async def spin(turns_taken: list[float]) -> None:
    """Notes the CPU time between two turns of the event loop, until it is cancelled."""
    last = time.thread_time()
    while True:
        await asyncio.sleep(0)
        now = time.thread_time()
        turns_taken.append(now - last)
        last = now


async def test_a_seal_is_made_only_if_something_is_new_and_the_last_is_old_enough(database_url: str) -> None:
    async with pipeline_process(database_url, run=False) as it:
        assert (await seal(it.database)).is_current
        await it.route("http://127.0.0.1:9/")
        assert (await seal(it.database)).head is not None
        assert (await seal(it.database)).is_current
        await it.publish()
        assert (await seal(it.database)).is_current  # nobody has read the event
        await it.rows("SELECT hookledger.make_tick()")
        young = await Sealer(it.database, VAULT.seal_keys).seal(every=timedelta(hours=1))
        assert young is not None
        assert (young.head, young.is_current) == (None, False)
        assert (await seal(it.database)).head is not None


async def test_more_ticks_than_one_seal_takes_become_several(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "MAX_TICKS", 2)
    async with pipeline_process(database_url, run=False) as it:
        for _ in range(5):
            await it.publish()
            await it.rows("SELECT hookledger.make_tick()")
        assert [(await seal(it.database)).is_behind for _ in range(3)] == [True, True, False]
        report = await audited(it.database)
        assert (report.findings, report.rows) == ([], 5)


async def test_an_event_of_a_transaction_that_was_open_is_in_the_seal_of_its_tick(
    database_url: str, sql: asyncpg.Connection
) -> None:
    async with pipeline_process(database_url, run=False) as it:
        await sql.execute("BEGIN; SELECT hookledger.publish('acme', 'order.create', '{}'::jsonb, 'late')")
        for _ in range(2):
            await it.publish()
            await it.rows("SELECT hookledger.make_tick()")
            await seal(it.database)
        await sql.execute("COMMIT")
        await it.rows("SELECT hookledger.make_tick()")
        last = await seal(it.database)
        assert last.seal is not None
        assert [day.rows for day in last.seal.events] == [1]
        assert (await audited(it.database)).findings == []


_OF_DAYS_AGO = """
INSERT INTO hookledger.domain_event (recorded_at, tenant, id, type, data)
VALUES (clock_timestamp() - $1::interval, 'acme', $2, 'order.create', '{}')
"""


@pytest.mark.parametrize("is_sealed", [False, True])
async def test_an_event_that_is_said_to_be_from_long_before_it_was_written_is_told(
    database_url: str, sql: asyncpg.Connection, *, is_sealed: bool
) -> None:
    today = datetime.now(UTC).date()
    await sql.execute("SELECT hookledger.ensure_partitions($1, $2)", today - timedelta(days=3), today)
    async with pipeline_process(database_url, run=False) as it:
        await it.publish()
        await it.rows("SELECT hookledger.make_tick()")
        await seal(it.database)
        for days in (1, 3):
            await sql.execute(_OF_DAYS_AGO, timedelta(days=days), f"e{days}")
            await it.rows("SELECT hookledger.make_tick()")
            if is_sealed:
                await seal(it.database)
            told = [(each.part, each.detail) for each in (await audited(it.database)).findings]
            if days == 1:
                assert told == []
            else:
                ((part, detail),) = told
                assert part == "domain_event"
                assert f"is said to be of {today - timedelta(days=3)}, and was written after" in detail


async def test_an_event_of_a_transaction_that_was_open_for_days_is_no_finding(
    database_url: str, sql: asyncpg.Connection
) -> None:
    today = datetime.now(UTC).date()
    await sql.execute("SELECT hookledger.ensure_partitions($1, $2)", today - timedelta(days=3), today)
    async with pipeline_process(database_url, run=False) as it:
        await sql.execute("BEGIN")
        await sql.execute(_OF_DAYS_AGO, timedelta(days=3), "early")
        await it.publish()
        await it.rows("SELECT hookledger.make_tick()")
        await seal(it.database)
        await sql.execute("COMMIT")
        await it.rows("SELECT hookledger.make_tick()")
        await seal(it.database)
        assert (await audited(it.database)).findings == []


async def test_an_outcome_that_is_said_to_be_from_long_before_a_seal_without_it_is_told(
    database_url: str, sql: asyncpg.Connection
) -> None:
    today = datetime.now(UTC).date()
    await sql.execute("SELECT hookledger.ensure_partitions($1, $2)", today - timedelta(days=3), today)
    async with receiver() as there, pipeline_process(database_url) as it:
        await it.route(there.url + "/a")
        await it.publish()
        await it.until_accounted()
        await seal(it.database)
    async with pipeline_process(database_url, run=False) as it:
        names = (
            "seq, tick, route_id, event_time, started_at, shard, status_code, duration_ms, route_version, outcome, "
            "tenant, event_id, event_type, key_ids, delivery_key"
        )
        told: list[tuple[str, str]] = []
        for days in (1, 3):
            await sql.execute(
                f"INSERT INTO hookledger.attempt (at, number, {names}) SELECT at - $1::interval, number + $2, {names} "
                "FROM hookledger.attempt WHERE number = 1",
                timedelta(days=days),
                days,
            )
            await seal(it.database)
            told = [(each.part, each.detail) for each in (await audited(it.database)).findings]
            assert [part for part, _ in told] == ([] if days == 1 else ["attempt"])
        assert "were written after" in told[0][1]


async def test_what_retention_drops_is_no_finding_and_the_rest_is_still_compared(
    database_url: str, sql: asyncpg.Connection
) -> None:
    async with receiver() as there, pipeline_process(database_url) as it:
        route = await it.route(there.url + "/a")
        await it.publish(count=3)
        await it.until_accounted()
        await _age(sql, timedelta(days=40))
        await it.publish(count=2)
        await it.until_row("SELECT count(*) = 5 FROM hookledger.attempt")
        await it.commands.delete("acme", route.id, CONTEXT)
        await seal(it.database)
    database = Database(database_url, pool_size=4)
    await database.open()
    swept = await retention.sweep(database, Keep(), macs=LOG_MACS)
    assert swept is not None
    assert len(swept.dropped) == 2
    report = await audited(database)
    assert (report.findings, report.rows, report.dropped) == (
        [],
        4,
        3,
    )  # a day of events and one of outcomes, and the tick that read them
    await sql.execute("UPDATE hookledger.attempt SET duration_ms = duration_ms + 1")
    assert [finding.part for finding in (await audited(database)).findings] == ["attempt"]
    await database.close()


async def test_seals_go_on_over_a_restored_dump(database_url: str, sql: asyncpg.Connection) -> None:
    async with receiver() as there, pipeline_process(database_url) as it:
        await it.route(there.url + "/a")
        await it.publish(count=3)
        await it.until_accounted()
    await _move_to_another_cluster(sql)
    async with pipeline_process(database_url, run=False) as it:
        await it.publish(count=2)
        await it.rows("SELECT hookledger.make_tick()")  # sealed, and read again after the restore
        before = await seal(it.database)
        await it.publish(count=2)
        await it.rows("SELECT hookledger.make_tick()")  # neither
    database = Database(database_url, pool_size=4)
    await database.open()
    assert await lineage.begin(database) is not None
    assert (await audited(database, anchors=anchors_of(before))).findings == []
    await database.close()
    async with receiver() as there, pipeline_process(database_url) as it:
        await it.publish()
        await it.until_accounted()
        await it.until_row("SELECT count(*) = 8 FROM hookledger.attempt")
        after = await seal(it.database)
        assert after.seal is not None
        assert sum(day.rows for day in after.seal.events) == 3  # each event in one seal
        report = await audited(it.database, anchors=anchors_of(before, after))
        assert (report.findings, report.rows) == ([], 8 + 8)
        for column, value in (("sealed_tick", "sealed_tick + 1"), ("tick", "tick + 1")):
            await sql.execute(
                f"BEGIN; UPDATE hookledger.domain_event SET {column} = {value} WHERE {column} > 0; COMMIT"
            )
            assert (await audited(it.database)).findings
            back = value.replace("+", "-")
            await sql.execute(f"UPDATE hookledger.domain_event SET {column} = {back} WHERE {column} > 0")
        assert (await audited(it.database)).findings == []


async def test_seals_go_on_over_a_log_that_came_back_to_its_first_cluster(
    database_url: str, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was moved to another server by a dump, and back: the first lineage has the name of the present one."""

    async def deliver(url: str, count: int) -> None:
        async with pipeline_process(database_url) as it:
            if count == 1:
                await it.route(url)
            await it.publish(count=count)
            await it.until_accounted()

    async def identifiers(connection: object) -> tuple[str, str]:
        return "this", "42"

    database = Database(database_url, pool_size=4)
    await database.open()
    async with receiver() as there:
        await deliver(there.url, 1)
        seals = [await seal(database)]
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(lineage, "identifiers", identifiers)
            assert await lineage.begin(database) is not None
        await deliver(there.url, 2)
        await _move_to_another_cluster(sql)
        seals.append(await seal(database))
        assert await lineage.begin(database) is not None
        assert (await audited(database, anchors=anchors_of(*seals))).findings == []
        await deliver(there.url, 3)
        seals.append(await seal(database))
        report = await audited(database, anchors=anchors_of(*seals))
        assert (report.findings, report.rows, report.anchors) == ([], 6 + 6, 3)
        await sql.execute("UPDATE hookledger.attempt SET duration_ms = duration_ms + 1")
        assert [finding.seal for finding in (await audited(database)).findings] == [1, 2, 3]
    await database.close()


async def test_a_head_of_a_seal_that_a_restore_has_lost_is_of_another_lineage(
    database_url: str, sql: asyncpg.Connection
) -> None:
    await _move_to_another_cluster(sql)
    async with pipeline_process(database_url, run=False) as it:
        await it.route("http://127.0.0.1:9/")
        await seal(it.database)
        await it.route("http://127.0.0.1:9/")
        lost = await seal(it.database)
        await sql.execute("DELETE FROM hookledger.seal WHERE n = 2")
        (gone,) = (await audited(it.database, anchors=anchors_of(lost))).findings
        assert "the head is of 2 seals, and only the first 1 are here" in gone.detail
        await lineage.begin(it.database)
        await seal(it.database)
        (other,) = (await audited(it.database, anchors=anchors_of(lost))).findings
        assert "the head is of another lineage" in other.detail


async def test_a_head_of_another_log_or_key_is_told(database_url: str, empty_database_url: str) -> None:
    async with pipeline_process(database_url, run=False) as it:
        await it.route("http://127.0.0.1:9/")
        made = await seal(it.database)
        (foreign,) = (await audited(it.database, anchors=anchors_of(made), keys=[bytes(32)])).findings[:1]
        assert "is not signed by a key of ours" in foreign.detail
        await it.rows("UPDATE hookledger.meta SET value = 'another' WHERE key = 'log_id' RETURNING true")
        found = (await audited(it.database, anchors=anchors_of(made))).findings
        assert ["is of another log" in finding.detail for finding in found] == [True, True]


async def test_seals_of_a_former_master_key_are_continued_and_those_of_a_stranger_are_not(database_url: str) -> None:
    stranger = SealKey(bytes(32))
    async with pipeline_process(database_url, run=False) as it:
        await it.route("http://127.0.0.1:9/")
        await seal(it.database)
        await it.route("http://127.0.0.1:9/")
        with pytest.raises(SealRefused, match=r"add it to seal\.former_keys"):
            await Sealer(it.database, [stranger]).seal()
        rotated = Vault([b"n" * 32, b"k" * 32])
        assert await Sealer(it.database, rotated.seal_keys).seal() is not None
        await it.route("http://127.0.0.1:9/")
        assert await Sealer(it.database, [stranger], [key.public for key in rotated.seal_keys]).seal() is not None
        keys = [stranger.public, *(key.public for key in rotated.seal_keys)]
        assert (await audited(it.database, keys=keys)).findings == []
        assert (await audited(it.database)).findings != []


@pytest.mark.parametrize(
    "forgery",
    [
        "UPDATE hookledger.seal SET hash = sha256(hash) WHERE n = 1",
        "UPDATE hookledger.seal SET tick = tick + 1 WHERE n = 2",
        "DELETE FROM hookledger.seal WHERE n = 1",
    ],
)
async def test_a_chain_that_was_changed_is_not_continued(
    database_url: str, sql: asyncpg.Connection, forgery: str
) -> None:
    async with pipeline_process(database_url, run=False) as it:
        for _ in range(3):
            await it.route("http://127.0.0.1:9/")
            await seal(it.database)
        await sql.execute(forgery)
        await it.route("http://127.0.0.1:9/")
        if "n = 2" in forgery:  # it is neither the newest nor in a hash: the audit finds it
            assert (await audited(it.database)).findings != []
            return
        with pytest.raises(SealRefused, match="run hookledger audit"):
            await Sealer(it.database, VAULT.seal_keys).seal()


async def test_a_lifecycle_event_that_somebody_appended_by_sql_is_told(
    database_url: str, sql: asyncpg.Connection
) -> None:
    async with pipeline_process(database_url, run=False) as it:
        route = await it.route("http://127.0.0.1:9/")
        await sql.execute(
            "SELECT hookledger.append_route_event($1, 'acme', 2, 'disabled', 'admin', 'api', NULL, NULL, NULL, NULL, '{}')",
            route.id,
        )
        await seal(it.database)
        (finding,) = (await audited(it.database)).findings
        assert "position 2 of the route log has no signature" in finding.detail


async def test_a_log_without_signatures_is_whole_up_to_the_first(database_url: str, sql: asyncpg.Connection) -> None:
    async with pipeline_process(database_url, run=False) as it:
        await it.route("http://127.0.0.1:9/")
        await sql.execute("DELETE FROM hookledger.route_event_signature")  # as if an older version had appended it
        await it.route("http://127.0.0.1:9/")
        await seal(it.database)
        assert (await audited(it.database)).findings == []


async def test_an_audit_of_a_period_compares_the_seals_of_that_period(database_url: str) -> None:
    async with pipeline_process(database_url, run=False) as it:
        for _ in range(3):
            await it.publish()
            await it.rows("SELECT hookledger.make_tick()")
            await seal(it.database)
        times = [row.at for row in await stored.after(it.database, 0)]
        report = await audit_seals(
            it.database, keys=PUBLIC_KEYS, start=times[1], end=times[1] + timedelta(microseconds=1)
        )
        assert (report.seals, report.judged) == (3, 2)  # an event of then may be in the seal after
        later = datetime(2100, 1, 1, tzinfo=UTC)
        report = await audit_seals(it.database, keys=PUBLIC_KEYS, start=later, end=later + timedelta(days=1))
        assert (report.seals, report.judged) == (3, 0)


async def test_an_audit_of_a_period_compares_all_seals_that_were_made_of_it_in_the_end(
    database_url: str, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sealing stood still for longer than one seal takes: several make up for it, all of them after the period."""
    monkeypatch.setattr(turns, "MAX_TICKS", 1)
    async with pipeline_process(database_url, run=False) as it:
        for _ in range(3):
            await it.publish()
            await it.rows("SELECT hookledger.make_tick()")
        ((end,),) = await sql.fetch("SELECT clock_timestamp()")
        for _ in range(2):
            await it.publish()
            await it.rows("SELECT hookledger.make_tick()")
        for _ in range(5):
            await seal(it.database)
        start = end - timedelta(minutes=1)
        report = await audit_seals(it.database, keys=PUBLIC_KEYS, start=start, end=end)
        assert (report.findings, report.seals, report.judged) == ([], 5, 4)
        await sql.execute("UPDATE hookledger.domain_event SET data = '{\"n\": 2}' WHERE seq = 3")
        report = await audit_seals(it.database, keys=PUBLIC_KEYS, start=start, end=end)
        assert [finding.seal for finding in report.findings] == [3]


# What comes a minute apart, of eleven rows that no seal covers.
UNSEALED = {
    "events": "UPDATE hookledger.tick SET at = at + (tick - $1) * interval '1 minute' WHERE tick > $1",
    "outcomes": "UPDATE hookledger.attempt SET at = at - (seq - $1) * interval '1 minute' WHERE seq > $1",
}
# What the steps of a clock leave behind: rows that are hours apart, but for a minute or two.
STEPPED = "UPDATE hookledger.tick SET at = at + $1::interval WHERE tick = (SELECT max(tick) FROM hookledger.tick)"


@pytest.mark.parametrize("kind", UNSEALED)
async def test_that_sealing_stands_still_is_a_gap(database_url: str, sql: asyncpg.Connection, kind: str) -> None:
    """Somebody who keeps the daemons from sealing would else change what they like. A clock that was set is no reason."""
    await sql.execute("SET session_replication_role = replica")
    async with receiver() as there, pipeline_process(database_url) as it:

        async def gaps(every: timedelta | None = timedelta(minutes=1)) -> list[str]:
            report = await audit_seals(it.database, keys=PUBLIC_KEYS, start=audit.BEGINNING, end=audit.END, every=every)
            return report.gaps

        assert await gaps() == []
        await it.route(there.url)
        await it.publish()
        await it.until_accounted()
        await seal(it.database)
        last = await sql.fetchval("SELECT max(tick) FROM hookledger.tick" if kind == "events" else "SELECT 1")
        for _ in range(11):
            await it.publish()
            await it.until_accounted()
        assert await gaps() == []  # not for long
        for hours in (20, -40):
            await sql.execute(STEPPED, timedelta(hours=hours))
            assert await gaps() == []
        await sql.execute(STEPPED, timedelta(hours=20))
        await sql.execute(UNSEALED[kind], last)
        (gap,) = await gaps()
        assert "is not sealed, so that no change of it is found" in gap
        assert await gaps(timedelta(minutes=5)) == []
        assert await gaps(None) == []
        await sql.execute(STEPPED, timedelta(hours=25))
        assert ["is not sealed" in gap for gap in await gaps(timedelta(minutes=5))] == [True]


async def test_that_nothing_was_ever_sealed_is_a_gap(database_url: str, sql: asyncpg.Connection) -> None:
    async with pipeline_process(database_url, run=False) as it:
        for _ in range(11):
            await it.publish()
            await it.rows("SELECT hookledger.make_tick()")
        assert (await audited(it.database)).gaps == []
        await sql.execute("UPDATE hookledger.tick SET at = at - tick * interval '1 minute'")
        report = await audit_seals(
            it.database, keys=PUBLIC_KEYS, start=audit.BEGINNING, end=audit.END, every=timedelta(minutes=1)
        )
        assert ["is not sealed" in gap for gap in report.gaps] == [True]


async def test_a_process_that_refuses_to_seal_says_so_until_it_seals_again(
    database_url: str, sql: asyncpg.Connection
) -> None:
    async with pipeline_process(database_url, run=False) as it:
        sealing = Sealing(Sealer(it.database, VAULT.seal_keys), SealSettings(every=timedelta(0)), it.metrics)
        for _ in range(2):
            await it.route("http://127.0.0.1:9/")
            await sealing.run_once()
        await sql.execute("UPDATE hookledger.seal SET tick = tick + 1 WHERE n = 2")
        await it.route("http://127.0.0.1:9/")
        await sealing.run_once()
        assert (sealing.fault or "").startswith("nothing is sealed: seal 2 is not what was written")
        await sql.execute("UPDATE hookledger.seal SET tick = tick - 1 WHERE n = 2")
        await sealing.run_once()
        assert sealing.fault is None


@pytest.mark.parametrize("gone", ["n > 0", "n > 2", "n = 3"])
async def test_a_process_says_that_seals_which_it_knew_are_gone_or_others(
    database_url: str, sql: asyncpg.Connection, gone: str
) -> None:
    """Who deletes seals has the daemon make others of what they have changed, and no audit finds that without a head."""
    async with pipeline_process(database_url, run=False) as it:
        sealing = Sealing(Sealer(it.database, VAULT.seal_keys), SealSettings(every=timedelta(0)), it.metrics)
        with capture_logs() as logged:
            for _ in range(3):
                await it.route("http://127.0.0.1:9/")
                await sealing.run_once()
                await it.route("http://127.0.0.1:9/")
                await seal(it.database)  # by another process
            await sealing.run_once()
            assert [line for line in logged if line["event"] == "seal.went_back"] == []
            await sql.execute(f"DELETE FROM hookledger.seal WHERE {gone} OR n > 3")
            if gone == "n = 3":
                await seal(it.database)
            await it.route("http://127.0.0.1:9/")
            for _ in range(2):
                await sealing.run_once()
        (told,) = [line for line in logged if line["event"] == "seal.went_back"]
        assert told["known"] == 6
        assert (await audited(it.database)).findings == []


async def test_a_head_that_could_not_be_written_is_written_with_the_next_turn(
    database_url: str, tmp_path: Path
) -> None:
    folder = tmp_path / "not there yet"
    async with pipeline_process(database_url, run=False) as it:
        settings = SealSettings(every=timedelta(0), anchor_file=folder / "anchors")
        sealing = Sealing(Sealer(it.database, VAULT.seal_keys), settings, it.metrics)
        await it.route("http://127.0.0.1:9/")
        await sealing.run_once()
        faults = [sealing.fault]
        folder.mkdir()
        await sealing.run_once()
        faults.append(sealing.fault)
        cause = f"{folder / 'anchors'}: No such file or directory"
        assert faults == [f"signed heads are not written to seal.anchor_file: {cause}", None]
        (anchor,) = parse_anchors((folder / "anchors").read_text())
        assert anchor.size == 1
        assert (await audited(it.database, anchors=[anchor])).findings == []


async def _age(sql: asyncpg.Connection, by: timedelta) -> None:
    """Makes all events and outcomes older, in partitions of their day."""
    day = (datetime.now(UTC) - by).date()
    await sql.execute("SELECT hookledger.ensure_partitions($1, $1)", day)
    for table, column in (("domain_event", "recorded_at"), ("attempt", "at")):
        await sql.execute(f"UPDATE hookledger.{table} SET {column} = {column} - $1::interval", by)


async def _move_to_another_cluster(sql: asyncpg.Connection) -> None:
    """What is sealed from now on is sealed in another cluster than this one, so that `lineage.begin` finds a dump."""
    await sql.execute(
        """
        UPDATE hookledger.meta SET value = '42' WHERE key = 'system_identifier';
        UPDATE hookledger.lease SET owner = NULL, expires_at = '-infinity'
        """
    )
