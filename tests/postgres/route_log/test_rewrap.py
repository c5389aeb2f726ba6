"""Exchanging the master key: all secrets are sealed again while daemons run, and the exchange can be repeated."""

from __future__ import annotations

import asyncio
import base64
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

import eventstore.route_log.sealed_secrets
from daemon.credentials.keys import MasterKeyInUse, Rewrapped, Vault, WrongMasterKey, rewrap, secret_context
from eventstore import route_log
from eventstore.access import macs, sessions, tokens
from eventstore.access.macs import CredentialTable
from eventstore.access.sessions import PendingLink
from eventstore.access.tokens import NewToken
from eventstore.leases import process
from eventstore.leases.process import Process
from eventstore.postgres.connect import Database
from eventstore.route_log.sealed_secrets import Table
from tests.support.postgres.queries import until_waiting
from tests.support.values.builders import draft

OLD, NEW = b"o" * 32, b"n" * 32
ROUTES = 7


async def populate(database: Database, vault: Vault) -> None:
    """Routes of two tenants, each with two keys and headers, and the check value."""
    await vault.check(database)
    for number in range(ROUTES):
        route_id, tenant = UUID(int=number + 1), ("acme", "globex")[number % 2]
        async with database.transaction() as connection:
            await route_log.append(connection, draft(route_id=route_id, tenant=tenant))
            for key_id in ("key_1", "key_2"):
                sealed = vault.seal(f"{number} {key_id}".encode(), secret_context(tenant, route_id, key_id))
                await eventstore.route_log.sealed_secrets.add_key(connection, route_id, key_id, sealed)
            sealed = vault.seal(f"{number} headers".encode(), secret_context(tenant, route_id, "hdr_1"))
            await eventstore.route_log.sealed_secrets.add_headers(connection, route_id, "hdr_1", sealed)


async def opened(database: Database, vault: Vault) -> list[str]:
    """All secrets. Raises WrongMasterKey if the vault does not open one."""
    found = []
    for table in Table:
        async for page in eventstore.route_log.sealed_secrets.pages(database, table):
            for each in page:
                place = secret_context(each.tenant, each.route_id, each.item)
                found.append(vault.open(each.sealed, place).decode())
    return sorted(found)


def daemon(vault: Vault) -> Process:
    return Process(owner="me", host="shop-1", pid=4711, version="0", master_key=vault.id)


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eventstore.route_log.sealed_secrets, "PAGE_ROWS", 3)
    monkeypatch.setattr(macs, "PAGE_ROWS", 3)


async def test_afterwards_the_new_key_opens_everything_and_the_old_one_nothing(database: Database) -> None:
    await populate(database, Vault([OLD]))
    before = await opened(database, Vault([OLD]))

    assert await rewrap(database, Vault([NEW, OLD])) == Rewrapped(resealed=3 * ROUTES, current=0)

    assert await opened(database, Vault([NEW])) == before
    assert len(before) == 3 * ROUTES
    await Vault([NEW]).check(database)
    with pytest.raises(WrongMasterKey):
        await opened(database, Vault([OLD]))
    with pytest.raises(WrongMasterKey):
        await Vault([OLD]).check(database)


async def let_in(database: Database, vault: Vault) -> None:
    """Tokens, and as many sessions and login links."""
    link = PendingLink(tenant="acme", actor="jane", role="view")
    for number in range(ROUTES):
        new = NewToken(
            id=f"{number}", kind="admin", tenant=None, name="", hash=b"h" * 32, created_by="me", expires_at=None
        )
        await tokens.add(database, new, macs=vault.macs)
        for secret in (b"a", b"b"):
            hash = secret * 31 + bytes([number])
            await sessions.add_link(database, hash, link, created_by="me", life=timedelta(hours=1), macs=vault.macs)
        assert await sessions.begin(database, b"a" * 31 + bytes([number]), bytes([number]) * 32, macs=vault.macs)


async def believed(database: Database, vault: Vault) -> list[tuple[str, str]]:
    """The rows that a daemon with that vault believes."""
    return [
        (table.value, each.shown)
        for table in CredentialTable
        async for page in macs.pages(database, table)
        for each in page
        if vault.macs.are_right(table, each.row)
    ]


async def test_whom_the_old_key_let_in_the_new_one_lets_in(database: Database, sql: asyncpg.Connection) -> None:
    await populate(database, Vault([OLD]))
    await let_in(database, Vault([OLD]))
    for own in ("NULL", "(SELECT mac FROM hookledger.session LIMIT 1)"):
        await sql.execute(f"INSERT INTO hookledger.session (hash, mac) SELECT sha256('{len(own)}'), {own}")
    before = await believed(database, Vault([OLD]))
    assert len(before) == 3 * ROUTES
    assert await believed(database, Vault([NEW, OLD])) == before

    await rewrap(database, Vault([NEW, OLD]))

    assert await believed(database, Vault([NEW])) == before
    assert await believed(database, Vault([OLD])) == []
    stored = await sql.fetch("SELECT mac FROM hookledger.session ORDER BY hash")
    await rewrap(database, Vault([NEW, OLD]))
    assert await sql.fetch("SELECT mac FROM hookledger.session ORDER BY hash") == stored


async def test_a_token_that_is_revoked_while_macs_are_made_anew_stays_revoked(
    database: Database, sql: asyncpg.Connection
) -> None:
    await let_in(database, Vault([OLD]))
    await sql.execute("BEGIN; UPDATE hookledger.api_token SET revoked_at = now(), revoked_txid = 1 WHERE id = '3'")
    renewing = asyncio.create_task(macs.renew(database, Vault([NEW, OLD]).macs))
    watcher = await asyncpg.connect(database.url)
    await until_waiting(watcher)
    await sql.execute("COMMIT")
    assert await renewing == 3 * ROUTES
    assert await sql.fetchval("SELECT count(*) FROM hookledger.api_token WHERE revoked_at IS NOT NULL") == 1
    assert len(await believed(database, Vault([NEW]))) == 3 * ROUTES
    await watcher.close()


async def test_the_second_time_there_is_nothing_to_do(database: Database, sql: asyncpg.Connection) -> None:
    await populate(database, Vault([OLD]))
    await rewrap(database, Vault([NEW, OLD]))
    stored = await sql.fetch("SELECT * FROM hookledger.route_key ORDER BY route_id, key_id")
    for vault in (Vault([NEW, OLD]), Vault([NEW])):
        assert await rewrap(database, vault) == Rewrapped(resealed=0, current=3 * ROUTES)
    assert await sql.fetch("SELECT * FROM hookledger.route_key ORDER BY route_id, key_id") == stored


async def test_interrupted_it_goes_on_where_it_was(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    await populate(database, Vault([OLD]))
    before = await opened(database, Vault([OLD]))
    exchange, calls = eventstore.route_log.sealed_secrets.exchange, 0

    async def interrupted(*arguments: object) -> int:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return await exchange(*arguments)  # type: ignore[arg-type]  # the same arguments

    monkeypatch.setattr(eventstore.route_log.sealed_secrets, "exchange", interrupted)
    with pytest.raises(KeyboardInterrupt):
        await rewrap(database, Vault([NEW, OLD]))
    assert await opened(database, Vault([NEW, OLD])) == before
    assert await rewrap(database, Vault([NEW, OLD])) == Rewrapped(resealed=3 * ROUTES - 6, current=6)
    assert await opened(database, Vault([NEW])) == before


async def test_a_secret_that_was_changed_meanwhile_is_left_alone(database: Database, sql: asyncpg.Connection) -> None:
    await populate(database, Vault([OLD]))
    page, *_ = [each async for each in eventstore.route_log.sealed_secrets.pages(database, Table.KEYS)]
    await sql.execute("UPDATE hookledger.route_key SET sealed = 'other' WHERE route_id = $1", page[0].route_id)
    done = await eventstore.route_log.sealed_secrets.exchange(database, Table.KEYS, page, [b"new"] * len(page))
    assert done == sum(each.route_id != page[0].route_id for each in page)
    assert {
        bytes(row["sealed"])
        for row in await sql.fetch("SELECT sealed FROM hookledger.route_key WHERE route_id = $1", page[0].route_id)
    } == {b"other"}


async def test_a_daemon_that_seals_with_another_key_is_named_and_nothing_is_done(database: Database) -> None:
    await populate(database, Vault([OLD]))
    for theirs in (Vault([OLD]), Vault([OLD, NEW])):
        await process.heartbeat(database, daemon(theirs), {})
        with pytest.raises(MasterKeyInUse, match="4711 on shop-1"):
            await rewrap(database, Vault([NEW, OLD]))
        await process.leave(database, "me")
    await Vault([OLD]).check(database)
    assert len(await opened(database, Vault([OLD]))) == 3 * ROUTES


async def test_a_daemon_that_has_the_new_key_first_is_no_hindrance(database: Database) -> None:
    await populate(database, Vault([OLD]))
    await process.heartbeat(database, daemon(Vault([NEW, OLD])), {})
    assert (await rewrap(database, Vault([NEW, OLD]))).resealed == 3 * ROUTES


async def test_a_daemon_that_died_is_no_hindrance(database: Database, sql: asyncpg.Connection) -> None:
    await populate(database, Vault([OLD]))
    await process.heartbeat(database, daemon(Vault([OLD])), {})
    await sql.execute("UPDATE hookledger.process SET seen_at = clock_timestamp() - interval '1 min'")
    assert (await rewrap(database, Vault([NEW, OLD]))).resealed == 3 * ROUTES


async def test_a_daemon_that_comes_while_it_works_makes_it_say_so(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await populate(database, Vault([OLD]))
    exchange = eventstore.route_log.sealed_secrets.exchange

    async def joined(*arguments: object) -> int:
        await process.heartbeat(database, daemon(Vault([OLD, NEW])), {})
        return await exchange(*arguments)  # type: ignore[arg-type]  # the same arguments

    monkeypatch.setattr(eventstore.route_log.sealed_secrets, "exchange", joined)
    with pytest.raises(MasterKeyInUse):
        await rewrap(database, Vault([NEW, OLD]))


async def test_without_the_old_key_nothing_is_touched(database: Database) -> None:
    await populate(database, Vault([OLD]))
    with pytest.raises(WrongMasterKey):
        await rewrap(database, Vault([NEW]))
    assert len(await opened(database, Vault([OLD]))) == 3 * ROUTES


def test_the_id_of_a_master_key_tells_keys_apart_and_not_what_they_are() -> None:
    assert Vault([NEW]).id == Vault([NEW, OLD]).id != Vault([OLD, NEW]).id
    assert len(Vault([NEW]).id) == 16
    assert base64.b64encode(NEW).decode() not in Vault([NEW]).id
