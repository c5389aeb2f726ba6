"""Seals cover who had deliveries sent again, and what was lost: over upgrades, retention and restores."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
import pytest_asyncio

from daemon.core.delivery.answer import delivery_id
from daemon.core.sealing.proof import verify
from daemon.core.sealing.seal import SealContent
from daemon.pipeline.upkeep.sealing import SealSettings
from daemon.sealing import proofs, sealer
from daemon.sealing.proofs import NotWhole, ProvenPair
from daemon.sealing.report import SealFinding
from daemon.sealing.rows import public_key_of
from eventstore.access import tokens
from eventstore.access.tokens import NewToken
from eventstore.domain_events import lost_log
from eventstore.postgres import lineage
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import ValueRefused
from eventstore.progress import manual_retry, replays
from eventstore.progress.manual_retry import RetryRequest, RetryResult
from eventstore.progress.replays import Replay, ReplayScope
from eventstore.retention import retention
from eventstore.retention.retention import Keep
from eventstore.seals import stored
from eventstore.seals.turns import LogExtent, SealTurn
from tests.support.audit.seals import PUBLIC_KEYS, VAULT, anchors_of, audited, seal
from tests.support.pipeline.process import PipelineProcess, pipeline_process
from tests.support.receivers.receiver import receiver
from tests.support.rows.credentials import LOG_MACS

OF_FORM_2 = ("resends", "replays", "replay_ends", "losses", "tokens", "token_ends")
LONG_AGO, NEVER = datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


@pytest_asyncio.fixture
async def sql(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url, server_settings={"timezone": "UTC"})
    await connection.execute("SET session_replication_role = replica")
    yield connection
    connection.terminate()


async def covered(database: Database) -> dict[str, int | None]:
    """How many rows of each kind the newest seal covers."""
    row = await stored.newest(database)
    assert row is not None
    found = {name: getattr(row, name) for name in OF_FORM_2}
    return {name: None if text is None else sum(int(day.split()[1]) for day in text.split(",") if day) for name, text in found.items()}  # fmt: skip


async def delivered(it: PipelineProcess, url: str) -> tuple[UUID, list[int]]:
    """A route, and the seqs of events that it got."""
    route = await it.route(url)
    await it.publish(count=4)
    await it.until_row("SELECT count(*) = 4 FROM hookledger.attempt WHERE route_id = $1", route.id)
    await it.until_accounted()
    rows = await it.rows("SELECT seq FROM hookledger.attempt WHERE route_id = $1 ORDER BY seq", route.id)
    return route.id, [row["seq"] for row in rows]


async def send_again(it: PipelineProcess, route_id: UUID, seq: int, actor: str = "anna") -> None:
    """By hand, without anybody who sends it."""
    request = RetryRequest(actor=actor, origin="api", reason="because")
    assert (
        await manual_retry.retry(it.database, route_id=route_id, seq=seq, request=request, macs=LOG_MACS)
        is RetryResult.DUE
    )


async def replayed(it: PipelineProcess, route_id: UUID, seqs: list[int]) -> Replay:
    """A replay that runs, without anybody who sends it."""
    scope = ReplayScope(
        route_id=route_id, tenant="acme", since=LONG_AGO, until=NEVER, sendable_from=LONG_AGO, wanted="all"
    )
    request = RetryRequest(actor="anna", origin="api", reason="because")
    return await replays.begin(it.database, uuid4(), scope, request, chosen=seqs, macs=LOG_MACS)


async def lost(it: PipelineProcess, last: int) -> None:
    await lost_log.record(it.database, timeline=2, ticks=(18, last), positions=(5, 4), found_by="daemon")


async def test_each_request_is_news_for_a_seal_and_is_covered_once(database_url: str) -> None:
    async with receiver() as there, pipeline_process(database_url) as running:
        route_id, seqs = await delivered(running, there.url)
        await seal(running.database)
    nothing = dict.fromkeys(OF_FORM_2, 0)
    async with pipeline_process(database_url, run=False) as it:
        assert (await seal(it.database)).is_current
        await send_again(it, route_id, seqs[0])
        await seal(it.database)
        assert await covered(it.database) == nothing | {"resends": 1}
        replay = await replayed(it, route_id, seqs[1:])
        await seal(it.database)
        assert await covered(it.database) == nothing | {"replays": 1}
        await replays.cancel(it.database, replay, detail="cancelled")
        await lost(it, 20)
        await seal(it.database)
        assert await covered(it.database) == nothing | {"replay_ends": 1, "losses": 1}
        await lost(it, 20)  # another process, which found the same
        assert (await seal(it.database)).is_current
        token = NewToken(id="a1", kind="admin", tenant=None, name="", hash=bytes(32), created_by="cli", expires_at=None)
        await tokens.add(it.database, token, macs=VAULT.macs)
        await seal(it.database)
        assert await covered(it.database) == nothing | {"tokens": 1}
        for _ in range(2):
            await tokens.note_use(it.database, "a1", seconds=1)
            assert (await seal(it.database)).is_current
            await tokens.revoke(it.database, "a1")
            await seal(it.database)  # the second time nothing has changed
        assert await covered(it.database) == nothing | {"token_ends": 1}
        await lost(it, 21)
        await replayed(it, route_id, [])  # done at once
        await seal(it.database)
        assert await covered(it.database) == nothing | {"replays": 1, "replay_ends": 1, "losses": 1}
        assert (await seal(it.database)).is_current
        report = await audited(it.database)
        assert (report.findings, report.rows) == ([], 4 + 4 + 9)
        (loss,) = await lost_log.read(it.database)
        assert (loss.first_tick, loss.last_tick) == (18, 21)


async def test_nothing_is_found_while_deliveries_are_sent_again_and_sealed(database_url: str) -> None:
    settings = SealSettings(every=timedelta(0))
    async with (
        receiver() as there,
        pipeline_process(database_url, seals=settings) as it,
        pipeline_process(database_url, seals=settings),
    ):
        route_id, seqs = await delivered(it, there.url)
        for turn in range(12):
            request = RetryRequest(actor=f"user:{turn}", origin="api")
            await manual_retry.retry(it.database, route_id=route_id, seq=seqs[0], request=request, macs=LOG_MACS)
            replay = await replayed(it, route_id, seqs[1:])
            it.pipeline.hurry()
            assert (await audited(it.database)).findings == []
            if turn % 3 == 0:
                await replays.cancel(it.database, replay, detail="cancelled")
            await it.until_row("SELECT state <> 'running' FROM hookledger.replay WHERE id = $1", replay.id)
            assert (await audited(it.database)).findings == []
        await it.until_row(
            "SELECT count(*) = 24 AND bool_and(is_sealed) FROM ("
            " SELECT ended_txid::text::xid8 < pg_snapshot_xmax((SELECT snap FROM hookledger.seal ORDER BY n DESC LIMIT 1)) AS is_sealed"
            " FROM hookledger.replay UNION ALL"
            " SELECT txid::text::xid8 < pg_snapshot_xmax((SELECT snap FROM hookledger.seal ORDER BY n DESC LIMIT 1))"
            " FROM hookledger.replay) requests"
        )
        assert (await audited(it.database)).findings == []


async def test_what_a_running_replay_counts_is_sealed_with_its_end(database_url: str, sql: asyncpg.Connection) -> None:
    async with receiver() as there, pipeline_process(database_url) as running:
        route_id, seqs = await delivered(running, there.url)
    async with pipeline_process(database_url, run=False) as it:
        replay = await replayed(it, route_id, seqs)
        await seal(it.database)
        for limit in (1, 2):
            await replays.schedule(it.database, replay, limit=limit)
            assert (await seal(it.database)).is_current
            assert (await audited(it.database)).findings == []
        await sql.execute("UPDATE hookledger.replay SET actor = 'mallory'")
        (finding,) = (await audited(it.database)).findings
        assert (finding.part, finding.seal) == ("replay", 1)
        assert "of the 1 replays that began of" in finding.detail
        assert finding.detail.endswith("at least one is not as it was sealed")
        await sql.execute("UPDATE hookledger.replay SET actor = 'anna'")
        await replays.finish(it.database, replay.id)
        await seal(it.database)
        assert (await audited(it.database)).findings == []
        await sql.execute("UPDATE hookledger.replay SET scheduled = 4")
        (finding,) = (await audited(it.database)).findings
        assert (finding.part, finding.seal) == ("replay", 2)
        assert "ends of replays that began" in finding.detail


async def test_seals_of_an_older_version_hold_and_the_next_one_covers_all_that_they_did_not(
    database_url: str, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their hash is signed: it stays that of the fields that they have."""
    async with receiver() as there, pipeline_process(database_url) as it:
        route_id, seqs = await delivered(it, there.url)
        await send_again(it, route_id, seqs[0])
        await it.until_row("SELECT count(*) = 5 FROM hookledger.attempt")
        await it.until_accounted()
        with monkeypatch.context() as older:
            older.setattr(sealer, "SealContent", _of_form_1)
            with pytest.raises(ValueRefused, match="seal_form_check"):  # a daemon that was overtaken
                await seal(it.database)
            await sql.execute("ALTER TABLE hookledger.seal DROP CONSTRAINT seal_form_check")
            seals = [await seal(it.database)]
            await it.publish()
            await it.until_row("SELECT count(*) = 6 FROM hookledger.attempt")
            await it.until_accounted()
            seals.append(await seal(it.database))
        await sql.execute(
            "ALTER TABLE hookledger.seal ADD CONSTRAINT seal_form_check"
            " CHECK (num_nulls(resends, replays, replay_ends, losses, tokens, token_ends) = 0) NOT VALID"
        )
        assert await covered(it.database) == dict.fromkeys(OF_FORM_2)
        report = await audited(it.database, anchors=anchors_of(*seals))
        assert (report.findings, report.rows) == ([], 5 + 6)
        assert not (await seal(it.database)).is_current
        assert await covered(it.database) == dict.fromkeys(OF_FORM_2, 0) | {"resends": 1}
        assert (await seal(it.database)).is_current
        report = await audited(it.database, anchors=anchors_of(*seals))
        assert (report.findings, report.rows) == ([], 5 + 6 + 1)
        proof = await _proof(it, route_id, seqs[0])
        assert [len(each["fields"]) for each in proof["seals"]] == [19, 25]
        proven = verify(proof, await _keys(it.database))
        assert (len(proven.attempts), [each.actor for each in proven.resends]) == (2, ["anna"])
        await send_again(it, route_id, seqs[1], "ben")
        await it.until_row("SELECT count(*) = 7 FROM hookledger.attempt")
        await it.until_accounted()
        await seal(it.database)
        proof = await _proof(it, route_id, seqs[1])
        assert [len(each["fields"]) for each in proof["seals"]] == [19, 25]
        proven = verify(proof, await _keys(it.database))
        assert (len(proven.attempts), [each.actor for each in proven.resends]) == (2, ["ben"])
        for forged in (", ".join(f"{name} = ''" for name in OF_FORM_2), "resends = ''"):
            await sql.execute(f"UPDATE hookledger.seal SET {forged} WHERE n = 1")
            (finding,) = (await audited(it.database)).findings
            assert finding.detail == "seal 1 is not what was written: its hash differs"
            await sql.execute(
                "ALTER TABLE hookledger.seal DROP CONSTRAINT IF EXISTS seal_form_check; UPDATE hookledger.seal"
                f" SET {', '.join(f'{name} = NULL' for name in OF_FORM_2)} WHERE n = 1"
            )


async def test_what_retention_drops_is_no_finding_and_the_rest_is_still_compared(
    database_url: str, sql: asyncpg.Connection
) -> None:
    async with receiver() as there, pipeline_process(database_url) as running:
        route_id, seqs = await delivered(running, there.url)
    async with pipeline_process(database_url, run=False) as it:
        for days, seq in zip((42, 42, 41, 0), seqs, strict=True):
            await send_again(it, route_id, seq)
            await _age(sql, "resend", "at", days)
        await sql.execute("DELETE FROM hookledger.retry")
        for days, ended in ((43, 43), (42, 42), (42, 39), (41, 41), (0, 0)):
            replay = await replayed(it, route_id, seqs)
            await replays.finish(it.database, replay.id)
            await _age(sql, "replay", "created_at", days)
            await _age(sql, "replay", "ended_at", ended)
        await seal(it.database)
        before = await audited(it.database)
        await _drop_a_day(sql, 41)
        await retention.sweep(it.database, Keep(), macs=LOG_MACS)
        left = [await sql.fetchval(f"SELECT count(*) FROM hookledger.{table}") for table in ("resend", "replay")]
        after = await audited(it.database)
        assert (before.findings, after.findings, left) == ([], [], [1, 4])
        assert (before.rows - after.rows, after.dropped) == (3 + 2 * 1, 2 + 2)
        await sql.execute("UPDATE hookledger.replay SET actor = 'mallory' WHERE created_at < now() - interval '1 day'")
        await sql.execute("UPDATE hookledger.resend SET actor = 'mallory'")
        assert [each.part for each in (await audited(it.database)).findings] == ["resend", "replay"]
        await sql.execute("DELETE FROM hookledger.replay WHERE created_at < now() - interval '1 day'")
        assert [each.part for each in (await audited(it.database)).findings] == ["resend", "replay", "replay"]


@pytest.mark.parametrize("table", ["resend", "replay", "lost_log"])
async def test_what_is_said_to_be_from_long_before_a_seal_without_it_is_told(
    database_url: str, sql: asyncpg.Connection, table: str
) -> None:
    async with receiver() as there, pipeline_process(database_url) as running:
        route_id, seqs = await delivered(running, there.url)
    async with pipeline_process(database_url, run=False) as it:
        await seal(it.database)
        found: list[SealFinding] = []
        for days in (1, 3):
            at = {"resend": "at", "replay": "created_at", "lost_log": "until"}[table]
            if table == "resend":
                await send_again(it, route_id, seqs[days])
            elif table == "replay":
                await replays.finish(it.database, (await replayed(it, route_id, seqs)).id)
            else:
                await lost(it, 18 + days)
            await _age(sql, table, at, days)
            await seal(it.database)
            found = (await audited(it.database)).findings
            assert [each.part for each in found] == ([] if days == 1 else [table])
        assert "were written after" in found[0].detail
        assert "when seal 2 was made without them" in found[0].detail


async def test_what_is_asked_for_after_a_clock_was_set_back_by_a_year_is_no_finding(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = SealTurn.state

    async def ahead(turn: SealTurn, *, after_tick: int, after_pos: int) -> LogExtent:
        found = await state(turn, after_tick=after_tick, after_pos=after_pos)
        return replace(found, at=found.at + timedelta(days=365))

    async with receiver() as there, pipeline_process(database_url) as running:
        route_id, seqs = await delivered(running, there.url)
    async with pipeline_process(database_url, run=False) as it:
        with monkeypatch.context() as wrong:
            wrong.setattr(SealTurn, "state", ahead)
            await seal(it.database)
        for seq in seqs[:2]:
            await send_again(it, route_id, seq)
            assert not (await seal(it.database)).is_current
            assert (await audited(it.database)).findings == []


async def test_requests_are_covered_over_a_restored_dump(database_url: str, sql: asyncpg.Connection) -> None:
    async with receiver() as there, pipeline_process(database_url) as running:
        route_id, seqs = await delivered(running, there.url)
    await sql.execute(
        """
        UPDATE hookledger.meta SET value = '42' WHERE key = 'system_identifier';
        UPDATE hookledger.lease SET owner = NULL, expires_at = '-infinity'
        """
    )
    async with pipeline_process(database_url, run=False) as it:
        await send_again(it, route_id, seqs[0], "sealed")
        replay = await replayed(it, route_id, seqs[2:])
        await lost(it, 20)
        for id in ("a1", "b2"):
            token = NewToken(
                id=id, kind="admin", tenant=None, name="", hash=bytes(32), created_by="cli", expires_at=None
            )
            await tokens.add(it.database, token, macs=VAULT.macs)
        await tokens.revoke(it.database, "a1")
        before = await seal(it.database)
        await send_again(it, route_id, seqs[1], "not sealed")
        await lost(it, 21)
        assert await lineage.begin(it.database) is not None
        assert (await audited(it.database, anchors=anchors_of(before))).findings == []
        await replays.finish(it.database, replay.id)
        await tokens.revoke(it.database, "b2")
        await seal(it.database)
        newest = {"resends": 1, "replays": 0, "replay_ends": 1, "losses": 1, "tokens": 0, "token_ends": 1}
        assert await covered(it.database) == newest
        report = await audited(it.database)
        assert (report.findings, report.rows) == ([], 4 + 4 + 10)
        columns = [(table, "seal") for table in ("resend", "replay", "lost_log", "api_token")]
        for table, column in (*columns, ("replay", "ended_seal"), ("api_token", "revoked_seal")):
            await sql.execute(f"UPDATE hookledger.{table} SET {column} = coalesce({column}, 0) + 1")
            assert table in {each.part for each in (await audited(it.database)).findings}
            await sql.execute(f"UPDATE hookledger.{table} SET {column} = nullif({column} - 1, 0)")
            assert (await audited(it.database)).findings == []
        proof = await _proof(it, route_id, seqs[0])
        assert [each.actor for each in verify(proof, await _keys(it.database)).resends] == ["sealed"]
        await sql.execute("UPDATE hookledger.resend SET actor = 'mallory' WHERE actor = 'sealed'")
        with pytest.raises(NotWhole, match="are not those that seal 1 covers"):
            await _proof(it, route_id, seqs[0])
        assert [(each.part, each.seal) for each in (await audited(it.database)).findings] == [("resend", 1)]


async def test_rows_of_a_lineage_without_a_seal_are_covered_by_no_seal_of_the_one_before(
    database_url: str, sql: asyncpg.Connection
) -> None:
    """Its transactions have numbers that the snapshots of an earlier cluster seem to show."""
    async with receiver() as there, pipeline_process(database_url) as running:
        route_id, seqs = await delivered(running, there.url)
        await seal(running.database)
    async with pipeline_process(database_url, run=False) as it:
        await send_again(it, route_id, seqs[0])
        await sql.execute("UPDATE hookledger.attempt SET seal = 1, txid = 0 WHERE seq < $1", seqs[3])
        await sql.execute("UPDATE hookledger.attempt SET txid = 5 WHERE seal IS NULL")
        await sql.execute("UPDATE hookledger.resend SET txid = 5")
        await sql.execute("UPDATE hookledger.meta SET value = '42' WHERE key = 'system_identifier'")
        await sql.execute("UPDATE hookledger.lease SET owner = NULL, expires_at = '-infinity'")
        assert await lineage.begin(it.database) is not None
        assert await sql.fetchval("SELECT array_agg(seal ORDER BY seq) FROM hookledger.attempt") == [1, 1, 1, None]
        assert await sql.fetchval("SELECT seal IS NULL AND txid > 0 FROM hookledger.resend")


async def test_a_dump_of_an_older_version_is_restored_before_anything_covers_its_requests(
    database_url: str, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The migration gives its rows a transaction of the new cluster, which a snapshot of the old one may seem to show."""
    await sql.execute(
        """
        UPDATE hookledger.meta SET value = '42' WHERE key = 'system_identifier';
        ALTER TABLE hookledger.seal DROP CONSTRAINT seal_form_check
        """
    )
    async with pipeline_process(database_url, run=False) as it:
        route = await it.route("http://127.0.0.1:9/")
        await replays.finish(it.database, (await replayed(it, route.id, [1])).id)
        await sql.execute(
            "INSERT INTO hookledger.resend (route_id, seq, actor, origin) VALUES ($1, 1, 'a', 'o')", route.id
        )
        with monkeypatch.context() as older:
            older.setattr(sealer, "SealContent", _of_form_1)
            await seal(it.database)
        await sql.execute(
            "UPDATE hookledger.lease SET owner = NULL, expires_at = '-infinity';"
            " UPDATE hookledger.resend SET txid = 5; UPDATE hookledger.replay SET txid = 5, ended_txid = 5;"
            " ALTER TABLE hookledger.seal ADD CONSTRAINT seal_form_check CHECK"
            " (num_nulls(resends, replays, replay_ends, losses, tokens, token_ends) = 0) NOT VALID"
        )
        assert await lineage.begin(it.database) is not None
        assert (await audited(it.database)).findings == []
        await seal(it.database)
        newest = await covered(it.database)
        assert newest == dict.fromkeys(OF_FORM_2, 0) | {"resends": 1, "replays": 1, "replay_ends": 1}
        assert (await audited(it.database)).findings == []


def _of_form_1(**fields: Any) -> SealContent:
    return SealContent(**{name: value for name, value in fields.items() if name not in OF_FORM_2})


async def _keys(database: Database) -> list[Any]:
    row = await stored.newest(database)
    assert row is not None
    assert row.public_key in PUBLIC_KEYS
    return [public_key_of(row)]


async def _proof(it: PipelineProcess, route_id: UUID, seq: int) -> Any:
    (row,) = await it.rows("SELECT event_id, event_time FROM hookledger.attempt WHERE seq = $1 AND number = 1", seq)
    return await proofs.of_delivery(
        it.database,
        ProvenPair(
            delivery=delivery_id(route_id, row["event_id"], row["event_time"]),
            tenant="acme",
            event=row["event_id"],
            event_time=row["event_time"],
            seq=seq,
            route_id=route_id,
        ),
    )


async def _age(sql: asyncpg.Connection, table: str, column: str, days: int) -> None:
    """Makes the newest row so many days older."""
    await sql.execute(
        f"UPDATE hookledger.{table} SET {column} = {column} - $1::interval"
        f" WHERE txid = (SELECT max(txid) FROM hookledger.{table})",
        timedelta(days=days),
    )


async def _drop_a_day(sql: asyncpg.Connection, days: int) -> None:
    """Makes a partition of outcomes that retention drops."""
    day = (datetime.now(UTC) - timedelta(days=days)).date()
    await sql.execute("SELECT hookledger.ensure_partitions($1, $1)", day)
