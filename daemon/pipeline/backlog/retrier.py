"""Takes up deliveries whose retry is due. The table is the schedule; in memory is only what is due now.

A row of a delivery that is in memory says nothing: the delivery decides what becomes of it. So rows of the working set
are passed over, from when they are taken up (or written while a request is under way) until their outcome is written.

Every route has a share of the places in memory, and none in which a delivery would only wait: a route with a rate has
as many as it may send until the next look, and all receivers that are slow have half of the places together, and so
have all ordered routes. A tenant has three quarters of what the others leave at most, of all and of those for slow
receivers. Else the routes of one tenant could take all of them, and nobody else's retries would be sent.
The share of an ordered route is filled from the front of its order, and its first one has a place in any case: the
others wait for that one. While the events in memory are too large altogether, each route gets one delivery.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from operator import attrgetter
from uuid import UUID

from daemon.core.delivery.answer import Outcome
from daemon.core.routing.index import RouteIndex
from daemon.pipeline.held_shards import HeldShards, Takeover
from daemon.pipeline.scheduling.delivery import Delivery, RouteAndSeq
from daemon.pipeline.scheduling.lanes import Lanes
from daemon.pipeline.scheduling.working_set import WorkingSet
from daemon.pipeline.steady_clock import SteadyClock
from daemon.pipeline.tunables import DEFAULTS, Tunables
from daemon.pipeline.wakeup import Wakeup
from eventstore import domain_events
from eventstore.domain_events.events import READ_BYTES
from eventstore.postgres.connect import Database
from eventstore.progress import backlog
from eventstore.progress.backlog import WaitingDelivery
from eventstore.progress.rows import AttemptRow

_had_retry_row, _outcome = attrgetter("had_retry_row"), attrgetter("outcome")


class _Places:
    """The places in memory: who has how many, and which routes may have more."""

    def __init__(
        self,
        lanes: Lanes,
        working_set: WorkingSet,
        held: Iterable[RouteAndSeq],
        is_ordered: Callable[[UUID], bool],
        tenant_of: Callable[[UUID], str],
        tunables: Tunables,
    ) -> None:
        self._lanes = lanes
        self._working_set = working_set
        self._is_ordered = is_ordered
        self._tenant_of = tenant_of
        self._tunables = tunables
        self._now = time.monotonic()
        self._bytes = working_set.size_bytes
        self._share = Counter(route_id for route_id, _ in held)
        self._of_tenant = Counter[str]()
        for route_id, count in self._share.items():
            self._of_tenant[tenant_of(route_id)] += count
        self._ordered = sum(count for route_id, count in self._share.items() if is_ordered(route_id))
        self._others = self._share.total() - self._ordered
        self._slow_of = Counter[str]()
        for route_id, count in self._share.items():
            if self._is_slow(route_id):
                self._slow_of[tenant_of(route_id)] += count
        self._slow = self._slow_of.total()

    @property
    def are_free(self) -> bool:
        return self._free > 0

    @property
    def _free(self) -> int:
        # Ordered routes may have more in memory than they have places, because of their first ones.
        taken = self._others + min(self._ordered, part_of_places(self._tunables))
        return self._tunables.retry_held_limit - taken

    @property
    def without_tenants(self) -> list[str]:
        """The tenants that may have no more."""
        return [tenant for tenant in self._of_tenant if self._has_share(tenant)]

    @property
    def without(self) -> set[UUID]:
        """The routes that may have no more, as far as that is known before anything of them is read."""
        routes = [*self._share, *(lane.route_id for lane in self._lanes if lane.pace is not None)]
        found = {route for route in routes if not self._is_ordered(route) and not self._may_have_more(route)}
        full = self._tenants_without_slow()
        if full is None or full:
            # A hundred thousand may be slow: no more is asked of each than what it has at hand.
            found.update(
                lane.route_id
                for lane in self._lanes
                if lane.is_slow and not lane.is_ordered and (full is None or lane.tenant in full)
            )
        return found

    def _tenants_without_slow(self) -> set[str] | None:
        """The tenants of which no slow receiver may have more; None for all of them."""
        if self._slow >= part_of_places(self._tunables):
            return None
        return {tenant for tenant in self._slow_of if self._has_share_of_slow(tenant)}

    def take(self, row: WaitingDelivery, *, in_any_case: bool = False) -> bool:
        """Takes a place for one more of a route; False if it may have none."""
        route_id = row.route_id
        if not in_any_case and not self._may_have_more(route_id):
            return False
        self._bytes += row.size_bytes
        self._share[route_id] += 1
        self._of_tenant[self._tenant_of(route_id)] += 1
        if self._is_ordered(route_id):
            self._ordered += 1
        else:
            self._others += 1
            if self._is_slow(route_id):
                self._slow += 1
                self._slow_of[self._tenant_of(route_id)] += 1
        return True

    def _may_have_more(self, route_id: UUID) -> bool:
        tunables, lane, share = self._tunables, self._lanes.known(route_id), self._share[route_id]
        tenant = self._tenant_of(route_id)
        if self._bytes >= tunables.max_bytes and (share or self._working_set.has(route_id)):
            return False
        if self._has_share(tenant):
            return False
        if self._is_ordered(route_id):
            has_places = self.are_free and self._ordered < part_of_places(tunables)
            return has_places and share < tunables.retry_route_limit
        most = tunables.retry_route_limit
        if lane is not None:
            if lane.is_slow and self._has_share_of_slow(tenant):
                return False
            most = lane.due_places(self._now, most=most, seconds=tunables.paced_seconds)
        return share < most

    def _has_share(self, tenant: str) -> bool:
        return self._is_share(self._of_tenant[tenant], self._free)

    def _has_share_of_slow(self, tenant: str) -> bool:
        free = part_of_places(self._tunables) - self._slow
        return free <= 0 or self._is_share(self._slow_of[tenant], free)

    def _is_share(self, own: int, free: int) -> bool:
        """True if a tenant that has so many places leaves the free ones to the others."""
        return own >= max(self._tunables.retry_route_limit, (free + own) * self._tunables.retry_tenant_part)

    def _is_slow(self, route_id: UUID) -> bool:
        lane = self._lanes.known(route_id)
        return lane is not None and lane.is_slow and not self._is_ordered(route_id)


def part_of_places(tunables: Tunables) -> int:
    """How many places the retries of slow receivers may have together, and those of ordered routes."""
    return max(1, tunables.retry_held_limit // 2)


class Retrier:
    """`wakeup` says that an earlier retry may have been written, or that somebody wants one now."""

    def __init__(
        self,
        database: Database,
        index: RouteIndex,
        lanes: Lanes,
        shards: HeldShards,
        working_set: WorkingSet,
        clock: SteadyClock,
        tunables: Tunables = DEFAULTS,
    ) -> None:
        self.wakeup = Wakeup()
        self._database = database
        self._index = index
        self._lanes = lanes
        self._shards = shards
        self._working_set = working_set
        self._clock = clock
        self._tunables = tunables
        self._dropped: set[int] = set()
        # Until when nobody has to look: nothing waited at the last look, and nothing was recorded since it began.
        self._empty_until = -math.inf
        self._has_recorded = False

    def recorded(self, rows: list[AttemptRow], deliveries: list[Delivery]) -> None:
        """Hears of outcomes that are written. Rows of `retry` that were passed over may count again, or be new."""
        self._empty_until, self._has_recorded = -math.inf, True
        if any(map(_had_retry_row, deliveries)) or Outcome.RETRYING.value in map(_outcome, rows):
            self.wakeup.set()

    def adopt(self, takeover: Takeover) -> None:  # noqa: ARG002 - a ShardMember's signature
        """Looks for what is due in these shards."""
        self.wakeup.set()

    async def part(self, shards: Collection[int]) -> None:
        """Forgets these shards: what waits of them lies in the table."""
        for shard in shards:
            self.drop(shard)

    def drop(self, shard: int) -> None:
        """Takes up nothing of this shard that is being read at the moment."""
        self._dropped.add(shard)

    def waiting_replays(self) -> set[UUID]:
        """The replays of which something is in memory and not started."""
        held = self._working_set.with_retry_row()
        return {delivery.replay for delivery in held if delivery.is_waiting and delivery.replay is not None}

    def withdraw(self, replays: Collection[UUID]) -> None:
        """Lets go of what of these replays is not started: its rows are gone."""
        for delivery in list(self._working_set.with_retry_row()):
            if delivery.is_waiting and delivery.replay in replays:
                self._lanes.withdraw(delivery)

    async def run_once(self) -> None:
        wait = self._tunables.retry_poll_seconds
        if self.wakeup.is_set or time.monotonic() >= self._empty_until:
            self.wakeup.clear()
            self._empty_until, self._has_recorded = -math.inf, False
            async with self._working_set.moving:
                shards = self._shards.held  # within: while it waited, shards may have gone
                if shards:
                    await self._take_due(shards)
            if shards:
                waiting = await backlog.waiting(self._database, shards)
                if waiting.is_empty and not self._has_recorded:
                    self._empty_until = time.monotonic() + self._tunables.retry_empty_seconds
                if waiting.next_due_seconds is not None:
                    wait = min(self._tunables.retry_poll_seconds, max(0.01, waiting.next_due_seconds))
        await self.wakeup.wait(wait)

    async def _take_due(self, shards: list[int]) -> None:
        """Takes up what is due, page by page. A route that has its share in memory leaves the rest to others."""
        self._dropped.clear()
        self._let_go()
        held = {delivery.pair for delivery in self._working_set.with_retry_row()}
        places = _Places(self._lanes, self._working_set, held, self._is_ordered, self._tenant_of, self._tunables)
        ordered: set[UUID] = set()
        refused: set[UUID] = set()
        while places.are_free:
            rows = await backlog.due(
                self._database,
                shards,
                held=held,
                without=places.without | ordered | refused,
                without_tenants=places.without_tenants,
                limit=self._tunables.retry_page_rows,
                latest=self._clock.latest(),
            )
            ordered.update(row.route_id for row in rows if self._is_ordered(row.route_id))
            refused |= await self._take_up([row for row in rows if row.route_id not in ordered], held, places)
            if len(rows) < self._tunables.retry_page_rows:
                break
        ordered.update(route_id for route_id, _ in held if self._is_ordered(route_id))
        if ordered:
            await self._take_first(ordered, held, places)

    def _let_go(self) -> None:
        """Lets go of what routes have beyond their places since they got a rate, or their receivers turned out slow."""
        waiting = [lane for lane in self._lanes.active.values() if lane.due and not lane.is_ordered]
        now, tunables = time.monotonic(), self._tunables
        for lane in waiting:
            keep = lane.due_places(now, most=tunables.retry_route_limit, seconds=tunables.paced_seconds)
            if len(lane.due) > keep:
                self._lanes.let_go_due(lane, keep=keep)
        slow = [lane for lane in waiting if lane.is_slow and lane.due]
        left = part_of_places(tunables)
        if sum(len(lane.due) for lane in slow) > left:
            each = max(1, left // len(slow))
            for lane in slow:
                self._lanes.let_go_due(lane, keep=min(each, left))
                left -= len(lane.due)

    async def _take_first(self, ordered: Collection[UUID], held: set[RouteAndSeq], places: _Places) -> None:
        """Takes up what is due of the first retries of ordered routes, each in the order of its events: of every route
        the first one, and more as far as there are places.
        """
        first = await backlog.first_of_routes(
            self._database,
            ordered,
            each=self._tunables.retry_route_limit,
            limit=len(ordered) + part_of_places(self._tunables),
            latest=self._clock.latest(),
        )
        chosen, seen, refused = list[WaitingDelivery](), set[UUID](), set[UUID]()
        for row in first:
            is_first = row.route_id not in seen
            seen.add(row.route_id)
            if (row.route_id, row.seq) in held or row.route_id in refused:
                continue
            if places.take(row, in_any_case=is_first):
                chosen.append(row)
            else:
                refused.add(row.route_id)
        await self._queue(chosen)

    async def _take_up(self, rows: Iterable[WaitingDelivery], held: set[RouteAndSeq], places: _Places) -> set[UUID]:
        """Queues these rows as far as there are places for their routes; `held` grows by them. Returns the routes for
        which there were not enough.
        """
        chosen, refused = [], set()
        for row in rows:
            if places.take(row):
                held.add((row.route_id, row.seq))
                chosen.append(row)
            else:
                refused.add(row.route_id)
        await self._queue(chosen)
        return refused

    async def _queue(self, chosen: Iterable[WaitingDelivery]) -> None:
        for rows in _by_bytes(chosen):
            events = await domain_events.by_seq(self._database, {row.seq: row.recorded_at for row in rows})
            for row in rows:
                event = events.get(row.seq)
                if event is not None and row.shard not in self._dropped:
                    delivery = Delivery.waiting(row, event, read_at=time.monotonic(), packed=None)
                    self._lanes.take_up_due(self._lanes.lane(row.route_id, row.shard), delivery)

    def _is_ordered(self, route_id: UUID) -> bool:
        timeline = self._index.timeline(route_id)
        return timeline is not None and timeline.current.config.ordered

    def _tenant_of(self, route_id: UUID) -> str:
        timeline = self._index.timeline(route_id)
        return "" if timeline is None else timeline.current.tenant


def _by_bytes(rows: Iterable[WaitingDelivery]) -> Iterator[list[WaitingDelivery]]:
    """The same rows in parts that are read at a time: of READ_BYTES, or one row that is larger."""
    part, size_bytes = list[WaitingDelivery](), 0
    for row in rows:
        if part and size_bytes + row.size_bytes > READ_BYTES:
            yield part
            part, size_bytes = [], 0
        part.append(row)
        size_bytes += row.size_bytes
    if part:
        yield part
