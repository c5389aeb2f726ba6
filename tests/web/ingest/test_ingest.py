"""Group commit of single events, and a database that does not answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

import asyncpg
import pytest
from structlog.testing import capture_logs

from daemon.web.ingest import publish as events
from daemon.web.ingest.commits import tenant_queue
from eventstore import domain_events
from eventstore.domain_events import catalogue
from eventstore.postgres.errors import IdHeld
from tests.support.postgres.fault_proxy import fault_proxy
from tests.support.web.application import Answer, App, app
from tests.support.web.tokens import bearer, token


async def publish(to: App, id: str, *, tenant: str = "acme") -> Answer:
    return await to.ask("POST", "/v1/events", {"tenant": tenant, "type": "a.b", "id": id, "data": {}})


async def test_concurrent_events_share_commits_and_each_gets_its_own_answer(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    store = domain_events.publish

    async def counted(database: object, events: list[domain_events.NewEvent], **more: float) -> list[bool]:
        sizes.append(len(events))
        return await store(app.database, events, **more)

    monkeypatch.setattr(domain_events, "publish", counted)
    names = [f"e{n % 80}" for n in range(100)]
    answers = await asyncio.gather(*[publish(app, name) for name in names])
    assert [answer.json["events"][0]["id"] for answer in answers] == names
    assert sum(answer.json["accepted"] for answer in answers) == len(await app.events()) == 80
    assert sum(answer.json["duplicates"] for answer in answers) == 20
    assert sum(sizes) == 100
    assert len(sizes) < 50


async def test_a_refused_event_does_not_fail_its_neighbours(database_url: str) -> None:
    async with app(database_url) as opened:
        await opened.rows("ALTER TABLE hookledger.domain_event ADD CONSTRAINT picky CHECK (id NOT LIKE 'bad%')")
        answers = await asyncio.gather(*[publish(opened, f"bad{n}" if n % 10 == 3 else f"e{n}") for n in range(50)])
        assert [answer.status for answer in answers] == [422 if n % 10 == 3 else 202 for n in range(50)]
        assert len(await opened.events()) == 45


async def test_batches_are_bounded_in_events_and_bytes(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenant_queue, "MAX_BATCH_BYTES", 10)
    answers = await asyncio.gather(*[publish(app, f"e{n}") for n in range(30)])
    assert {answer.status for answer in answers} == {202}
    assert len(await app.events()) == 30


async def test_tenants_take_turns_in_the_commits(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tenant_queue, "MAX_BATCH_EVENTS", 10)
    commits: list[list[str]] = []
    go_on = asyncio.Event()
    store = domain_events.publish

    async def noted(database: object, events: list[domain_events.NewEvent], **more: float) -> list[bool]:
        await go_on.wait()
        commits.append([event.id for event in events])
        return await store(app.database, events, **more)

    monkeypatch.setattr(domain_events, "publish", noted)
    asked = []
    group_commit = app.client.app[events.GROUP_COMMIT]
    for tenant, names in (("many", [f"m{n}" for n in range(25)]), ("few", ["f0", "f1"]), ("one", ["o0"])):
        for name in names:
            event = domain_events.NewEvent(tenant=tenant, id=name, type="a.b", data=b"{}")
            asked.append(asyncio.create_task(group_commit.publish(event, seconds=10)))
    await asyncio.sleep(0)  # all of them are in the queue, or in the first commit
    go_on.set()
    assert await asyncio.gather(*asked) == [True] * 28
    assert commits[0] == ["m0", "f0", "o0", "m1", "f1", "m2", "m3", "m4", "m5", "m6"]
    assert [name for commit in commits[1:] for name in commit] == [f"m{n}" for n in range(7, 25)]


async def test_a_fault_of_ours_is_told_as_one_and_the_next_event_is_stored(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = domain_events.publish

    async def failing(database: object, events: list[domain_events.NewEvent], **more: float) -> list[bool]:
        stored = await store(app.database, events, **more)
        if events[0].id == "first":
            raise LookupError("a bug")
        return stored

    monkeypatch.setattr(domain_events, "publish", failing)
    with capture_logs() as logged:
        answer = await publish(app, "first")
    assert answer.status == 500
    assert [line["event"] for line in logged if line["log_level"] == "error"] == ["publish.crashed", "request.crashed"]
    assert (await publish(app, "second")).status == 202
    assert {event["id"] for event in await app.events()} == {"first", "second"}


async def test_a_closed_database_is_503_with_a_time_to_come_back(app: App) -> None:
    await app.disconnect()
    for answer in (
        await publish(app, "e1"),
        await app.ask(
            "POST",
            "/v1/events",
            data=b'{"tenant":"a","type":"a.b","data":{}}',
            headers={"Content-Type": "application/x-ndjson"},
        ),
        await app.ask(
            "POST", "/v1/tenants/acme/routes", {"name": "n", "target_url": "https://example.com/", "event_types": ["*"]}
        ),
    ):
        assert answer.status == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert "PostgreSQL" not in answer.text


async def test_a_database_that_is_silent_is_503_within_three_seconds_for_everybody(empty_url: str) -> None:
    async with fault_proxy(empty_url) as proxy, app(proxy.url) as opened:
        assert (await publish(opened, "before")).status == 202
        proxy.stall()
        begun = time.monotonic()

        async def late(number: int) -> tuple[int, float]:
            await asyncio.sleep(number * 0.05)
            asked = time.monotonic()
            answer = await publish(opened, f"e{number}")
            return answer.status, time.monotonic() - asked

        batch = opened.ask(
            "POST",
            "/v1/events",
            data=b'{"tenant":"a","type":"a.b","data":{}}',
            headers={"Content-Type": "application/x-ndjson"},
        )
        told, many = await asyncio.gather(asyncio.gather(*[late(number) for number in range(12)]), batch)
        assert {status for status, _ in told} == {503}
        assert max(seconds for _, seconds in told) < 3
        assert many.status == 503
        assert time.monotonic() - begun < 5
        proxy.restore()
        assert (await publish(opened, "after")).status == 202


async def test_what_it_took_to_know_who_asks_is_not_there_for_storing(
    app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each step is in time, but their sum is too long."""
    text = await token(app.database, "producer")
    monkeypatch.setattr(events, "ANSWER_SECONDS", 0.05)
    verify = app.services.tokens.verify

    async def slow(given: str) -> object:
        await asyncio.sleep(0.06)
        return await verify(given)

    monkeypatch.setattr(app.services.tokens, "verify", slow)
    answer = await app.ask("POST", "/v1/events", {"tenant": "acme", "type": "a.b", "data": {}}, headers=bearer(text))
    assert answer.status == 503
    assert await app.events() == []


@pytest.mark.parametrize("content_type", ["application/json", "application/x-ndjson"])
async def test_a_catalogue_that_is_silent_is_503_too(
    app: App, monkeypatch: pytest.MonkeyPatch, content_type: str
) -> None:
    async def silent(_database: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(events, "ANSWER_SECONDS", 0.05)
    monkeypatch.setattr(app.services.catalogue, "_is_strict", True)
    monkeypatch.setattr(catalogue, "names", silent)
    event = {"tenant": "acme", "type": "a.b", "data": {}}
    answer = await app.ask("POST", "/v1/events", event, headers={"Content-Type": content_type})
    assert answer.status == 503


async def test_what_was_given_up_in_the_queue_is_not_stored_later(empty_url: str) -> None:
    async with fault_proxy(empty_url) as proxy, app(proxy.url) as opened:
        proxy.stall()
        first = asyncio.create_task(publish(opened, "sent"))
        while not (task := opened.client.app[events.GROUP_COMMIT])._queue and task._task is None:
            await asyncio.sleep(0.01)
        second = asyncio.create_task(publish(opened, "queued"))
        assert (await first).status == (await second).status == 503
        proxy.restore()
        assert (await publish(opened, "after")).status == 202
        assert "queued" not in {row["id"] for row in await opened.events()}


@asynccontextmanager
async def held(url: str, *, seconds: float | None = None) -> AsyncIterator[None]:
    """A producer's transaction, which has published `held` of acme and does not end while the block runs, or ends by
    itself after a time.
    """
    producer = await asyncpg.connect(url)
    try:
        transaction = producer.transaction()
        await transaction.start()
        await producer.execute("SELECT hookledger.publish('acme', 'a.b', '{}', 'held')")
        if seconds is not None:
            asyncio.get_running_loop().call_later(seconds, lambda: asyncio.ensure_future(transaction.rollback()))
        yield
    finally:
        await producer.close()


async def publish_line(to: App, id: str, *, tenant: str = "acme", also: str = "") -> Answer:
    lines = f'{{"tenant":"{tenant}","type":"a.b","id":"{id}","data":{{}}}}\n{also}'
    return await to.ask("POST", "/v1/events", data=lines.encode(), headers={"Content-Type": "application/x-ndjson"})


PublishOne = Callable[..., Coroutine[object, None, Answer]]


@pytest.mark.parametrize("one", [publish, publish_line])
async def test_who_publishes_an_id_of_a_transaction_that_does_not_end_holds_up_nobody_else(
    empty_url: str, app: App, one: PublishOne
) -> None:
    async with held(empty_url):
        waiting = [asyncio.create_task(one(app, "held")) for _ in range(8)]
        for number in range(5):
            others = [publish(app, f"e{number}", tenant=tenant) for tenant in ("acme", "b", "z")]
            answers = await asyncio.gather(*others, publish_line(app, f"l{number}", tenant="z"))
            assert {answer.status for answer in answers} == {202}
        told = await asyncio.gather(*waiting)
    assert {answer.status for answer in told} == {503}
    assert {int(answer.headers["Retry-After"]) > 0 for answer in told} == {True}
    assert "has not ended" in told[0].json["detail"]
    assert (await one(app, "held")).status == 202
    assert [row["id"] for row in await app.events()].count("held") == 1


async def test_a_tenant_that_had_to_wait_goes_on_in_its_own_queue_for_a_while(
    empty_url: str, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each of many such tenants would hold up the others again every few seconds."""
    group_commit = app.client.app[events.GROUP_COMMIT]
    event = domain_events.NewEvent(tenant="acme", id="held", type="a.b", data=b"{}")
    async with held(empty_url):
        with pytest.raises(IdHeld):
            await group_commit.publish(event, seconds=0.3)
    assert (await publish(app, "e1")).status == 202
    assert list(group_commit._apart) == ["acme"]
    monkeypatch.setattr(tenant_queue, "LINGER_SECONDS", 0.0)
    assert (await publish(app, "e2")).status == 202
    async with asyncio.timeout(5):
        while group_commit._apart:
            await asyncio.sleep(0.01)
    assert (await publish(app, "e3")).status == 202


async def test_of_many_tenants_that_have_to_wait_only_some_are_searched_for(
    empty_url: str, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each costs the events in the queue a wait, so those that are left get queues of their own unseen."""
    monkeypatch.setattr("daemon.web.ingest.commits.group_commit.SEARCH_SECONDS", -1.0)
    tenants = ["acme", *(f"t{n}" for n in range(20))]
    async with held(empty_url):
        asked = [asyncio.create_task(publish(app, "held", tenant=tenant)) for tenant in tenants]
        told = await asyncio.gather(*asked)
    assert [answer.status for answer in told] == [503] + [202] * 20
    assert (await publish(app, "held")).status == 202


async def test_a_queue_of_a_tenant_holds_up_no_stop(empty_url: str, app: App) -> None:
    group_commit = app.client.app[events.GROUP_COMMIT]
    event = domain_events.NewEvent(tenant="acme", id="held", type="a.b", data=b"{}")
    async with held(empty_url):
        with pytest.raises(IdHeld):
            await group_commit.publish(event, seconds=0.3)
    async with asyncio.timeout(tenant_queue.LINGER_SECONDS / 2):
        await group_commit.close()


@pytest.mark.parametrize("lines", [1, 2_000])
async def test_an_id_is_stored_once_the_transaction_that_held_it_is_undone(
    empty_url: str, app: App, lines: int
) -> None:
    also = "".join(f'{{"tenant":"b","type":"a.b","id":"e{n}","data":{{}}}}\n' for n in range(lines - 1))
    async with held(empty_url, seconds=0.5):
        single, batch = await asyncio.gather(publish(app, "held"), publish_line(app, "held", also=also))
    assert single.json["accepted"] + batch.json["accepted"] == lines
    assert single.json["duplicates"] + batch.json["duplicates"] == 1
    assert len(await app.events()) == lines


async def test_the_lock_of_somebody_else_on_the_whole_table_is_waited_for(empty_url: str, app: App) -> None:
    other = await asyncpg.connect(empty_url)
    try:
        await other.execute("BEGIN; LOCK TABLE hookledger.domain_event IN SHARE MODE")
        single, batch = asyncio.create_task(publish(app, "e1")), asyncio.create_task(publish_line(app, "e2"))
        await asyncio.sleep(0.5)
        await other.execute("ROLLBACK")
        assert (await single).status == (await batch).status == 202
    finally:
        await other.close()
