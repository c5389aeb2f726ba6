"""Login links and sessions: a link works once, expiry is by the database's clock, and expired rows are deleted."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import asyncpg
import pytest

from eventstore.access import sessions
from eventstore.access.sessions import PendingLink
from eventstore.postgres.connect import Database
from tests.support.rows.credentials import MACS, authenticate

LINK, SESSION = b"l" * 32, b"s" * 32


async def link(
    database: Database, link_hash: bytes = LINK, *, tenant: str | None = "acme", seconds: float = 60
) -> None:
    made = PendingLink(
        tenant=tenant, actor="jane", role="view", return_url="https://shop.example.com/", path="/t/acme/x"
    )
    await sessions.add_link(database, link_hash, made, created_by="me", life=timedelta(seconds=seconds), macs=MACS)


@pytest.mark.parametrize("tenant", ["acme", None])
async def test_a_link_begins_a_session_of_its_tenant(database: Database, tenant: str | None) -> None:
    await link(database, tenant=tenant)
    used = await sessions.begin(database, LINK, SESSION, macs=MACS)
    assert used is not None
    assert (used.return_url, used.path) == ("https://shop.example.com/", "/t/acme/x")
    found = await sessions.find(database, SESSION, macs=MACS)
    assert found is not None
    assert (found.tenant, found.actor, found.role) == (tenant, "jane", "view")
    assert found.expires_at - found.created_at == timedelta(hours=24)
    assert timedelta(0) <= found.idle_until - found.created_at - timedelta(hours=8) < timedelta(seconds=5)


async def test_a_link_is_looked_at_without_using_it_up(database: Database) -> None:
    assert await sessions.pending(database, LINK, macs=MACS) is None
    await link(database)
    for _ in range(2):
        found = await sessions.pending(database, LINK, macs=MACS)
        assert found is not None
        assert found.tenant == "acme"
    assert await sessions.begin(database, LINK, SESSION, macs=MACS)
    assert await sessions.pending(database, LINK, macs=MACS) is None
    await link(database, seconds=0)
    assert await sessions.pending(database, LINK, macs=MACS) is None


async def test_a_link_ends_the_session_that_it_replaces_if_it_works(database: Database) -> None:
    await link(database)
    await sessions.begin(database, LINK, SESSION, macs=MACS)
    assert not await sessions.begin(database, LINK, b"t" * 32, replaced=SESSION, macs=MACS)
    assert await sessions.find(database, SESSION, macs=MACS) is not None
    await link(database)
    assert await sessions.begin(database, LINK, b"t" * 32, replaced=SESSION, macs=MACS)
    assert await sessions.find(database, SESSION, macs=MACS) is None
    assert await sessions.find(database, b"t" * 32, macs=MACS) is not None


async def test_of_many_who_take_a_link_at_once_one_gets_it(database: Database) -> None:
    await link(database)
    got = await asyncio.gather(*(sessions.begin(database, LINK, bytes([n]) * 32, macs=MACS) for n in range(8)))
    assert [each is not None for each in got].count(True) == 1
    assert not await sessions.begin(database, LINK, b"x" * 32, macs=MACS)


async def test_a_link_that_has_expired_or_never_was_begins_nothing(database: Database) -> None:
    await link(database, seconds=0)
    assert not await sessions.begin(database, LINK, SESSION, macs=MACS)
    assert not await sessions.begin(database, b"?" * 32, SESSION, macs=MACS)
    assert await sessions.find(database, SESSION, macs=MACS) is None


@pytest.mark.parametrize(
    ("change", "is_alive"),
    [
        ("last_seen_at = clock_timestamp() - interval '7 h 59 min'", True),
        ("last_seen_at = clock_timestamp() - interval '8 h'", False),
        ("created_at = clock_timestamp() - interval '23 h 59 min'", True),
        ("created_at = clock_timestamp() - interval '24 h'", False),
    ],
)
async def test_a_session_ends_when_it_is_idle_and_in_any_case_after_a_day(
    database: Database, sql: asyncpg.Connection, change: str, is_alive: bool
) -> None:
    await link(database)
    await sessions.begin(database, LINK, SESSION, macs=MACS)
    await sql.execute(f"UPDATE hookledger.session SET {change}")
    await authenticate(sql)
    assert (await sessions.find(database, SESSION, macs=MACS) is not None) is is_alive


async def test_use_keeps_a_session_alive(database: Database, sql: asyncpg.Connection) -> None:
    await link(database)
    await sessions.begin(database, LINK, SESSION, macs=MACS)
    fresh = await sessions.find(database, SESSION, macs=MACS)
    await sql.execute("UPDATE hookledger.session SET last_seen_at = last_seen_at - interval '2 min'")
    stale = await sessions.find(database, SESSION, macs=MACS)
    await sessions.note_use(database, SESSION)
    again = await sessions.find(database, SESSION, macs=MACS)
    assert fresh is not None
    assert stale is not None
    assert again is not None
    assert (fresh.is_unseen, stale.is_unseen, again.is_unseen) == (False, True, False)
    assert again.idle_until > stale.idle_until


async def test_an_ended_session_is_gone(database: Database) -> None:
    await link(database)
    await sessions.begin(database, LINK, SESSION, macs=MACS)
    await sessions.end(database, SESSION)
    assert await sessions.find(database, SESSION, macs=MACS) is None
    await sessions.end(database, SESSION)


async def test_what_is_dead_is_swept_away_and_what_lives_stays(database: Database, sql: asyncpg.Connection) -> None:
    for number in range(3):
        await link(database, bytes([number]) * 32)
        await sessions.begin(database, bytes([number]) * 32, bytes([number]) * 32, macs=MACS)
    await link(database, b"a" * 32)
    await link(database, b"b" * 32, seconds=0)
    await sql.execute(
        "UPDATE hookledger.session SET last_seen_at = last_seen_at - interval '8 h' WHERE hash = $1", bytes(32)
    )
    await sql.execute(
        "UPDATE hookledger.session SET created_at = created_at - interval '1 d' WHERE hash = $1", b"\1" * 32
    )
    await sessions.sweep(database)
    assert [row["hash"] for row in await sql.fetch("SELECT hash FROM hookledger.session")] == [b"\2" * 32]
    assert [row["hash"] for row in await sql.fetch("SELECT hash FROM hookledger.login_link")] == [b"a" * 32]
