"""GET …/feed: a tenant's events as they are read, from a cursor on, each exactly once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from daemon.pipeline.intake.event_feed import EventFeed
from daemon.web.service.events import feed_pages
from eventstore.domain_events import tail, ticks
from eventstore.domain_events.events import shard_of
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import StoreUnavailable
from tests.support.web.application import Answer, App, app
from tests.support.web.application import app as _app
from tests.support.web.tokens import bearer, token

FEED = "/v1/tenants/acme/feed"
TOKEN = "hl_admin_0123456789abcdef0123456789abcdef"


async def publish(app: App, *events: dict[str, Any], tenant: str = "acme", tick: bool = True) -> list[str]:
    """Publishes events, and makes their tick as a daemon does. Returns their ids."""
    lines = "\n".join(json.dumps({"tenant": tenant, "data": {}} | event) for event in events)
    told = await app.ask("POST", "/v1/events", data=lines, headers={"Content-Type": "application/x-ndjson"})
    assert told.json["accepted"] == len(events), told.text
    if tick:
        await ticks.make(app.database)
        app.services.event_feed.told(await ticks.newest_tick(app.database))
    return [event["id"] for event in told.json["events"]]


async def begun(app: App, **more: Any) -> str:
    answer = await app.ask("GET", FEED, **more)
    assert answer.status == 200, answer.text
    assert answer.json["items"] == []
    cursor: str = answer.json["next"]
    return cursor


async def follow(app: App, cursor: str, **query: object) -> Answer:
    text = "".join(f"&{name}={value}" for name, value in query.items())
    return await app.ask("GET", f"{FEED}?cursor={cursor}{text}")


async def all_after(app: App, cursor: str, **query: object) -> list[str]:
    """The ids of all events after a cursor, page by page."""
    ids: list[str] = []
    while True:
        answer = await follow(app, cursor, **query)
        assert answer.status == 200, answer.text
        ids += [item["id"] for item in answer.json["items"]]
        if answer.json["next"] == cursor:
            return ids
        cursor = answer.json["next"]


@asynccontextmanager
async def running(feed: EventFeed) -> AsyncIterator[None]:
    """Runs the loop of a feed, as the pipeline does."""

    async def loop() -> None:
        while True:
            with suppress(StoreUnavailable):
                await feed.run_once()

    task = asyncio.create_task(loop())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until_waiting(app: App, number: int) -> None:
    """Waits until so many requests wait at the feed of acme."""
    async with asyncio.timeout(20):
        while len(app.services.event_feed._bells.get("acme", ())) < number or app.services.event_feed.last is None:
            await asyncio.sleep(0.01)


async def until_fed(app: App) -> None:
    """Waits until the feed has read the newest tick."""
    newest = await ticks.newest(app.database)
    async with asyncio.timeout(20):
        while app.services.event_feed.last is None or app.services.event_feed.last.tick < newest:
            await asyncio.sleep(0.01)


async def test_events_come_as_they_were_published_and_in_order(app: App) -> None:
    cursor = await begun(app)
    raw = '{"tenant": "acme", "type": "order.create", "id": "evt_1", "data": {"total": 1.10,\n "n": 123456789012345678901234567890}, "context": {"by": "x"}}'
    assert (await app.ask("POST", "/v1/events", data=raw, headers={"Content-Type": "application/json"})).status == 202
    (second,) = await publish(app, {"type": "order.pay"})
    answer = await follow(app, cursor)
    assert [item["id"] for item in answer.json["items"]] == ["evt_1", second]
    assert (
        '"data":{"total": 1.10,\n "n": 123456789012345678901234567890},"context":{"by": "x"},"snapshot":{}'
        in answer.text
    )


async def test_without_a_cursor_it_begins_after_what_was_read(app: App) -> None:
    await publish(app, {"type": "order.create"})
    cursor = await begun(app)
    (new,) = await publish(app, {"type": "order.create"})
    assert await all_after(app, cursor) == [new]


async def test_pages_end_within_a_tick_and_nothing_is_skipped_or_comes_twice(app: App) -> None:
    cursor = await begun(app)
    ids = await publish(app, *({"type": "order.create", "id": f"evt_{number}"} for number in range(10)))
    ids += await publish(app, *({"type": "order.create", "id": f"evt_{number}"} for number in range(10, 15)))
    assert await all_after(app, cursor, limit=3) == ids
    assert await all_after(app, cursor) == ids


@pytest.mark.parametrize(
    ("types", "expected"),
    [("order.*", ["a", "c"]), ("order.pay,customer.create", ["b", "c"]), ("*", ["a", "b", "c"]), ("none.such", [])],
)
async def test_types_are_chosen_as_by_a_route(app: App, types: str, expected: list[str]) -> None:
    cursor = await begun(app)
    await publish(
        app,
        {"type": "order.create", "id": "a"},
        {"type": "customer.create", "id": "b"},
        {"type": "order.pay", "id": "c"},
    )
    assert await all_after(app, cursor, types=types) == expected


@pytest.mark.parametrize("is_running", [False, True])
async def test_another_tenants_events_are_never_seen(app: App, is_running: bool) -> None:
    cursor = await begun(app)
    feed = app.services.event_feed
    async with running(feed) if is_running else asynccontextmanager(_nothing)():
        waiting = asyncio.create_task(follow(app, cursor, wait=30))
        if is_running:
            await until_waiting(app, 1)
        # Tenants of the same shard are read together.
        shard = shard_of("acme")
        other = next(name for name in map(str, range(1000)) if shard_of(name) == shard)
        with feed.following(other):
            await publish(app, {"type": "order.create"}, tenant=other)
            await publish(app, {"type": "order.create", "id": "ours"})
            assert [item["id"] for item in (await waiting).json["items"]] == ["ours"]
    assert await all_after(app, cursor) == ["ours"]


async def _nothing() -> AsyncIterator[None]:
    yield


async def test_who_waits_is_answered_when_an_event_comes(app: App) -> None:
    cursor = await begun(app)
    async with running(app.services.event_feed):
        waiting = asyncio.create_task(follow(app, cursor, wait=30))
        await until_waiting(app, 1)
        (id,) = await publish(app, {"type": "order.create"})
        answer = await waiting
    assert [item["id"] for item in answer.json["items"]] == [id]


async def test_many_who_follow_cost_one_look_for_each_tick(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    read_cut, after = tail.read_cut, ticks.after

    def counted(database: Database, **rest: Any) -> Any:
        looks.append(rest["tick"].tick)
        return read_cut(database, **rest)

    async def counted_after(database: Database, tick: int, **rest: Any) -> Any:
        looks.append(-tick)
        return await after(database, tick, **rest)

    cursor = await begun(app)
    feed = app.services.event_feed
    with feed.following("acme"):
        await feed._read()  # it knows where it begins
    async with running(feed):
        waiting = [asyncio.create_task(follow(app, cursor, wait=30)) for _ in range(10)]
        await until_waiting(app, 10)
        monkeypatch.setattr(tail, "read_cut", counted)
        monkeypatch.setattr(ticks, "after", counted_after)
        (first,) = await publish(app, {"type": "order.create"})
        answers = await asyncio.gather(*waiting)
        assert {tuple(item["id"] for item in answer.json["items"]) for answer in answers} == {(first,)}
        assert len(looks) == 1
        waiting = [asyncio.create_task(follow(app, answer.json["next"], wait=30)) for answer in answers]
        await until_waiting(app, 10)
        await publish(app, {"type": "order.create"}, tenant=_of_another_shard("acme"))
        await until_fed(app)
        (second,) = await publish(app, {"type": "order.create"})
        answers = await asyncio.gather(*waiting)
        assert {tuple(item["id"] for item in answer.json["items"]) for answer in answers} == {(second,)}
        assert len(looks) == 2, "a tick that touches none of the shards costs no look"


def _of_another_shard(tenant: str) -> str:
    shard = shard_of(tenant)
    return next(name for name in map(str, range(1000)) if shard_of(name) != shard)


async def test_a_tick_too_large_to_keep_is_read_from_the_log(app: App) -> None:
    feed = app.services.event_feed
    feed._tunables = type(feed._tunables)(fed_tick_bytes=2000, fed_ticks=3)
    cursor = await begun(app)
    async with running(feed):
        waiting = asyncio.create_task(follow(app, cursor, wait=30))
        await until_waiting(app, 1)
        ids = await publish(app, *({"type": "order.create", "data": {"text": "x" * 900}} for _ in range(5)))
        assert [item["id"] for item in (await waiting).json["items"]] == ids
        for _ in range(5):
            ids += await publish(app, {"type": "order.create"})
        assert await all_after(app, cursor, limit=2) == ids
        assert len(feed._kept) <= 3


async def test_who_waits_in_vain_is_answered_with_a_cursor_that_goes_on(app: App) -> None:
    cursor = await begun(app)
    answer = await follow(app, cursor, wait=1)
    assert answer.json == {"items": [], "next": cursor}
    await publish(app, {"type": "order.create"}, tenant="globex")
    answer = await follow(app, cursor)
    assert answer.json["items"] == []
    assert answer.json["next"] != cursor


async def test_test_events_and_backfill_are_marked(app: App) -> None:
    route = await app.route(event_types=["order.*"])
    await app.ask("PUT", "/v1/event-types", [{"name": "order.create", "example": {"data": {"a": 1}}}])
    cursor = await begun(app)
    sent = await app.ask("POST", f"/v1/tenants/acme/routes/{route['id']}/test", {"event_types": ["order.create"]})
    assert sent.status == 202, sent.text
    await publish(app, {"type": "order.create", "backfill": True})
    test, backfill = (await follow(app, cursor)).json["items"]
    assert (test["test_route"], test["backfill"]) == (route["id"], False)
    assert (backfill["test_route"], backfill["backfill"]) == (None, True)


@pytest.mark.parametrize("cursor", ["bm9uc2Vuc2U", "MS4yLnRocmVl", "MS4tMS4w"])
async def test_a_cursor_that_no_answer_had_is_refused(app: App, cursor: str) -> None:
    answer = await follow(app, cursor)
    assert answer.status == 422
    assert "is not a cursor of this API" in answer.errors["cursor"]


async def test_a_cursor_whose_tick_is_gone_or_is_another_one_is_told(app: App) -> None:
    await publish(app, {"type": "order.create"})
    cursor = await begun(app)
    async with app.database.connection() as connection:
        await connection.execute("UPDATE hookledger.tick SET at = at + interval '1 second'")
        other = await follow(app, cursor)
        await connection.execute("DELETE FROM hookledger.tick")
    for answer in (other, await follow(app, cursor)):
        assert answer.status == 410
        assert "begin anew without a cursor" in answer.json["detail"]


@pytest.mark.parametrize(("query", "field"), [("types=Order", "types"), ("wait=31", "wait"), ("after=1", "after")])
async def test_what_cannot_be_asked_is_refused(app: App, query: str, field: str) -> None:
    answer = await app.ask("GET", f"{FEED}?{query}")
    assert answer.status == 422
    assert field in answer.errors


async def test_one_tenant_cannot_take_all_places(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed_pages, "MAX_WAITING_OF_TENANT", 1)
    monkeypatch.setattr(feed_pages, "MAX_WAITING", 2)
    cursor = await begun(app)
    async with running(app.services.event_feed):
        waiting = [asyncio.create_task(follow(app, cursor, wait=30))]
        await until_waiting(app, 1)
        refused = await follow(app, cursor)
        assert (refused.status, refused.headers["Retry-After"]) == (429, "5")
        assert "following this tenant already" in refused.json["detail"]
        waiting.append(asyncio.create_task(app.ask("GET", f"/v1/tenants/globex/feed?cursor={cursor}&wait=30")))
        async with asyncio.timeout(20):
            while "globex" not in app.services.event_feed._bells:
                await asyncio.sleep(0.01)
        full = await app.ask("GET", "/v1/tenants/initech/feed")
        assert (full.status, full.headers["Retry-After"]) == (503, "5")
        app.services.event_feed.close()
        assert [answer.status for answer in await asyncio.gather(*waiting)] == [200, 200]


async def test_a_process_that_stops_answers_who_waits_and_takes_nobody_else(app: App) -> None:
    cursor = await begun(app)
    async with running(app.services.event_feed):
        waiting = asyncio.create_task(follow(app, cursor, wait=30))
        await until_waiting(app, 1)
        app.services.event_feed.close()
        assert (await waiting).json == {"items": [], "next": cursor}
    refused = await follow(app, cursor)
    assert (refused.status, refused.headers["Retry-After"]) == (503, "1")


async def test_a_token_that_is_revoked_while_it_waits_gets_no_event(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.web.api.events.feed.CHECK_SECONDS", 0.0)
    async with app(empty_url, server__admin_token=TOKEN) as opened, running(opened.services.event_feed):
        text = await token(opened.database, "tenant:acme")
        cursor = await begun(opened, headers=bearer(text))
        waiting = asyncio.create_task(opened.ask("GET", f"{FEED}?cursor={cursor}&wait=30", headers=bearer(text)))
        await until_waiting(opened, 1)
        revoked = await opened.ask("DELETE", f"/v1/tokens/{text.split('_')[2]}", headers=bearer(TOKEN))
        assert revoked.status == 204, revoked.text
        await ticks.make(opened.database)
        async with opened.database.connection() as connection:
            await connection.execute("SELECT hookledger.publish('acme', 'order.create', '{}'::jsonb)")
        await ticks.make(opened.database)
        opened.services.event_feed.told(None)
        answer = await waiting
    assert answer.status == 401, answer.text


async def test_a_place_is_free_again_soon_after_its_client_left(app: App) -> None:
    cursor = await begun(app)
    async with running(app.services.event_feed):
        waiting = asyncio.create_task(follow(app, cursor, wait=30))
        await until_waiting(app, 1)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        async with asyncio.timeout(20):
            while app.services.event_feed._bells:
                await asyncio.sleep(0.05)


async def test_another_log_ends_what_is_kept(app: App) -> None:
    feed = app.services.event_feed
    cursor = await begun(app)
    async with running(feed):
        waiting = asyncio.create_task(follow(app, cursor, wait=30))
        await until_waiting(app, 1)
        await publish(app, {"type": "order.create"}, tenant="globex")
        feed.forget()
        assert not feed._kept
        assert (await waiting).json == {"items": [], "next": cursor}
        (id,) = await publish(app, {"type": "order.create"})
        assert [item["id"] for item in (await follow(app, cursor, wait=30)).json["items"]] == [id]


async def test_who_waits_at_a_place_that_another_log_does_not_have_is_told(app: App) -> None:
    feed = app.services.event_feed
    await publish(app, {"type": "order.create"})
    cursor = await begun(app)
    async with running(feed):
        waiting = asyncio.create_task(follow(app, cursor, wait=30))
        await until_waiting(app, 1)
        async with (
            app.database.connection() as connection
        ):  # a standby that was promoted has another one of that number
            await connection.execute("UPDATE hookledger.tick SET at = at + interval '1 second'")
        feed.forget()
        await publish(app, {"type": "order.create"})
        assert (await waiting).json == {"items": [], "next": cursor}
        assert (await follow(app, cursor)).status == 410


async def test_a_cursor_goes_on_in_another_process(app: App, empty_url: str) -> None:
    async with running(app.services.event_feed), _app(empty_url) as other:
        cursor = await begun(app)
        ids = []
        for each in (app, other, app):
            ids += await publish(each, {"type": "order.create"}, {"type": "order.create"})
            app.services.event_feed.told(None)  # as by a notification
            waiting = await follow(app, cursor, wait=5)
            assert [item["id"] for item in waiting.json["items"]] == ids[-2:]
            cursor = waiting.json["next"]
        assert await all_after(other, cursor) == []
        ids += await publish(other, {"type": "order.create"})
        assert await all_after(other, cursor) == ids[-1:]
