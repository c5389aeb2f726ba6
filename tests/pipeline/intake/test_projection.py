"""The live projection: it equals a rebuild, and it is updated by notification, by polling and by `reach`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from daemon import audit, route_state
from daemon.core.routing.route import LifecycleEventType
from daemon.pipeline.intake import projection
from eventstore import route_log
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import StoreUnavailable
from eventstore.route_log.log import RouteEvent
from tests.support.pipeline.process import CONTEXT, pipeline_process
from tests.support.until import until


async def test_it_equals_a_rebuild_from_the_log_at_every_position(database_url: str) -> None:
    async with pipeline_process(database_url, run=False) as it:
        a = await it.route("http://127.0.0.1:9/a", "order.*")
        b = await it.route("http://127.0.0.1:9/b")
        await it.disable(a)
        await it.commands.edit(b.tenant, b.id, {"event_types": ("item.change",)}, CONTEXT)
        await it.enable(a)
        await it.commands.rotate_key(a.tenant, a.id, CONTEXT)
        await it.commands.delete(b.tenant, b.id, CONTEXT)
        rebuilt = await audit.rebuild(it.database)
        assert it.projection.index.position == rebuilt.position == 7
        assert route_state.digest(it.projection.index.routes()) == rebuilt.state_sha256


async def test_another_process_hears_of_a_change_within_a_second(database_url: str) -> None:
    async with pipeline_process(database_url) as one, pipeline_process(database_url) as other:
        route = await one.route("http://127.0.0.1:9/")
        await until(lambda: other.projection.index.position == 1)
        await one.disable(route)
        await until(lambda: other.projection.index.position == 2)


async def test_without_notifications_it_polls(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projection, "POLL_SECONDS", 0.1)
    async with pipeline_process(database_url, run=False) as one, pipeline_process(database_url, run=False) as other:
        await one.route("http://127.0.0.1:9/")
        looking = asyncio.ensure_future(other.projection.run_once())
        await until(lambda: other.projection.index.position == 1)
        await one.route("http://127.0.0.1:9/")
        await looking
        await other.projection.run_once()
        assert other.projection.index.position == 2


async def test_reach_returns_with_the_position_applied_and_asks_nothing_if_it_is(database_url: str) -> None:
    async with pipeline_process(database_url, run=False) as one, pipeline_process(database_url, run=False) as other:
        for _ in range(3):
            await one.route("http://127.0.0.1:9/")
        assert await other.projection.lag() == 3
        await asyncio.gather(*(other.projection.reach(n) for n in (3, 1, 2)))
        assert other.projection.index.position == 3
        await other.database.close()
        await other.projection.reach(3)
        await other.database.open()


async def test_who_asks_for_the_end_gets_a_look_that_began_since_and_shares_it(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pipeline_process(database_url, run=False) as one, pipeline_process(database_url, run=False) as other:
        looks, read, may_end = list[int](), route_log.read, asyncio.Event()

        async def looked(database: Database, *, after: int) -> AsyncIterator[RouteEvent]:
            looks.append(after)
            rows = [row async for row in read(database, after=after)]
            await may_end.wait()
            for row in rows:
                yield row

        monkeypatch.setattr(route_log, "read", looked)
        early = asyncio.ensure_future(other.projection.reach_end())
        await until(lambda: looks == [0])
        monkeypatch.setattr(route_log, "read", read)
        await one.route("http://127.0.0.1:9/")
        monkeypatch.setattr(route_log, "read", looked)
        late = [asyncio.ensure_future(other.projection.reach_end()) for _ in range(20)]
        await asyncio.sleep(0)
        may_end.set()
        await asyncio.gather(early, *late)
        assert other.projection.index.position == 1
        assert looks == [0, 0]


async def test_a_look_that_failed_is_nobodys_end_of_the_log(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with pipeline_process(database_url, run=False) as one, pipeline_process(database_url, run=False) as other:
        await one.route("http://127.0.0.1:9/")
        read, is_broken = route_log.read, True

        async def failing(database: Database, *, after: int) -> AsyncIterator[RouteEvent]:
            if is_broken:
                raise StoreUnavailable("gone")
            async for row in read(database, after=after):
                yield row

        monkeypatch.setattr(route_log, "read", failing)
        asked = [asyncio.ensure_future(other.projection.reach_end()) for _ in range(2)]
        for each in asked:
            with pytest.raises(StoreUnavailable):
                await each
        is_broken = False
        await other.projection.reach_end()
        assert other.projection.index.position == 1


async def test_listeners_hear_of_each_event_once_in_order(database_url: str) -> None:
    async with pipeline_process(database_url, run=False) as it:
        heard: list[tuple[int, LifecycleEventType, bool]] = []
        it.projection.on_change.append(lambda route, event: heard.append((event.pos, event.type, route.is_enabled)))
        route = await it.route("http://127.0.0.1:9/")
        await it.disable(route)
        await it.enable(route)
        await asyncio.gather(*(it.projection.catch_up() for _ in range(5)))
        assert heard == [
            (1, LifecycleEventType.CREATED, True),
            (2, LifecycleEventType.DISABLED, False),
            (3, LifecycleEventType.ENABLED, True),
        ]
