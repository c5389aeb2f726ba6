"""Decides events, and offers the deliveries to their lanes.

What is cheap is decided at once, on the event loop. An event whose filters take more than `Tunables.loop_steps`, or
that is too large to be parsed here, is deferred: `run_once` has its filters evaluated by a process of their own. Where
a filter is evaluated does not change its result (daemon.core.webhook.expression).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from functools import partial

from daemon.core.routing.decision import Decision, FilterTest, eligible
from daemon.core.routing.index import RouteIndex
from daemon.core.routing.route import Route
from daemon.core.webhook.expression import TooHeavy
from daemon.core.webhook.payload import EventFilters, FilterResult
from daemon.expressions.evaluator import Evaluator
from daemon.expressions.stored_events import payload_event
from daemon.pipeline.intake.cursors import ShardCursor
from daemon.pipeline.intake.deferred import DeferredEvent, DeferredEvents, NoRoom
from daemon.pipeline.intake.seen_types import SeenTypes
from daemon.pipeline.scheduling.delivery import Delivery, RouteAndSeq
from daemon.pipeline.scheduling.lanes import Lanes
from daemon.pipeline.scheduling.ledger import Ledger
from daemon.pipeline.tunables import DEFAULTS, Tunables
from daemon.telemetry.metrics import Metrics
from eventstore.domain_events.events import StoredEvent
from eventstore.domain_events.ticks import Tick


class Decider:
    """`decide` decides or defers an event, `run_once` decides a deferred one; `on_decided` is called then.

    `accounted` are, for each shard, pairs that need no delivery, because its last owner has written them down.
    """

    def __init__(
        self,
        index: RouteIndex,
        ledger: Ledger,
        lanes: Lanes,
        metrics: Metrics,
        seen_types: SeenTypes,
        evaluator: Evaluator,
        deferred: DeferredEvents,
        *,
        tunables: Tunables = DEFAULTS,
    ) -> None:
        self.on_decided: Callable[[], None] = _nothing
        self.accounted: dict[int, AbstractSet[RouteAndSeq]] = {}
        self.deferred = deferred
        self._index = index
        self._ledger = ledger
        self._lanes = lanes
        self._metrics = metrics
        self._seen_types = seen_types
        self._evaluator = evaluator
        self._tunables = tunables
        self._filters: EventFilters | None = None
        self._filtering_since = 0.0

    def decide(self, event: StoredEvent, cut: Tick, cursor: ShardCursor) -> None:
        """Decides an event of a cut now, or defers it. This is on the hot path."""
        if not self.deferred.holds_up(event.tenant) and self._decide_here(event, cut):
            return
        self._ledger.defer(event.shard, cut.tick)
        self.deferred.add(event, cut, cursor)

    async def run_once(self) -> None:
        """Decides the oldest deferred event of the next tenant. Raises StoreUnavailable; the event stays deferred."""
        async with self.deferred.turn() as deferred:
            if deferred.is_forgotten():
                await asyncio.sleep(0)  # there may be thousands
                return
            await self._room_for(deferred)
            event = await self.deferred.load(deferred)
            if event is not None and not deferred.is_forgotten() and not self._decide_here(event, deferred.cut):
                filters = EventFilters(payload_event(event))
                filters.results |= await self._evaluator.filter_results(
                    event.tenant, payload_event(event), self._asked(event)
                )
                if not deferred.is_forgotten():
                    self._filters = filters
                    self._conclude(event, deferred.cut, filters.passes)
            if not deferred.is_forgotten():
                self._ledger.decided(deferred.shard, deferred.cut.tick)
                self.on_decided()

    async def _room_for(self, deferred: DeferredEvent) -> None:
        """Waits for room in memory, but not for long: few tenants have a turn at a time, and a tenant whose receivers
        hang has none for as long as they do. Raises NoRoom.
        """
        if not self._ledger.has_room_of(deferred.shard, deferred.tenant):
            try:
                async with asyncio.timeout(self._tunables.room_seconds):
                    await self._ledger.room_of(deferred.shard, deferred.tenant)
            except TimeoutError:
                raise NoRoom from None

    def _decide_here(self, event: StoredEvent, cut: Tick) -> bool:
        """Decides an event if its filters are cheap; False if they are not."""
        self._begin()
        try:
            self._conclude(event, cut, partial(self._passes, event))
        except TooHeavy:
            return False
        finally:
            if self._filters is not None:
                self._metrics.expression_seconds.observe(time.perf_counter() - self._filtering_since)
        return True

    def _begin(self) -> None:
        self._filters = None

    def _passes(self, event: StoredEvent, expression: str) -> bool:
        """True if a filter lets an event through, which is parsed when the first one asks."""
        if self._filters is None:
            self._filtering_since = time.perf_counter()
            self._filters = EventFilters(payload_event(event), allowance=self._tunables.loop_allowance())
        return self._filters.passes(expression)

    def _asked(self, event: StoredEvent) -> list[str]:
        """The filters that the decision about an event asks, each once."""
        asked: dict[str, None] = {}

        def note(expression: str) -> bool:
            asked[expression] = None
            return True

        eligible(
            self._index,
            tenant=event.tenant,
            event_type=event.type,
            at=event.event_time,
            backfill=event.backfill,
            passes=note,
            on_skip=_ignore,
            test_route=event.test_route,
        )
        return list(asked)

    def _conclude(self, event: StoredEvent, cut: Tick, passes: FilterTest) -> None:
        """Decides an event. `self._filters` are its filters, None as long as none was asked."""
        at = event.event_time
        skipped: list[Decision] = []  # counted once all is decided: a heavy filter may stop this half-way
        routes = eligible(
            self._index,
            tenant=event.tenant,
            event_type=event.type,
            at=at,
            backfill=event.backfill,
            passes=passes,
            on_skip=skipped.append,
            test_route=event.test_route,
        )
        filters = self._filters
        if event.occurred_at is not None and event.occurred_at > event.recorded_at:
            self._metrics.skewed((event.occurred_at - event.recorded_at).total_seconds())
        self._seen_types.note(event.type)
        if event.test_route is None:
            for decision in skipped:
                self._metrics.decided(decision)
            if routes:
                self._metrics.decided(Decision.DELIVER, len(routes))
        if filters is not None:
            self._metrics.filtered(filters.results.values())
        read_at, accounted = time.monotonic(), self.accounted.get(event.shard)
        for route in routes:
            if accounted and (route.id, event.seq) in accounted:
                continue
            delivery = Delivery(route.id, event, at, cut.tick, read_at)
            if filters is not None:
                delivery.filter_result = _known(route, filters.results)
            self._ledger.add(delivery)
            self._lanes.offer(delivery)


def _known(route: Route, results: Mapping[str, FilterResult]) -> tuple[str, FilterResult] | None:
    """The route's present filter and its result, if that was found out."""
    text = route.config.payload.filter
    result = None if text is None else results.get(text)
    return None if text is None or result is None else (text, result)


def _ignore(_decision: Decision) -> None:
    """Counted when the event is decided."""


def _nothing() -> None:
    """Nobody asks."""
