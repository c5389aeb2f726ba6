"""Tokens: what is stored, and how long the result of a verification is cached."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from daemon.core.drafts.scope import Scope, ScopeKind
from daemon.credentials.tokens import CACHE_SECONDS, MAX_CACHED, TokenRefusal, Tokens, Verified
from eventstore.access import tokens
from eventstore.access.macs import CredentialMacs
from eventstore.access.tokens import NewToken
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import StoreUnavailable, ValueRefused
from tests.support.postgres.fault_proxy import fault_proxy
from tests.support.rows.credentials import MACS, authenticate
from tests.support.web.tokens import id_in, token


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def new(token_id: str, kind: str = "admin", tenant: str | None = None) -> NewToken:
    return NewToken(id=token_id, kind=kind, tenant=tenant, name="n", hash=b"h" * 32, created_by="me", expires_at=None)


async def test_a_token_is_what_its_text_says_and_only_its_hash_is_stored(
    database: Database, sql: asyncpg.Connection
) -> None:
    text = await token(database, "producer:acme")
    assert await Tokens(database, macs=MACS).verify(text) == Verified(
        id=id_in(text), scope=Scope(kind=ScopeKind.PRODUCER, tenant="acme")
    )
    stored = await sql.fetchval("SELECT api_token::text FROM hookledger.api_token")
    assert text.split("_")[3] not in stored
    assert len(text.split("_")[3]) * 4 == 256


@pytest.mark.parametrize("kind", ["", "hl", "hl_admin", "hl_admin_x_y", "Bearer", "hl_admin_0123456789ab_" + "g" * 64])
async def test_what_is_no_token_is_refused_without_asking(kind: str) -> None:
    assert await Tokens(Database("postgresql:///nowhere"), macs=MACS).verify(kind) is TokenRefusal.UNKNOWN


async def test_every_part_of_the_text_counts(database: Database) -> None:
    text = await token(database, "tenant:acme")
    _, kind, token_id, secret = text.split("_")
    flipped = ("1" if secret[0] == "0" else "0") + secret[1:]
    for other in (
        f"hl_admin_{token_id}_{secret}",
        f"hl_{kind}_{'0' * 12}_{secret}",
        f"hl_{kind}_{token_id}_{flipped}",
        f"hl_{kind}_{token_id}_{'0' * 64}",
        text + "0",
        text.upper(),
    ):
        assert await Tokens(database, macs=MACS).verify(other) is TokenRefusal.UNKNOWN, other


async def test_the_holder_of_a_dead_token_is_told_why_and_nobody_else(
    database: Database, sql: asyncpg.Connection
) -> None:
    revoked, expired = await token(database, "admin"), await token(database, "admin", expires="1h")
    await tokens.revoke(database, id_in(revoked))
    await sql.execute("UPDATE hookledger.api_token SET expires_at = clock_timestamp() WHERE expires_at IS NOT NULL")
    await authenticate(sql)
    assert await Tokens(database, macs=MACS).verify(revoked) is TokenRefusal.REVOKED
    assert await Tokens(database, macs=MACS).verify(expired) is TokenRefusal.EXPIRED
    for text in (revoked, expired):
        assert await Tokens(database, macs=MACS).verify(text[:-64] + "0" * 64) is TokenRefusal.UNKNOWN


async def test_a_token_is_remembered_for_two_seconds_and_no_longer(database: Database) -> None:
    clock = Clock()
    remembering, text = Tokens(database, clock=clock, macs=MACS), await token(database, "admin")
    assert isinstance(await remembering.verify(text), Verified)
    await tokens.revoke(database, id_in(text))

    clock.now += CACHE_SECONDS - 0.001
    assert isinstance(await remembering.verify(text), Verified)
    clock.now += 0.001
    assert await remembering.verify(text) is TokenRefusal.REVOKED


async def test_a_process_that_revokes_a_token_knows_it_at_once(database: Database) -> None:
    remembering, text = Tokens(database, macs=MACS), await token(database, "admin")
    await remembering.verify(text)
    await tokens.revoke(database, id_in(text))
    remembering.forget(id_in(text))
    assert await remembering.verify(text) is TokenRefusal.REVOKED


async def test_a_token_is_not_remembered_beyond_its_expiry(database: Database, sql: asyncpg.Connection) -> None:
    clock = Clock()
    remembering, text = Tokens(database, clock=clock, macs=MACS), await token(database, "admin", expires="1h")
    # The token has at most half a second left by the database's clock.
    await sql.execute("UPDATE hookledger.api_token SET expires_at = clock_timestamp() + interval '500 ms'")
    await authenticate(sql)
    await remembering.verify(text)
    await sql.execute("UPDATE hookledger.api_token SET expires_at = clock_timestamp()")
    await authenticate(sql)
    clock.now += 0.5
    assert await remembering.verify(text) is TokenRefusal.EXPIRED


async def test_what_is_remembered_is_still_compared(database: Database) -> None:
    remembering, text = Tokens(database, clock=Clock(), macs=MACS), await token(database, "admin")
    await remembering.verify(text)
    assert await remembering.verify(text[:-64] + "0" * 64) is TokenRefusal.UNKNOWN


async def test_the_memory_has_an_end(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.credentials.tokens.MAX_CACHED", 2)
    assert MAX_CACHED > 1000
    remembering = Tokens(database, clock=Clock(), macs=MACS)
    texts = [await token(database, "admin") for _ in range(3)]
    for text in texts:
        assert isinstance(await remembering.verify(text), Verified)
    assert list(remembering._cache) == [id_in(text) for text in texts[1:]]


async def test_many_who_use_a_token_at_once_ask_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    async def counting(base: Database, token_id: str, *, macs: CredentialMacs, seconds: float) -> tokens.Proof | None:
        asked.append(token_id)
        return await proof(base, token_id, macs=macs, seconds=seconds)

    proof = tokens.proof
    monkeypatch.setattr(tokens, "proof", counting)
    remembering, text = Tokens(database, macs=MACS), await token(database, "admin")
    verdicts = await asyncio.gather(*(remembering.verify(text) for _ in range(50)))
    assert {type(verdict) for verdict in verdicts} == {Verified}
    assert asked == [id_in(text)]
    assert not remembering._lookups


async def test_who_waits_for_a_caller_who_has_gone_asks_by_themselves(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    began, go_on = asyncio.Event(), asyncio.Event()

    async def held_up(base: Database, token_id: str, *, macs: CredentialMacs, seconds: float) -> tokens.Proof | None:
        began.set()
        await go_on.wait()
        return await proof(base, token_id, macs=macs, seconds=seconds)

    proof = tokens.proof
    monkeypatch.setattr(tokens, "proof", held_up)
    remembering, text = Tokens(database, macs=MACS), await token(database, "admin")
    first, *others = [asyncio.create_task(remembering.verify(text)) for _ in range(3)]
    await began.wait()
    await asyncio.sleep(0)
    first.cancel()
    go_on.set()
    assert {type(verdict) for verdict in await asyncio.gather(*others)} == {Verified}
    assert first.cancelled()
    assert not remembering._lookups


@pytest.mark.parametrize("is_there", [True, False])
async def test_a_thousand_who_wait_for_one_query_are_answered_in_the_same_turn(
    database: Database, monkeypatch: pytest.MonkeyPatch, *, is_there: bool
) -> None:
    """If they woke each other one by one, the last would wait for a thousand turns of a busy event loop."""
    began, go_on = asyncio.Event(), asyncio.Event()

    async def held_up(base: Database, token_id: str, *, macs: CredentialMacs, seconds: float) -> tokens.Proof | None:
        found = await proof(base, token_id, macs=macs, seconds=seconds)
        began.set()
        await go_on.wait()
        return found

    proof = tokens.proof
    monkeypatch.setattr(tokens, "proof", held_up)
    remembering, text = Tokens(database, macs=MACS), await token(database, "admin")
    text = text if is_there else f"hl_admin_{'0' * 12}_{'0' * 64}"
    asked = [asyncio.create_task(remembering.verify(text)) for _ in range(1000)]
    await began.wait()
    go_on.set()
    await asked[0]
    for _ in range(5):
        await asyncio.sleep(0)
    assert all(task.done() for task in asked)
    assert len({type(await task) for task in asked}) == 1


async def test_without_a_database_only_what_is_remembered_opens(database_url: str) -> None:
    async with fault_proxy(database_url) as proxy:
        database = Database(proxy.url, pool_size=2)
        await database.open()
        remembering = Tokens(database, clock=Clock(), macs=MACS)
        known, unknown = await token(database, "admin"), await token(database, "admin")
        await remembering.verify(known)
        proxy.cut()
        assert isinstance(await remembering.verify(known), Verified)
        with pytest.raises(StoreUnavailable):
            await remembering.verify(unknown)
        await database.close()


async def test_without_a_database_metrics_are_shown_to_whom_they_were_shown_before(database_url: str) -> None:
    """Else a Prometheus would see no daemon, and nobody what it does about the outage."""
    async with fault_proxy(database_url) as proxy:
        database = Database(proxy.url, pool_size=2)
        await database.open()
        clock = Clock()
        remembering = Tokens(database, clock=clock, macs=MACS)
        shown, ending = await token(database, "metrics"), await token(database, "metrics", expires="1h")
        revoked, other, unseen = [await token(database, kind) for kind in ("metrics", "auditor", "metrics")]
        await tokens.revoke(database, id_in(revoked))
        for each in (shown, ending, revoked, other):
            await remembering.verify(each)
        proxy.cut()
        clock.now += 600
        assert isinstance(await remembering.verify(shown), Verified)
        assert await remembering.verify(shown[:-64] + "0" * 64) is TokenRefusal.UNKNOWN
        assert isinstance(await remembering.verify(ending), Verified)
        assert await remembering.verify(revoked) is TokenRefusal.REVOKED
        clock.now += 3600
        for each in (ending, other, unseen):
            with pytest.raises(StoreUnavailable):
                await remembering.verify(each)
        remembering.forget(id_in(shown))
        with pytest.raises(StoreUnavailable):
            await remembering.verify(shown)
        await database.close()


async def test_those_who_wait_for_a_database_that_is_silent_wait_together(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def silent(_base: Database, _token_id: str, *, macs: CredentialMacs, seconds: float) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(tokens, "proof", silent)
    monkeypatch.setattr("daemon.credentials.tokens.LOOKUP_SECONDS", 0.05)
    remembering, text = Tokens(database, macs=MACS), await token(database, "admin")
    async with asyncio.timeout(5):  # one after the other they would need ten
        answers = await asyncio.gather(*(remembering.verify(text) for _ in range(200)), return_exceptions=True)
    assert {type(answer) for answer in answers} == {StoreUnavailable}


async def test_the_use_of_a_token_is_noted_once_a_minute(database: Database, sql: asyncpg.Connection) -> None:
    text = await token(database, "admin")

    async def used_at() -> datetime | None:
        used: datetime | None = await sql.fetchval("SELECT last_used_at FROM hookledger.api_token")
        return used

    await Tokens(database, macs=MACS).verify(text[:-64] + "0" * 64)
    assert await used_at() is None
    await Tokens(database, macs=MACS).verify(text)
    first = await used_at()
    await Tokens(database, macs=MACS).verify(text)
    assert first is not None
    assert await used_at() == first
    await sql.execute("UPDATE hookledger.api_token SET last_used_at = last_used_at - interval '61 s'")
    await Tokens(database, macs=MACS).verify(text)
    last = await used_at()
    assert last is not None
    assert last >= first


async def test_tokens_are_listed_newest_first_page_by_page(database: Database) -> None:
    made = [await tokens.add(database, new(f"t{number}"), macs=MACS) for number in range(5)]
    first = await tokens.newest(database, 3, macs=MACS)
    rest = await tokens.newest(database, 3, macs=MACS, before=(first[-1].created_at, first[-1].id))
    assert [each.id for each in (*first, *rest)] == ["t4", "t3", "t2", "t1", "t0"]
    assert [*first, *rest] == made[::-1]


async def test_a_token_is_revoked_once_and_stays_known(database: Database) -> None:
    await tokens.add(database, new("t1"), macs=MACS)
    revoked = await tokens.revoke(database, "t1", macs=MACS)
    assert revoked is not None
    assert revoked.revoked_at is not None
    assert await tokens.revoke(database, "t1", macs=MACS) == revoked
    assert await tokens.newest(database, 9, macs=MACS) == [revoked]
    assert await tokens.revoke(database, "t2") is None


@pytest.mark.parametrize(
    ("kind", "tenant"), [("admin", "acme"), ("metrics", "acme"), ("tenant", None), ("root", None), ("", None)]
)
async def test_the_schema_knows_what_scopes_there_are(database: Database, kind: str, tenant: str | None) -> None:
    with pytest.raises(ValueRefused):
        await tokens.add(database, new("t1", kind, tenant), macs=MACS)


async def test_whether_a_token_has_expired_is_said_by_the_database(database: Database) -> None:
    texts = [await token(database, "admin", expires=span) for span in ("1h", "400d")]
    found = {each.id: each for each in await tokens.newest(database, 9, macs=MACS)}
    assert [found[id_in(text)].is_expired for text in texts] == [False, False]
    at = found[id_in(texts[0])].expires_at
    assert at is not None
    assert timedelta(minutes=55) < at - datetime.now(UTC) <= timedelta(hours=1)
