"""Installing and migrating the schema, refusals, and the partitions of the coming days."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
import pytest_asyncio

from eventstore import domain_events
from eventstore.postgres import lineage, schema, schema_lines
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import AccessRefused, SchemaMismatch, UnsafeServer
from eventstore.retention import retention
from tests.support.postgres.queries import Connect
from tests.support.postgres.schema_lines import describe
from tests.support.rows.credentials import LOG_MACS
from tests.support.values.builders import new_event

OLDER_SCHEMAS = {int(path.stem): path for path in (Path(__file__).parent / "older_schemas").glob("[0-9]*.sql")}


@pytest.fixture
def days_ahead() -> int:
    """As many as with a daemon."""
    return schema.PARTITION_DAYS_AHEAD


@pytest_asyncio.fixture
async def empty(empty_database_url: str) -> AsyncIterator[Database]:
    database = Database(empty_database_url, pool_size=4)
    await database.open()
    yield database
    await database.close()


async def test_a_fresh_database_is_made_from_schema_sql_alone(empty: Database) -> None:
    assert (await schema.plan(empty)).steps == ("schema.sql",)
    done = await schema.migrate(empty)
    assert (done.current, done.target, done.steps) == (0, schema.VERSION, ("schema.sql",))
    await schema.check(empty)


async def test_migrating_twice_does_nothing_the_second_time(empty: Database, empty_database_url: str) -> None:
    await schema.migrate(empty)
    before = await _described(empty_database_url)
    assert (await schema.migrate(empty)).steps == ()
    assert await _described(empty_database_url) == before


async def test_of_two_daemons_started_together_one_migrates(empty: Database, empty_database_url: str) -> None:
    other = Database(empty_database_url, pool_size=1)
    await other.open()
    plans = await asyncio.gather(schema.migrate(empty), schema.migrate(other))
    await other.close()
    assert sorted(plan.current for plan in plans) == [0, schema.VERSION]
    await schema.check(empty)


async def test_a_newer_schema_is_refused(database: Database, sql: asyncpg.Connection) -> None:
    await sql.execute("UPDATE hookledger.meta SET value = '99' WHERE key = 'schema_version'")
    for attempt in (schema.plan, schema.migrate, schema.check):
        with pytest.raises(SchemaMismatch, match="version 99"):
            await attempt(database)


async def test_a_foreign_schema_of_that_name_is_refused_and_left_alone(empty: Database) -> None:
    async with empty.connection() as connection:
        await connection.execute("CREATE SCHEMA hookledger; CREATE TABLE hookledger.ours (id integer)")
    with pytest.raises(SchemaMismatch, match="did not make"):
        await schema.migrate(empty)
    async with empty.connection() as connection:
        assert await connection.fetchval("SELECT to_regclass('hookledger.meta')") is None


async def test_a_database_without_the_schema_is_told_to_migrate(empty: Database) -> None:
    with pytest.raises(SchemaMismatch) as refusal:
        await schema.check(empty)
    assert "migrate" in refusal.value.hint
    with pytest.raises(SchemaMismatch):
        await domain_events.publish(empty, [new_event()])


async def test_a_database_restored_into_another_cluster_is_refused(database: Database, sql: asyncpg.Connection) -> None:
    await schema.check(database)
    await sql.execute("UPDATE hookledger.meta SET value = '1' WHERE key = 'system_identifier'")
    with pytest.raises(SchemaMismatch, match="another PostgreSQL cluster"):
        await schema.check(database)


@pytest.mark.parametrize("key", ["schema_version", "system_identifier"])
async def test_a_restore_that_is_not_complete_is_told(database: Database, sql: asyncpg.Connection, key: str) -> None:
    """pg_restore makes the tables before it fills them."""
    await sql.execute("DELETE FROM hookledger.meta WHERE key = $1", key)
    with pytest.raises(SchemaMismatch, match="its restore failed") as refusal:
        await schema.check(database)
    assert "restore it again" in refusal.value.hint
    if key == "system_identifier":
        with pytest.raises(SchemaMismatch, match="its restore failed"):
            await lineage.begin(database)


async def test_a_version_that_is_no_number_is_told(database: Database, sql: asyncpg.Connection) -> None:
    await sql.execute("UPDATE hookledger.meta SET value = '6a' WHERE key = 'schema_version'")
    for attempt in (schema.plan, schema.migrate, schema.check):
        with pytest.raises(SchemaMismatch, match="does not say of which version it is"):
            await attempt(database)


async def test_a_database_that_is_not_in_utf8_is_refused(postgres_url: str) -> None:
    administrator = await asyncpg.connect(postgres_url)
    name = "hookledger_latin1"
    await administrator.execute(f"DROP DATABASE IF EXISTS {name}")
    await administrator.execute(
        f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C'"
    )
    try:
        database = Database(urlsplit(postgres_url)._replace(path=f"/{name}").geturl(), pool_size=1)
        await database.open()
        with pytest.raises(UnsafeServer, match="LATIN1"):
            await schema.migrate(database)
        await database.close()
    finally:
        await administrator.execute(f"DROP DATABASE {name} WITH (FORCE)")
        await administrator.close()


async def test_an_owner_who_is_no_superuser_can_install_and_run(empty_database_url: str) -> None:
    administrator = await asyncpg.connect(empty_database_url)
    name = await administrator.fetchval("SELECT current_database()")
    owner = f"owner_of_{name}"
    await administrator.execute(f'CREATE ROLE "{owner}" LOGIN; GRANT CREATE ON DATABASE "{name}" TO "{owner}"')
    try:
        database = Database(empty_database_url.replace("//postgres", f"//{owner}", 1), pool_size=2)
        await database.open()
        await schema.migrate(database)
        await schema.check(database)
        assert await domain_events.publish(database, [new_event()]) == [True]
        assert await schema.maintain_partitions(database) == 0
        await _let_an_owner_sweep_and_begin(database)
        for statement in ("DELETE FROM hookledger.domain_event", "UPDATE hookledger.route_event SET actor = ''"):
            with pytest.raises(AccessRefused):
                async with database.connection() as connection:
                    await connection.execute(statement)
        await database.close()
    finally:
        await administrator.execute(f'DROP OWNED BY "{owner}" CASCADE; DROP ROLE "{owner}"')
        await administrator.close()


async def _let_an_owner_sweep_and_begin(database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute("SELECT hookledger.ensure_partitions('2024-01-01', '2024-01-01')")
        await connection.execute("UPDATE hookledger.meta SET value = '1' WHERE key = 'system_identifier'")
    swept = await retention.sweep(database, macs=LOG_MACS)
    assert swept is not None
    assert swept.dropped == ["domain_event_20240101", "attempt_20240101"]
    found = await lineage.begin(database)
    assert found is not None
    assert found.unread == 1


async def test_a_role_that_has_every_right_but_is_not_the_owner_is_told_so(
    database: Database, database_url: str, sql: asyncpg.Connection
) -> None:
    await schema.require_owner(database)
    name = f"limited_{uuid4().hex[:8]}"
    await sql.execute(
        f"CREATE ROLE {name} LOGIN; GRANT ALL ON SCHEMA hookledger TO {name}; "
        f"GRANT ALL ON ALL TABLES IN SCHEMA hookledger TO {name}"
    )
    try:
        limited = Database(database_url.replace("//postgres", f"//{name}", 1), pool_size=1)
        await limited.open()
        await schema.check(limited)
        with pytest.raises(AccessRefused, match=r"does not own the table hookledger\.attempt") as refusal:
            await schema.require_owner(limited)
        assert "member of it" in refusal.value.hint
        await sql.execute(f"GRANT postgres TO {name}")
        await schema.require_owner(limited)
        await limited.close()
    finally:
        await sql.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


async def test_partitions_stand_ready_from_yesterday_to_a_week_ahead(sql: asyncpg.Connection) -> None:
    for parent in ("domain_event", "attempt"):
        days = await sql.fetch(
            "SELECT right(inhrelid::regclass::text, 8)::date - (now() AT TIME ZONE 'UTC')::date AS day FROM pg_inherits "
            "WHERE inhparent = $1::text::regclass ORDER BY 1",
            f"hookledger.{parent}",
        )
        assert [row["day"] for row in days] == list(range(-1, 8))


async def test_each_day_partition_is_as_protected_as_its_parent(database: Database, sql: asyncpg.Connection) -> None:
    await domain_events.publish(database, [new_event()])
    partition = await sql.fetchval("SELECT tableoid::regclass::text FROM hookledger.domain_event")
    for statement in (f"UPDATE {partition} SET id = 'x'", f"DELETE FROM {partition}", f"TRUNCATE {partition}"):
        with pytest.raises(asyncpg.IntegrityConstraintViolationError):
            await sql.execute(statement)


async def test_creating_partitions_waits_for_no_producer_and_blocks_none(
    database: Database, sql: asyncpg.Connection, connect: Connect
) -> None:
    producer = await connect()
    await producer.execute("BEGIN")
    await producer.execute("SELECT hookledger.publish('acme', 'order.create', '{}'::jsonb, 'open')")
    await sql.execute("BEGIN")
    await sql.execute("SET LOCAL lock_timeout = '2s'")
    today = await sql.fetchval("SELECT (now() AT TIME ZONE 'UTC')::date")
    assert await sql.fetchval("SELECT hookledger.ensure_partitions($1::date - 9, $1::date - 8)", today) == 4
    assert await domain_events.publish(database, [new_event()]) == [True]
    await sql.execute("COMMIT")
    await producer.execute("COMMIT")
    assert await sql.fetchval("SELECT count(*) FROM hookledger.domain_event") == 2


@pytest.mark.parametrize("is_begun_only", [False, True])
@pytest.mark.parametrize("parent", ["domain_event", "attempt"])
@pytest.mark.parametrize("ahead", [0, 7])
async def test_a_partition_that_somebody_detached_is_told_with_what_mends_it(
    database: Database, sql: asyncpg.Connection, connect: Connect, parent: str, ahead: int, is_begun_only: bool
) -> None:
    day = await sql.fetchval("SELECT (now() AT TIME ZONE 'UTC')::date + $1::integer", ahead)
    part = f"hookledger.{parent}_{day:%Y%m%d}"
    assert await schema.detached_partition(database) is None
    if is_begun_only:
        reader = await connect()
        await reader.execute(f"BEGIN; SELECT FROM hookledger.{parent}; SET lock_timeout = '100ms'")
        await sql.execute("SET lock_timeout = '100ms'")
        with pytest.raises(asyncpg.LockNotAvailableError):
            await sql.execute(f"ALTER TABLE hookledger.{parent} DETACH PARTITION {part} CONCURRENTLY")
        await reader.execute("COMMIT")
    else:
        await sql.execute(f"ALTER TABLE hookledger.{parent} DETACH PARTITION {part}")

    with pytest.raises(SchemaMismatch, match=f"the table {part} is no partition") as refusal:
        await schema.migrate(database)
    assert await schema.maintain_partitions(database) == 0
    found = await schema.detached_partition(database)
    assert found is not None
    assert (found.cause, found.hint) == (str(refusal.value), refusal.value.hint)

    for statement in found.hint.removeprefix("run ").split("; "):
        await sql.execute(statement)
    assert await schema.detached_partition(database) is None
    await schema.migrate(database)


async def test_daemons_that_maintain_partitions_together_do_not_collide(
    database: Database, sql: asyncpg.Connection
) -> None:
    await sql.execute(
        "DROP TABLE "
        + await sql.fetchval(
            "SELECT max(inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'hookledger.attempt'::regclass"
        )
    )
    made = await asyncio.gather(*(schema.maintain_partitions(database) for _ in range(5)))
    assert sorted(made) == [0, 0, 0, 0, 1]


async def test_maintenance_forgets_the_ids_of_last_midnight_only(database: Database, sql: asyncpg.Connection) -> None:
    await sql.execute(
        "INSERT INTO hookledger.domain_event_midnight VALUES ('acme', 'old', now() - interval '61 minutes'), ('acme', 'new', now())"
    )
    await schema.maintain_partitions(database)
    assert [row["id"] for row in await sql.fetch("SELECT id FROM hookledger.domain_event_midnight")] == ["new"]


async def test_every_older_version_is_kept_as_a_file() -> None:
    assert sorted(OLDER_SCHEMAS) == list(range(1, schema.VERSION))


@pytest.mark.parametrize("version", sorted(OLDER_SCHEMAS))
async def test_a_migrated_database_is_as_a_fresh_one(
    empty: Database, empty_database_url: str, database_url: str, version: int
) -> None:
    async with empty.connection() as connection:
        await connection.execute(OLDER_SCHEMAS[version].read_text())
    assert (await schema.migrate(empty)).current == version
    assert await _described(empty_database_url) == await _described(database_url)
    assert await schema_lines.faults(empty) == []  # nor has an audit anything to say of it


async def test_two_fresh_databases_are_alike(empty: Database, empty_database_url: str, database_url: str) -> None:
    await schema.migrate(empty)
    assert await _described(empty_database_url) == await _described(database_url)


CHANGES = (
    "ALTER TABLE hookledger.retry ADD COLUMN note text",
    "ALTER TABLE hookledger.retry ALTER COLUMN failures DROP NOT NULL",
    "ALTER TABLE hookledger.retry ALTER COLUMN failures SET DEFAULT 0",
    "DROP INDEX hookledger.retry_due_idx",
    "ALTER TABLE hookledger.attempt DROP CONSTRAINT attempt_outcome_check",
    "CREATE OR REPLACE FUNCTION hookledger.earliest(times timestamptz[]) RETURNS timestamptz LANGUAGE sql IMMUTABLE PARALLEL SAFE AS 'SELECT now()'",
    "ALTER TABLE hookledger.route_event DISABLE TRIGGER route_event_append_only",
    "GRANT SELECT ON hookledger.route_event TO PUBLIC",
    "GRANT EXECUTE ON FUNCTION hookledger.make_tick() TO PUBLIC",
    "ALTER TABLE hookledger.lease RESET (fillfactor)",
    "ALTER SEQUENCE hookledger.domain_event_seq CACHE 10",
    "COMMENT ON TABLE hookledger.meta IS NULL",
)


async def test_the_comparison_of_schemas_notices_each_kind_of_change(sql: asyncpg.Connection) -> None:
    before = await describe(sql)
    unnoticed = []
    for change in CHANGES:
        await sql.execute(f"BEGIN; {change}")
        if await describe(sql) == before:
            unnoticed.append(change)
        await sql.execute("ROLLBACK")
    assert unnoticed == []


async def _described(url: str) -> set[str]:
    connection = await asyncpg.connect(url)
    try:
        return await describe(connection)
    finally:
        await connection.close()


async def test_the_small_hot_tables_stay_on_a_page_however_often_they_change(sql: asyncpg.Connection) -> None:
    """Even without vacuum, which may be a minute away: their updates touch no index, so pages are pruned on access."""
    await sql.execute(
        "INSERT INTO hookledger.process (owner, host, pid, version, master_key) SELECT 'o' || n, 'h', n, 'v', '' FROM generate_series(1, 4) n"
    )
    changes = {
        "lease": "UPDATE hookledger.lease SET flush = flush + 1 WHERE shard = $1 % 16",
        "checkpoint": "UPDATE hookledger.checkpoint SET tick = tick + 1 WHERE shard = $1 % 16",
        "process": "UPDATE hookledger.process SET seen_at = clock_timestamp() WHERE pid = $1 % 4 + 1",
    }
    for table, change in changes.items():
        await sql.execute(f"ALTER TABLE hookledger.{table} SET (autovacuum_enabled = off)")
        for number in range(2000):
            await sql.execute(change, number)
        assert await sql.fetchval(f"SELECT pg_relation_size('hookledger.{table}')") <= 2 * 8192, table
