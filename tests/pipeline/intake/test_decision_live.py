"""Closure: live decisions equal those recomputed from the logs, whatever races against them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest

from daemon import audit, route_state
from daemon.commands import CommandError, Commands, Context
from daemon.core.drafts.route_draft import RouteDraft
from daemon.core.routing.decision import Decision, judge
from daemon.core.routing.index import RouteIndex
from daemon.core.routing.route import Route
from daemon.core.webhook.egress import EgressPolicy
from daemon.core.webhook.payload import EventFilters
from daemon.expressions.evaluator import Evaluator
from daemon.expressions.stored_events import payload_event
from daemon.pipeline.held_shards import Takeover
from daemon.pipeline.intake.decider import Decider
from daemon.pipeline.intake.deferred import DeferredEvents
from daemon.pipeline.intake.seen_types import SeenTypes
from daemon.pipeline.intake.tail.tailer import Tailer
from daemon.pipeline.scheduling.delivery import Delivery
from daemon.pipeline.scheduling.ledger import Ledger
from daemon.telemetry.metrics import Metrics
from eventstore import domain_events
from eventstore.domain_events import ticks
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import VersionConflict
from eventstore.route_log.log import NewRouteEvent, append
from tests.support.audit.events import audited_events, with_payloads
from tests.support.pipeline.process import CONTEXT, PipelineProcess, pipeline_process

TENANTS = ("acme", "globex", "initech", "umbrella")
TYPES = ("order.create", "order.cancel", "subscription.create", "item.change")
PATTERNS = ("*", "order.*", "subscription.*", *TYPES)
ROUTES_EACH = 25

RouteAndSeq = tuple[UUID, int]


@dataclass
class RecordedDecisions:
    """Replaces the lanes and records the deliveries that it is offered."""

    ledger: Ledger
    pairs: list[RouteAndSeq] = field(default_factory=list)

    def offer(self, delivery: Delivery) -> None:
        self.pairs.append(delivery.pair)
        self.ledger.account(delivery)


class Race:
    """Producers, route changes and tickers run concurrently until `events` are published."""

    def __init__(self, url: str, it: PipelineProcess, *, events: int, seed: int) -> None:
        self.it = it
        self.dice = random.Random(seed)
        self.left = events
        self.changes = 0
        self.others = Database(url, pool_size=24)
        self.routes: list[Route] = []

    async def run(self) -> list[RouteAndSeq]:
        await self.others.open()
        try:
            for tenant in TENANTS:
                for _ in range(ROUTES_EACH):
                    self.routes.append(await self.it.route("http://127.0.0.1:9/", *self.subscription(), tenant=tenant))
            return await self._race()
        finally:
            await self.others.close()

    async def _race(self) -> list[RouteAndSeq]:
        ledger = Ledger()
        lanes: Any = RecordedDecisions(ledger)
        database, metrics = self.it.database, Metrics()
        decider = Decider(
            self.it.projection.index,
            ledger,
            lanes,
            metrics,
            SeenTypes(database),
            Evaluator(metrics),
            DeferredEvents(database),
        )
        tailer = Tailer(database, self.it.projection, ledger, decider)
        takeover = Takeover(checkpoints=dict.fromkeys(range(domain_events.SHARDS), 0))
        ledger.adopt(takeover)
        tailer.adopt(takeover)
        reading = [asyncio.ensure_future(forever(run_once)) for run_once in tailer.loops().values()]
        background = [asyncio.ensure_future(forever(self.tick)) for _ in range(2)]
        background += [asyncio.ensure_future(forever(self.command)) for _ in range(3)]
        background += [asyncio.ensure_future(forever(self.slow_change)) for _ in range(2)]
        await asyncio.gather(*(self.produce() for _ in range(12)))
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        while await ticks.make(self.others) is not None:
            pass
        newest = await ticks.newest(self.others)
        tailer.must_ask()
        async with asyncio.timeout(30):
            while tailer.position < newest:
                assert not any(task.done() for task in reading), reading
                await asyncio.sleep(0.01)
        for task in reading:
            task.cancel()
        assert len(set(lanes.pairs)) == len(lanes.pairs), "a pair was decided twice"
        return list(lanes.pairs)

    def subscription(self) -> list[str]:
        return self.dice.sample(PATTERNS, self.dice.randint(1, 3))

    def moment(self) -> datetime | None:
        """The `occurred_at` of an event: none, now, long ago, or in the future."""
        span = self.dice.choice((None, 0.0, 0.05, 0.5, 3.0))
        return None if span is None else datetime.now(UTC) + timedelta(seconds=self.dice.uniform(-span, span))

    async def produce(self) -> None:
        while self.left > 0:
            await self._publish(self.dice.randint(1, 12))

    async def _publish(self, count: int) -> None:
        """A transaction with several events that stays open for a while, and sometimes is rolled back."""
        is_kept = self.dice.random() > 0.15
        if is_kept:
            self.left -= count
        with suppress(_RolledBack):
            async with self.others.transaction(seconds=20) as connection:
                for _ in range(count):
                    await connection.execute(
                        "SELECT hookledger.publish(tenant => $1, type => $2, data => '{}', occurred_at => $3, backfill => $4)",
                        self.dice.choice(TENANTS),
                        self.dice.choice(TYPES),
                        self.moment(),
                        self.dice.random() < 0.02,
                    )
                await asyncio.sleep(self.dice.choice((0, 0, 0.001, 0.01, 0.05, 0.4)))
                if not is_kept:
                    raise _RolledBack

    async def tick(self) -> None:
        await ticks.make(self.others)
        await asyncio.sleep(self.dice.uniform(0, 0.03))

    async def command(self) -> None:
        commands = Commands(
            self.others,
            self.it.keychain,
            EgressPolicy.dev(),
            signing_header="OrderGroove-Signature",
            now=lambda: datetime.now(UTC),
        )
        place = self.dice.randrange(len(self.routes))
        route, kind = self.routes[place], self.dice.random()
        with suppress(CommandError):
            if kind < 0.35:
                await commands.disable(route.tenant, route.id, CONTEXT)
            elif kind < 0.75:
                await commands.enable(route.tenant, route.id, CONTEXT)
            elif kind < 0.98:
                await commands.edit(route.tenant, route.id, {"event_types": tuple(self.subscription())}, CONTEXT)
            else:
                await commands.delete(route.tenant, route.id, CONTEXT)
                draft = RouteDraft(name="another", target_url="http://127.0.0.1:9/", event_types=("*",))
                self.routes[place] = (await commands.create(route.tenant, draft, CONTEXT)).route
            self.changes += 1
        await asyncio.sleep(self.dice.uniform(0, 0.01))

    async def slow_change(self) -> None:
        """A change that holds the lock for a while before it commits, or is rolled back."""
        route = await route_state.route(self.others, self.dice.choice(self.routes).id)
        assert route is not None
        kind = {"enabled": "disabled", "disabled": "enabled"}.get(route.status.value)
        if kind is not None:
            with suppress(VersionConflict, _RolledBack):
                async with self.others.transaction(seconds=20) as connection:
                    await append(connection, change(route, kind))
                    await asyncio.sleep(self.dice.choice((0, 0.005, 0.03)))
                    if self.dice.random() < 0.2:
                        raise _RolledBack
                self.changes += 1
        await asyncio.sleep(self.dice.uniform(0, 0.1))


class _RolledBack(Exception):
    pass


def change(route: Route, kind: str) -> NewRouteEvent:
    return NewRouteEvent(
        route_id=route.id,
        tenant=route.tenant,
        version=route.version + 1,
        type=kind,
        actor="test",
        origin="test",
        body="{}",
    )


async def forever(step: Callable[[], Awaitable[None]]) -> None:
    while True:
        await step()


async def recomputed(it: PipelineProcess) -> tuple[set[RouteAndSeq], set[RouteAndSeq], int]:
    """The deliveries by the audit, those by a model that shares no code with it, and the number of pairs."""
    folded = route_state.FoldedLog(RouteIndex())
    await folded.catch_up(it.database)
    index = folded.index
    due, pairs = set(), 0
    for event in await with_payloads(it.database, await audited_events(it.database)):
        for timeline in index.timelines(event.tenant):
            pairs += 1
            judgement = judge(
                timeline,
                event_type=event.type,
                at=event.event_time,
                backfill=event.backfill,
                passes=EventFilters(payload_event(event)).passes,
                test_route=event.test_route,
            )
            if judgement.decision is Decision.DELIVER:
                due.add((timeline.current.id, event.seq))
    return due, await naive(it), pairs


async def naive(it: PipelineProcess) -> set[RouteAndSeq]:
    """The deliveries by the rules of routing, computed from the raw rows."""
    cuts = []
    for row in await it.rows("SELECT tick, snap::text AS snap, closed_upto FROM hookledger.tick ORDER BY tick"):
        _, xmax, under_way = row["snap"].split(":")
        cuts.append((int(xmax), {int(x) for x in under_way.split(",") if x}, row["closed_upto"]))
    history: dict[str, dict[UUID, list[dict[str, Any]]]] = {}
    for row in await it.rows("SELECT * FROM hookledger.route_event ORDER BY pos"):
        history.setdefault(row["tenant"], {}).setdefault(row["route_id"], []).append(row)
    due = set()
    for event in await it.rows("SELECT *, txid::text::bigint AS xid FROM hookledger.domain_event"):
        closed_upto = next(
            upto for xmax, under_way, upto in cuts if event["xid"] < xmax and event["xid"] not in under_way
        )
        t = min(at for at in (event["occurred_at"], event["recorded_at"], closed_upto) if at is not None)
        for route_id, happenings in history.get(event["tenant"], {}).items():
            is_enabled, types = False, list[str]()
            for lifecycle_type in happenings:
                if lifecycle_type["effective_at"] > t:
                    continue
                body = orjson.loads(lifecycle_type["body"])
                types = body["config"]["event_types"] if "config" in body else types
                is_enabled = body.get(
                    "enabled", {"enabled": True, "edited": is_enabled}.get(lifecycle_type["type"], False)
                )
            if is_enabled and not event["backfill"] and subscribes(types, event["type"]):
                due.add((route_id, event["seq"]))
    return due


def subscribes(types: list[str], kind: str) -> bool:
    return any(p in ("*", kind) or (p.endswith(".*") and kind.startswith(p[:-1])) for p in types)


async def check_closure(url: str, *, events: int, seed: int) -> None:
    async with pipeline_process(url, run=False) as it:
        race = Race(url, it, events=events, seed=seed)
        live = set(await race.run())
        due, model, pairs = await recomputed(it)
        assert pairs >= events * ROUTES_EACH
        assert race.changes > events / 20
        assert pairs / 10 < len(live) < pairs * 9 / 10
        assert len(live ^ due) == 0, f"{len(live ^ due)} of {pairs} live decisions differ from the recomputed ones"
        assert len(live ^ model) == 0, f"{len(live ^ model)} of {pairs} live decisions differ from the model's"


async def test_a_hundred_thousand_live_decisions_equal_the_recomputed_ones(database_url: str) -> None:
    await check_closure(database_url, events=4000, seed=1)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 12))
async def test_two_million_live_decisions_equal_the_recomputed_ones(database_url: str, seed: int) -> None:
    await check_closure(database_url, events=20_000, seed=seed)


async def test_an_event_in_the_microsecond_of_the_enable_is_due_and_in_that_of_the_disable_not(
    database_url: str,
) -> None:
    async with pipeline_process(database_url) as it:
        route = await it.route("http://127.0.0.1:9/")
        await it.disable(route)
        await it.enable(route)
        await it.commands.disable(route.tenant, route.id, Context(actor="test", origin="test"))
        first, second = (await route_state.route(it.database, route.id)).windows  # type: ignore[union-attr] # it exists
        instant = timedelta(microseconds=1)
        assert first.end is not None
        assert second.end is not None
        expected = {}
        for at, verdict in (
            (first.start - instant, "before_creation"),
            (first.start, "suppressed"),
            (first.end - instant, "suppressed"),
            (first.end, "disabled_at_event_time"),
            (second.start - instant, "disabled_at_event_time"),
            (second.start, "suppressed"),
            (second.end - instant, "suppressed"),
            (second.end, "disabled_at_event_time"),
        ):
            (event_id,) = await it.publish(occurred_at=at)
            expected[event_id] = verdict
        await it.until_accounted()
        found = {i: (await audit.explain(it.database, i))[0].verdict.value for i in expected}
        assert found == expected
