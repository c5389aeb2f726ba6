"""A store from before tokens, sessions, login links and outcomes had MACs: what was in use goes on, and is adopted only
once.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from daemon import audit, config, store
from daemon.audit.faults import mac_faults
from daemon.config import Config
from daemon.core.drafts.scope import Scope, ScopeKind
from daemon.credentials.keys import Vault, WrongMasterKey, rewrap
from daemon.credentials.tokens import TokenRefusal, Tokens, Verified
from eventstore.access import adoption, sessions
from eventstore.access.macs import CredentialTable, NotAuthentic
from eventstore.access.sessions import PendingLink
from eventstore.postgres import lineage, schema
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import SchemaMismatch
from tests.support.audit.seals import seal
from tests.support.values.builders import attempt

OLDER_SCHEMAS = Path(__file__).parents[1] / "server" / "older_schemas"
KEY, OTHER = b"k" * 32, b"o" * 32
TOKEN = "hl_producer_0123456789ab_" + "5" * 64
LINK, SESSION = b"l" * 32, b"s" * 32
FORGED = b"f" * 32

# As version 7 wrote them, and those before.
IN_USE = """
INSERT INTO hookledger.api_token (id, kind, tenant, name, hash, created_by, expires_at, last_used_at)
VALUES ('0123456789ab', 'producer', 'acme', 'Shop', $1, 'cli:jane', now() + interval '1 d', now())
"""
OTHERS_IN_USE = """
INSERT INTO hookledger.login_link (hash, tenant, created_by, expires_at)
VALUES (repeat('l', 32)::bytea, 'acme', 'admin', now() + interval '1 min');
INSERT INTO hookledger.session (hash, tenant, created_at) VALUES (repeat('s', 32)::bytea, NULL, now() - interval '1 h')
"""
FORGE = "INSERT INTO hookledger.session (hash) VALUES (repeat('f', 32)::bytea)"
# By the owner of the database, who wants a daemon of version 8 to migrate it again.
TAKE_BACK = """
ALTER TABLE hookledger.api_token DROP COLUMN mac;
ALTER TABLE hookledger.login_link DROP COLUMN mac;
ALTER TABLE hookledger.session DROP COLUMN mac;
ALTER TABLE hookledger.attempt DROP COLUMN mac;
ALTER TABLE hookledger.resend DROP COLUMN mac;
ALTER TABLE hookledger.replay DROP COLUMN mac;
UPDATE hookledger.meta SET value = '7' WHERE key = 'schema_version'
"""
VERSION = "SELECT value FROM hookledger.meta WHERE key = 'schema_version'"


def configured(folder: Path, *keys: bytes) -> Config:
    environ = {"HOOKLEDGER_DATABASE__DATA_DIR": str(folder)}
    if keys:
        environ["HOOKLEDGER_SIGNING__MASTER_KEY"] = ",".join(base64.b64encode(key).decode() for key in keys)
    return config.load(None, environ)


@pytest_asyncio.fixture
async def older(empty_database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a database of version 7 that was in use."""
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute((OLDER_SCHEMAS / "7.sql").read_text())
    await fill(connection)
    yield connection
    connection.terminate()


async def fill(sql: asyncpg.Connection) -> None:
    """What daemons and commands of an older version have left."""
    check = base64.b64encode(Vault([KEY]).seal(b"hookledger", b"master_key_check")).decode()
    await sql.execute("INSERT INTO hookledger.meta (key, value) VALUES ('master_key_check', $1)", check)
    await sql.execute(IN_USE, hashlib.sha256(TOKEN.encode()).digest())
    await sql.execute(OTHERS_IN_USE)


@pytest_asyncio.fixture
async def database(empty_database_url: str) -> AsyncIterator[Database]:
    opened = Database(empty_database_url, pool_size=2)
    await opened.open()
    yield opened
    await opened.close()


async def assert_in_use(database: Database, vault: Vault) -> None:
    """Token, link and session work as before."""
    macs = vault.macs
    assert await Tokens(database, macs=macs).verify(TOKEN) == Verified(
        id="0123456789ab", scope=Scope(kind=ScopeKind.PRODUCER, tenant="acme")
    )
    assert await sessions.pending(database, LINK, macs=macs) == PendingLink(
        tenant="acme", actor="dashboard", role="manage"
    )
    found = await sessions.find(database, SESSION, macs=macs)
    assert found is not None
    assert (found.tenant, found.actor, found.role) == (None, "dashboard", "manage")
    assert await sessions.begin(database, LINK, b"t" * 32, macs=macs, replaced=SESSION) is not None
    assert await sessions.find(database, b"t" * 32, macs=macs) is not None


@pytest.mark.parametrize("version", range(1, 8))
async def test_what_was_in_use_goes_on_without_anybody_doing_anything(
    empty_database_url: str, database: Database, tmp_path: Path, version: int
) -> None:
    sql = await asyncpg.connect(empty_database_url)
    await sql.execute((OLDER_SCHEMAS / f"{version}.sql").read_text())
    await fill(sql)
    assert (await store.migrate(configured(tmp_path, KEY), database)).current == version
    await assert_in_use(database, Vault([KEY]))
    report = await audit.audit(database, start=audit.BEGINNING, end=audit.END, vault=Vault([KEY]))
    assert report.findings == []
    await sql.close()


async def test_of_two_daemons_started_together_one_adopts(
    older: asyncpg.Connection, database: Database, empty_database_url: str, tmp_path: Path
) -> None:
    other = Database(empty_database_url, pool_size=1)
    await other.open()
    here = configured(tmp_path, KEY)
    await asyncio.gather(store.migrate(here, database), store.migrate(here, other))
    await other.close()
    await assert_in_use(database, Vault([KEY]))


async def test_what_is_written_without_the_key_afterwards_is_not_believed(
    older: asyncpg.Connection, database: Database, tmp_path: Path
) -> None:
    await store.migrate(configured(tmp_path, KEY), database)
    await older.execute(FORGE)
    for _ in range(2):  # nor after a restart
        await store.migrate(configured(tmp_path, KEY), database)
        with pytest.raises(NotAuthentic):
            await sessions.find(database, FORGED, macs=Vault([KEY]).macs)


async def test_a_version_that_was_taken_back_is_not_adopted_again(
    older: asyncpg.Connection, database: Database, tmp_path: Path
) -> None:
    await store.migrate(configured(tmp_path, KEY), database)
    await older.execute(TAKE_BACK)
    await older.execute(FORGE)
    with pytest.raises(SchemaMismatch, match="somebody has taken it back"):
        await store.migrate(configured(tmp_path, KEY), database)
    assert await older.fetchval(VERSION) == "7"
    # Without the value that says so there is nothing that vouches for the rows.
    await older.execute("DELETE FROM hookledger.meta WHERE key = 'master_key_check'")
    await store.migrate(configured(tmp_path, KEY), database)
    with pytest.raises(NotAuthentic):
        await sessions.find(database, FORGED, macs=Vault([KEY]).macs)
    with pytest.raises(NotAuthentic):
        await Tokens(database, macs=Vault([KEY]).macs).verify(TOKEN)


async def test_a_fresh_database_is_never_adopted(database: Database, tmp_path: Path) -> None:
    here = configured(tmp_path, KEY)
    await store.migrate(here, database)
    await Vault([KEY]).check(database)
    async with database.connection() as connection:
        for statement in (TAKE_BACK, FORGE):
            await connection.execute(statement)
    with pytest.raises(SchemaMismatch, match="somebody has taken it back"):
        await store.migrate(here, database)


async def test_without_the_master_key_nothing_is_migrated(
    older: asyncpg.Connection, database: Database, tmp_path: Path
) -> None:
    with pytest.raises(WrongMasterKey, match="there is none in") as missing:
        await store.migrate(configured(tmp_path), database)
    with pytest.raises(WrongMasterKey, match="cannot be opened with the configured master key") as wrong:
        await store.migrate(configured(tmp_path, OTHER), database)
    assert {"signing.master_key" in each.value.hint for each in (missing, wrong)} == {True}
    assert await older.fetchval(VERSION) == "7"
    assert not list(tmp_path.iterdir())
    await store.migrate(configured(tmp_path, OTHER, KEY), database)
    await assert_in_use(database, Vault([OTHER, KEY]))


async def test_a_key_that_comes_into_use_meanwhile_stops_the_migration(
    older: asyncpg.Connection, database: Database
) -> None:
    async def without_key(connection: asyncpg.pool.PoolConnectionProxy) -> None:
        await adoption.adopt(connection, adopter=None)

    with pytest.raises(SchemaMismatch, match="somebody works with the older version"):
        await schema.migrate(database, within={adoption.CREDENTIALS_SINCE: without_key})
    assert await older.fetchval(VERSION) == "7"


async def test_what_nobody_vouches_for_is_named_by_an_audit(
    older: asyncpg.Connection, database: Database, tmp_path: Path
) -> None:
    """No daemon has ever worked on this store, so it has no check value."""
    await older.execute("DELETE FROM hookledger.meta WHERE key = 'master_key_check'")
    with capture_logs() as logs:
        await store.migrate(configured(tmp_path), database)
    assert [(each["event"], each["tokens"]) for each in logs] == [("tokens.not_adopted", 1)]
    for vault in (Vault([KEY]), None):
        report = await audit.audit(database, start=audit.BEGINNING, end=audit.END, vault=vault)
        assert [each.table for each in report.findings] == list(CredentialTable)
        assert "it has no MAC" in report.findings[0].detail
    assert await Tokens(database, macs=Vault([KEY]).macs).verify(TOKEN[:-1] + "0") is TokenRefusal.UNKNOWN


async def test_a_dump_restored_elsewhere_works_with_the_same_key_alone(
    older: asyncpg.Connection, database: Database, tmp_path: Path
) -> None:
    await store.migrate(configured(tmp_path, KEY), database)
    await older.execute("UPDATE hookledger.meta SET value = '42' WHERE key = 'system_identifier'")
    assert await lineage.begin(database) is not None
    with pytest.raises(WrongMasterKey, match="cannot be opened with the configured master key"):
        await Vault([OTHER]).check(database)
    await Vault([KEY]).check(database)
    await assert_in_use(database, Vault([KEY]))


# An outcome as version 8 wrote it, but for its event, of which an audit of this would find that it is not there.
OUTCOME = """
INSERT INTO hookledger.attempt (seq, tick, route_id, event_time, started_at, shard, number, duration_ms, route_version,
                                outcome, tenant, event_id, event_type)
VALUES ($1, 1, gen_random_uuid(), now(), now(), 0, 1, 3, 1, 'delivered', 'acme', 'e', 'a.b')
"""
TAKE_OUTCOMES_BACK = """
ALTER TABLE hookledger.attempt DROP COLUMN mac;
ALTER TABLE hookledger.resend DROP COLUMN mac;
ALTER TABLE hookledger.replay DROP COLUMN mac;
UPDATE hookledger.meta SET value = '8' WHERE key = 'schema_version'
"""


@pytest_asyncio.fixture
async def of_version_8(empty_database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A connection to a database of version 8, with an outcome that is sealed and one that is not."""
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute((OLDER_SCHEMAS / "8.sql").read_text())
    check = base64.b64encode(Vault([KEY]).seal(b"hookledger 8", b"master_key_check")).decode()
    await connection.execute("INSERT INTO hookledger.meta (key, value) VALUES ('master_key_check', $1)", check)
    await connection.execute(OUTCOME, 1)
    yield connection
    connection.terminate()


async def without_mac(database: Database, vault: Vault) -> list[str]:
    """The outcomes that an audit says nobody of ours has written, by their seq."""
    found = mac_faults.of_log(database, vault, audit.BEGINNING, audit.END, tenant=None, known=())
    return [finding.key.rpartition(" ")[2] async for finding in found]


async def test_outcomes_from_before_need_no_mac_and_those_after_do(
    of_version_8: asyncpg.Connection, database: Database, tmp_path: Path
) -> None:
    sql, vault = of_version_8, Vault([KEY])
    await store.migrate(configured(tmp_path, KEY), database)
    await sql.execute(OUTCOME, 2)
    assert await without_mac(database, vault) == [], "nothing tells those of just before from those of just after"
    await seal(database)
    assert await without_mac(database, vault) == []
    await sql.execute(OUTCOME, 3)
    assert await without_mac(database, vault) == ["3"]
    await seal(database)
    assert await without_mac(database, vault) == ["3"]


async def test_outcomes_from_before_that_were_restored_need_none_either(
    of_version_8: asyncpg.Connection, database: Database, tmp_path: Path
) -> None:
    sql, vault = of_version_8, Vault([KEY])
    await store.migrate(configured(tmp_path, KEY), database)
    await sql.execute("UPDATE hookledger.meta SET value = '42' WHERE key = 'system_identifier'")
    await seal(database)  # elsewhere
    assert await lineage.begin(database) is not None
    assert await without_mac(database, vault) == []
    await sql.execute(OUTCOME, 2)
    assert await without_mac(database, vault) == ["2"]
    await seal(database)
    assert await without_mac(database, vault) == ["2"]


async def test_outcomes_from_before_that_were_restored_before_they_were_sealed_need_none_either(
    of_version_8: asyncpg.Connection, database: Database, tmp_path: Path
) -> None:
    sql, vault = of_version_8, Vault([KEY])
    await store.migrate(configured(tmp_path, KEY), database)
    await sql.execute("UPDATE hookledger.meta SET value = '42' WHERE key = 'system_identifier'")
    await sql.execute("UPDATE hookledger.attempt SET txid = 9000000000")  # of the other cluster
    assert await lineage.begin(database) is not None
    await seal(database)
    assert await without_mac(database, vault) == []
    await sql.execute(OUTCOME, 2)
    assert await without_mac(database, vault) == ["2"]


async def test_outcomes_of_a_version_that_was_taken_back_are_not_let_pass(
    of_version_8: asyncpg.Connection, database: Database, tmp_path: Path
) -> None:
    before = await of_version_8.fetchval("SELECT value FROM hookledger.meta WHERE key = 'master_key_check'")
    await store.migrate(configured(tmp_path, KEY), database)
    await of_version_8.execute(TAKE_OUTCOMES_BACK)
    with pytest.raises(SchemaMismatch, match="somebody has taken it back"):
        await store.migrate(configured(tmp_path, KEY), database)
    # With the value from before, and without its migration.
    await of_version_8.execute("UPDATE hookledger.meta SET value = $1 WHERE key = 'master_key_check'", before)
    await of_version_8.execute("UPDATE hookledger.meta SET value = '9' WHERE key = 'schema_version'")
    with pytest.raises(SchemaMismatch, match="is from before this version"):
        await Vault([KEY]).check(database)
    told = mac_faults.of_log(database, Vault([KEY]), audit.BEGINNING, audit.END, tenant=None, known=())
    (found,) = [each async for each in told]
    assert (found.table, found.key) == ("meta", "key master_key_check")


async def test_the_key_of_outcomes_stays_when_master_keys_are_exchanged(database: Database, tmp_path: Path) -> None:
    await store.migrate(configured(tmp_path, KEY), database)
    await Vault([KEY]).check(database)
    key = await Vault([KEY]).log_key(database)
    await rewrap(database, Vault([OTHER, KEY]))
    again = await Vault([OTHER]).log_key(database)
    assert key is not None
    assert again is not None
    row = attempt()
    assert (
        (again.first_seal, again.macs.of_outcome(row))
        == (key.first_seal, key.macs.of_outcome(row))
        == (1, again.macs.of_outcome(row))
    )
    with pytest.raises(WrongMasterKey):
        await Vault([KEY]).log_key(database)
