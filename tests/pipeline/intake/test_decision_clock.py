"""Event time while the database's clock is moved: decisions follow the true order, live and recomputed."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import orjson
import pytest
import pytest_asyncio

from daemon import route_state
from daemon.core.routing.decision import Decision, eligible
from daemon.core.routing.index import RouteIndex
from daemon.core.routing.route import LifecycleEventType
from eventstore import domain_events, route_log
from eventstore.domain_events import tail, ticks
from eventstore.domain_events.events import SHARDS, StoredEvent
from eventstore.postgres import schema
from eventstore.postgres.connect import Database
from tests.support.faults.report import seed_of
from tests.support.postgres.server_clock import ServerClock, database_of_its_own, server_clock
from tests.support.values.builders import draft, new_event
from tests.support.values.lifecycles import created

HOUR_SECONDS = 3600
STEPS = 400


@pytest.fixture(scope="module")
def clock() -> Iterator[ServerClock]:
    with server_clock() as it:
        yield it


@pytest_asyncio.fixture
async def store(clock: ServerClock) -> AsyncIterator[Database]:
    async with database_of_its_own(clock) as database:
        yield database


@dataclass(kw_only=True)
class Steps:
    """Does one thing after the other. `open` are the routes that are enabled now, `expected` what each event goes to."""

    database: Database
    open: dict[UUID, int] = field(default_factory=dict)
    disabled: dict[UUID, int] = field(default_factory=dict)
    expected: dict[str, frozenset[UUID]] = field(default_factory=dict)
    live: dict[str, frozenset[UUID]] = field(default_factory=dict)
    ticks_read: int = 0
    index: RouteIndex = field(default_factory=RouteIndex)

    async def create(self) -> UUID:
        route_id = uuid4()
        await self._append(route_id, 1, LifecycleEventType.CREATED, created(route_id=route_id).body)
        self.open[route_id] = 1
        return route_id

    async def disable(self, route_id: UUID) -> None:
        version = self.open.pop(route_id) + 1
        await self._append(route_id, version, LifecycleEventType.DISABLED, {})
        self.disabled[route_id] = version

    async def enable(self, route_id: UUID) -> None:
        version = self.disabled.pop(route_id) + 1
        await self._append(route_id, version, LifecycleEventType.ENABLED, {})
        self.open[route_id] = version

    async def publish(self) -> None:
        event = new_event()
        self.expected[event.id] = frozenset(self.open)
        await domain_events.publish(self.database, [event])

    async def read(self) -> None:
        """Makes a tick if there is news, and decides what was not read yet, as a live process does."""
        await ticks.make(self.database)
        async for event in route_log.read(self.database, after=self.index.position):
            route_state.apply(self.index, event)
        self.live |= {event.id: chosen(self.index, event) for event in await self._unread()}

    async def recomputed(self) -> dict[str, frozenset[UUID]]:
        index = await route_state.index(self.database)
        self.ticks_read = 0
        return {event.id: chosen(index, event) for event in await self._unread()}

    async def _unread(self) -> list[StoredEvent]:
        events: list[StoredEvent] = []
        before = await ticks.snap_of(self.database, self.ticks_read)
        while found := await ticks.after(self.database, self.ticks_read):
            for tick in found:
                async for page in tail.read_cut(self.database, before=before, tick=tick, shards=range(SHARDS)):
                    events += page
                before, self.ticks_read = tick.snap, tick.tick
        return events

    async def _append(self, route_id: UUID, version: int, type: LifecycleEventType, body: object) -> None:
        async with self.database.transaction() as connection:
            drawn = draft(route_id=route_id, version=version, type=type.value, body=orjson.dumps(body).decode())
            await route_log.append(connection, drawn)


def chosen(index: RouteIndex, event: StoredEvent) -> frozenset[UUID]:
    skipped: list[Decision] = []
    routes = eligible(
        index, tenant=event.tenant, event_type=event.type, at=event.event_time, backfill=event.backfill,
        passes=lambda _: True, on_skip=skipped.append,
    )  # fmt: skip
    return frozenset(route.id for route in routes)


async def test_whatever_the_clock_does_an_event_goes_to_the_routes_that_were_enabled_when_it_was_published(
    store: Database, clock: ServerClock, request: pytest.FixtureRequest
) -> None:
    dice, it = random.Random(seed_of(request.config)), Steps(database=store)
    await it.create()
    for step in range(STEPS):
        match dice.choice("ppppeddctss"):
            case "p":
                await it.publish()
            case "e" if it.disabled:
                await it.enable(dice.choice(list(it.disabled)))
            case "d" if it.open:
                await it.disable(dice.choice(list(it.open)))
            case "c" if len(it.open) + len(it.disabled) < 10:
                await it.create()
            case "t":
                await it.read()
            case "s":
                # It drifts ahead, so that it goes on passing all that was decided, and falling behind it.
                moved = dice.choice([0, dice.uniform(-5, 5), dice.uniform(-HOUR_SECONDS, HOUR_SECONDS)])
                clock.shift(60 * step + moved)
            case _:
                pass
    await it.read()
    assert it.live == it.expected
    assert await it.recomputed() == it.expected


async def test_no_route_gets_what_was_published_before_its_enable_although_the_clock_went_back_in_between(
    store: Database, clock: ServerClock
) -> None:
    it = Steps(database=store)
    route_id = await it.create()
    await it.disable(route_id)
    clock.shift(HOUR_SECONDS)
    await it.publish()
    clock.shift(0)
    await it.enable(route_id)
    await it.read()
    assert it.live == it.expected
    assert await it.recomputed() == it.expected


async def test_an_event_written_early_in_a_long_transaction_keeps_its_time(store: Database, clock: ServerClock) -> None:
    it = Steps(database=store)
    route_id = await it.create()
    await it.disable(route_id)
    clock.shift(-HOUR_SECONDS)
    event = new_event()
    async with domain_events.publishing(store, seconds=60) as publish:
        await publish([event])
        await it.enable(route_id)
        await it.publish()
        await it.read()
    await it.read()
    assert it.live[event.id] == frozenset(), "it happened while the route was disabled"
    assert await it.recomputed() == it.live == it.expected | {event.id: frozenset()}


async def test_an_id_is_one_event_although_the_clock_went_back_over_midnight(
    store: Database, clock: ServerClock
) -> None:
    it, event = Steps(database=store), new_event()
    clock.shift(await _seconds_to_midnight(store) + 2)
    await it.create()
    clock.shift(-HOUR_SECONDS)
    assert await domain_events.publish(store, [event]) == [True]
    (found,) = await domain_events.find(store, event.id)
    assert found.recorded_at.minute == 0, "just after midnight"
    assert await domain_events.publish(store, [event]) == [False]
    await it.read()
    assert await domain_events.publish(store, [event]) == [False]


async def test_events_are_recorded_although_the_clock_had_been_weeks_ahead(store: Database, clock: ServerClock) -> None:
    it = Steps(database=store)
    clock.shift(21 * 24 * HOUR_SECONDS)
    await it.create()
    clock.shift(0)
    await schema.maintain_partitions(store)
    await it.publish()
    await it.read()
    assert it.live == it.expected


async def _seconds_to_midnight(database: Database) -> float:
    async with database.connection() as connection:
        seconds: float = await connection.fetchval(
            "SELECT extract(epoch FROM date_trunc('day', now(), 'UTC') + interval '1 day' - now())::float8"
        )
    return seconds
