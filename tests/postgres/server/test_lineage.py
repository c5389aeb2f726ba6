"""A new lineage: in a database from another cluster, what was done stays done, and the other events are read once."""

import asyncpg
import pytest

from eventstore import domain_events
from eventstore.domain_events import tail, ticks
from eventstore.leases import lease
from eventstore.postgres import lineage, schema
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import SchemaMismatch
from eventstore.progress import backlog, recording
from eventstore.progress.recording import Flush
from tests.support.postgres.queries import Connect
from tests.support.rows.credentials import LOG_MACS
from tests.support.values.builders import TENANTS, attempt, new_event, parked, retry

ALL = list(range(domain_events.SHARDS))
# Dumps of a cluster that had made this many more transactions than this one, and of one that had made fewer.
BUSIER, YOUNGER = 10**9, 0


async def publish(database: Database, *ids: str, shard: int = 0) -> None:
    await domain_events.publish(database, [new_event(tenant=TENANTS[shard], id=id) for id in ids])


async def cut(database: Database, number: int) -> list[str]:
    """The ids of the events that the tick shows."""
    before = await ticks.snap_of(database, number - 1)
    (tick,) = await ticks.after(database, number - 1, limit=1)
    pages = [page async for page in tail.read_cut(database, before=before, tick=tick, shards=ALL)]
    lean = await tail.LeanCut(database, before=before, tick=tick, shards=ALL).page(0)
    assert [event.seq for event in lean.events] == [event.seq for page in pages for event in page]
    return [event.id for page in pages for event in page]


async def restore(sql: asyncpg.Connection, *, shift: int = BUSIER) -> None:
    """Makes the database look like a restored dump: with the transaction ids and the identifier of another cluster."""
    await sql.execute(
        f"""
        SET session_replication_role = replica;
        UPDATE hookledger.domain_event SET txid = (txid::text::bigint + {shift})::text::xid8 WHERE txid <> '0'::xid8;
        UPDATE hookledger.tick SET snap = format('%s:%s:%s', pg_snapshot_xmin(snap)::text::bigint + {shift},
               pg_snapshot_xmax(snap)::text::bigint + {shift},
               (SELECT string_agg((x::text::bigint + {shift})::text, ',') FROM pg_snapshot_xip(snap) x))::pg_snapshot
         WHERE snap_xmax <> '1'::xid8;
        UPDATE hookledger.meta SET value = '42' WHERE key = 'system_identifier';
        RESET session_replication_role
        """
    )


async def checkpoint(sql: asyncpg.Connection, tick: int, *shards: int) -> None:
    await sql.execute("UPDATE hookledger.checkpoint SET tick = $1 WHERE shard = ANY ($2)", tick, list(shards) or ALL)


async def ticks_of(sql: asyncpg.Connection) -> dict[str, int | None]:
    rows = await sql.fetch("SELECT id, coalesce(tick, hookledger.tick_of(txid)) AS tick FROM hookledger.domain_event")
    return {row["id"]: row["tick"] for row in rows}


@pytest.mark.parametrize("shift", [BUSIER, YOUNGER])
async def test_the_next_tick_shows_what_was_unread_and_what_is_new(
    database: Database, sql: asyncpg.Connection, shift: int
) -> None:
    await publish(database, "done-0", shard=0)
    await publish(database, "done-5", shard=5)
    await ticks.make(database)
    await publish(database, "ahead-0", shard=0)
    await publish(database, "behind-5", shard=5)
    await ticks.make(database)
    await checkpoint(sql, 1)
    await checkpoint(sql, 2, 0)
    await publish(database, "in no tick")
    await restore(sql, shift=shift)

    found = await lineage.begin(database)

    assert found is not None
    assert (found.old_cluster, found.newest_tick, found.read, found.unread) == ("42", 2, 3, 2)
    await schema.check(database)
    assert await backlog.checkpoints(database, ALL) == dict.fromkeys(ALL, 2)
    await publish(database, "new")
    assert await ticks.make(database) == 3
    assert await ticks.make(database) is None
    assert await cut(database, 3) == ["behind-5", "in no tick", "new"]
    await publish(database, "newer")
    assert await ticks.make(database) == 4
    assert await cut(database, 4) == ["newer"]
    assert await ticks_of(sql) == {
        "done-0": 1, "done-5": 1, "ahead-0": 2, "behind-5": 3, "in no tick": 3, "new": 3, "newer": 4,
    }  # fmt: skip


async def test_without_a_new_lineage_the_transaction_ids_of_a_dump_mislead(
    database: Database, sql: asyncpg.Connection
) -> None:
    await publish(database, "done")
    await ticks.make(database)
    await restore(sql)
    await publish(database, "new")
    assert await ticks.make(database) is None, "the harm that a new lineage undoes"
    with pytest.raises(SchemaMismatch) as refusal:
        await schema.check(database)
    assert "hookledger migrate --accept-restore" in refusal.value.hint
    await lineage.begin(database)
    assert await ticks.make(database) == 2


async def test_a_tick_of_before_shows_what_it_showed(database: Database, sql: asyncpg.Connection) -> None:
    ids = [[f"{number}-{part}" for part in range(tail._RESTORED_ROWS + 5)] for number in range(2)]
    for batch in ids:
        await publish(database, *batch)
        await ticks.make(database)
    await checkpoint(sql, 2)
    await restore(sql)
    await lineage.begin(database)
    assert [await cut(database, number) for number in (1, 2)] == ids


async def test_with_nothing_unread_there_is_no_news(database: Database, sql: asyncpg.Connection) -> None:
    await publish(database, "done")
    await ticks.make(database)
    await checkpoint(sql, 1)
    await restore(sql)
    await lineage.begin(database)
    assert await ticks.make(database) is None


async def test_a_database_without_a_tick_is_read_from_its_beginning(
    database: Database, sql: asyncpg.Connection
) -> None:
    await publish(database, "a", "b")
    await restore(sql)
    found = await lineage.begin(database)
    assert found is not None
    assert (found.newest_tick, found.read, found.unread) == (0, 0, 2)
    assert await ticks.make(database) == 1
    assert await cut(database, 1) == ["a", "b"]


async def test_what_was_published_here_before_the_lineage_began_is_unread(
    database: Database, sql: asyncpg.Connection
) -> None:
    """Its small transaction id is visible in the snapshot of an old tick."""
    await publish(database, "done")
    await ticks.make(database)
    await checkpoint(sql, 1)
    await restore(sql)
    await publish(database, "already here")
    assert (await ticks_of(sql))["already here"] == 1
    await lineage.begin(database)
    await ticks.make(database)
    assert await cut(database, 2) == ["already here"]


async def test_what_is_known_of_unread_events_is_accounted_for_when_they_are_read(
    database: Database, sql: asyncpg.Connection
) -> None:
    for ids in (("done", "first parked"), ("sent", "failed", "parked", "untouched")):
        await publish(database, *ids)
        await ticks.make(database)
    seqs = {row["id"]: row["seq"] for row in await sql.fetch("SELECT id, seq FROM hookledger.domain_event")}
    epochs = await lease.acquire(database, "me", [0])
    batch = Flush(
        attempts=[
            attempt(seq=seqs["done"], tick=1),
            attempt(seq=seqs["sent"], tick=2),
            attempt(seq=seqs["failed"], tick=2, outcome="retrying"),
        ],
        retries=[retry(seq=seqs["failed"], tick=2)],
        parked=[parked(seq=seqs["first parked"], tick=1), parked(seq=seqs["parked"], tick=2)],
        checkpoints={0: 1},
    )
    await recording.flush(database, "me", epochs, batch, number=1, macs=LOG_MACS)
    await lease.release(database, "me", epochs)
    await restore(sql)

    found = await lineage.begin(database)

    assert found is not None
    assert (found.read, found.unread, found.settled, found.retrying, found.parked) == (2, 4, 2, 1, 2)
    accounted = {seq for _, seq in (await backlog.accounted(database, {0: 2}))[0]}
    assert accounted >= {seqs[id] for id in ("sent", "failed", "parked")}
    assert seqs["untouched"] not in accounted
    assert await sql.fetchval("SELECT ticks FROM hookledger.parked") == [1, 3]
    assert await sql.fetchval("SELECT tick FROM hookledger.retry") == 3
    assert [row["tick"] for row in await sql.fetch("SELECT tick FROM hookledger.attempt ORDER BY seq")] == [1, 3, 3]


async def test_a_plan_says_the_same_and_changes_nothing(database: Database, sql: asyncpg.Connection) -> None:
    await publish(database, "done")
    await ticks.make(database)
    await checkpoint(sql, 1)
    await publish(database, "unread")
    await restore(sql)
    before = await everything(sql)
    planned = await lineage.survey(database)
    assert await everything(sql) == before
    assert planned == await lineage.begin(database)
    assert await everything(sql) != before


@pytest.mark.parametrize(
    ("statement", "part"),
    [
        ("ALTER TABLE hookledger.retry DROP CONSTRAINT retry_pkey", "constraint retry.retry_pkey"),
        ("DROP INDEX hookledger.domain_event_{today}_id_key", "index domain_event_DAY.id_key"),
        ("DROP TRIGGER attempt_tally ON hookledger.attempt", "trigger attempt.attempt_tally"),
        ("DROP TABLE hookledger.resend_lock", "table resend_lock"),
    ],
)
async def test_a_restore_that_is_not_whole_is_refused(
    database: Database, sql: asyncpg.Connection, statement: str, part: str
) -> None:
    today = await sql.fetchval("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')")
    await sql.execute(statement.format(today=today))
    assert await lineage.begin(database) is None  # in its own cluster
    await restore(sql)
    for begin in (lineage.survey, lineage.begin):
        with pytest.raises(SchemaMismatch, match=f"{part} is missing") as refusal:
            await begin(database)
        assert "restore it again" in refusal.value.hint
    assert await sql.fetchval("SELECT value FROM hookledger.meta WHERE key = 'system_identifier'") == "42"


async def test_numbers_go_on_where_they_were_though_sequences_were_not_copied(
    database: Database, sql: asyncpg.Connection
) -> None:
    """As after logical replication. Retention has dropped the newest event, and outcomes of it are there."""
    await publish(database, "a", "b")
    await recording.flush(
        database,
        "x",
        await lease.acquire(database, "x", [0]),
        Flush(attempts=[attempt(seq=90)]),
        number=1,
        macs=LOG_MACS,
    )
    await lease.release(database, "x", {0: 1})
    await sql.execute(
        "INSERT INTO hookledger.resend OVERRIDING SYSTEM VALUE VALUES (7, now(), gen_random_uuid(), 1, 'me', 'cli')"
    )
    await sql.execute(
        "SELECT setval('hookledger.domain_event_seq', 1, false), setval('hookledger.resend_id_seq', 1, false)"
    )
    await restore(sql)
    await lineage.begin(database)
    assert await sql.fetchval("SELECT nextval('hookledger.domain_event_seq')") == 91
    assert await sql.fetchval("SELECT nextval('hookledger.resend_id_seq')") == 8
    assert await sql.fetchval("SELECT nextval('hookledger.source_partition_id_seq')") == 1
    await sql.execute("SELECT setval('hookledger.domain_event_seq', 200)")
    await restore(sql)
    await lineage.begin(database)
    assert await sql.fetchval("SELECT nextval('hookledger.domain_event_seq')") == 201


async def test_in_its_own_cluster_there_is_nothing_to_do(database: Database, sql: asyncpg.Connection) -> None:
    await publish(database, "a")
    await ticks.make(database)
    before = await everything(sql)
    assert await lineage.survey(database) is None
    assert await lineage.begin(database) is None
    assert await everything(sql) == before


async def test_while_a_shard_is_leased_no_lineage_begins(database: Database, sql: asyncpg.Connection) -> None:
    await restore(sql)
    epochs = await lease.acquire(database, "a daemon", [3])
    with pytest.raises(SchemaMismatch, match="a daemon") as refusal:
        await lineage.begin(database)
    assert "stop every daemon" in refusal.value.hint
    await lease.release(database, "a daemon", epochs)
    await lineage.begin(database)
    assert (await lease.acquire(database, "a daemon", [3]))[3] > epochs[3] + 1


async def test_while_events_are_being_written_no_lineage_begins(
    database: Database, sql: asyncpg.Connection, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lineage, "_LOCK_TIMEOUT", "50ms")
    await restore(sql)
    producer = await connect()
    await producer.execute("BEGIN; SELECT hookledger.publish('acme', 'a.b', '{}', 'open')")
    with pytest.raises(SchemaMismatch, match="not yet committed"):
        await lineage.begin(database)
    await producer.execute("COMMIT")
    found = await lineage.begin(database)
    assert found is not None
    assert found.unread == 1


async def test_a_second_restore_keeps_what_the_first_one_noted(database: Database, sql: asyncpg.Connection) -> None:
    for number in (1, 2):
        await publish(database, f"done-{number}")
        await ticks.make(database)
        await checkpoint(sql, number)
        await publish(database, f"unread-{number}")
        await restore(sql, shift=BUSIER * number)
        await lineage.begin(database)
    await ticks.make(database)
    assert await cut(database, 3) == ["unread-2"]
    assert await ticks_of(sql) == {"done-1": 1, "unread-1": 2, "done-2": 2, "unread-2": 3}
    assert (await sql.fetchval("SELECT value FROM hookledger.meta WHERE key = 'lineage'")).startswith("2 since 20")


async def test_afterwards_the_log_is_as_protected_as_before(database: Database, sql: asyncpg.Connection) -> None:
    await publish(database, "a")
    await restore(sql)
    await lineage.begin(database)
    partition = await sql.fetchval("SELECT tableoid::regclass::text FROM hookledger.domain_event")
    for table in ("hookledger.domain_event", partition):
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await sql.execute(f"UPDATE {table} SET id = 'x'")
    acl = "SELECT relacl::text FROM pg_class WHERE oid = 'hookledger.domain_event'::regclass"
    assert "w" not in (await sql.fetchval(acl)).split("=")[1].split("/")[0]


async def everything(sql: asyncpg.Connection) -> list[object]:
    tables = ("domain_event", "tick", "checkpoint", "lease", "attempt", "retry", "parked", "meta")
    return [await sql.fetch(f"SELECT t.* FROM hookledger.{table} t ORDER BY t::text") for table in tables]
