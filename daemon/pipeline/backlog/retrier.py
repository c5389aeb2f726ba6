"""Takes up deliveries whose retry is due. The table is the schedule; in memory is only what is due now."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from uuid import UUID

from daemon.core.delivery.answer import Outcome
from daemon.pipeline.scheduling.delivery import Delivery, RouteAndSeq
from daemon.pipeline.scheduling.lanes import Lanes
from daemon.pipeline.wakeup import Wakeup
from eventstore import domain_events
from eventstore.postgres.connect import Database
from eventstore.progress import backlog
from eventstore.progress.recording import AttemptRow

POLL_SECONDS = 1.0
# Not more of one route at a time, so that ten thousand retries of a dead route leave room for others.
ROUTE_LIMIT = 64
PAGE_ROWS = 500
# Not more in memory altogether.
HELD_LIMIT = 4000


class Retrier:
    """`wakeup` says that an earlier retry may have been written, or that somebody wants one now.

    `held` is what has a row in `retry` and is in memory all the same, from when it was taken up (or spilled there while
    its request was under way) until its outcome is written: so long the row says nothing.
    """

    def __init__(self, database: Database, lanes: Lanes, *, shards: Callable[[], list[int]]) -> None:
        self.wakeup = Wakeup()
        self._database = database
        self._lanes = lanes
        self._shards = shards
        self._held: dict[RouteAndSeq, Delivery] = {}
        self._dropped: set[int] = set()

    def hold(self, delivery: Delivery) -> None:
        """Leaves alone the row of a delivery that is under way."""
        self._held[delivery.pair] = delivery

    def recorded(self, rows: list[AttemptRow], deliveries: list[Delivery]) -> None:
        """Forgets deliveries whose outcome is written; what is due then is due again.

        Of a pair that was put in line again since, and taken up already, it is another delivery that is held.
        """
        released = [delivery for delivery in deliveries if self._held.get(delivery.pair) is delivery]
        for delivery in released:
            del self._held[delivery.pair]
        if released or any(row.outcome == Outcome.RETRYING for row in rows):
            self.wakeup.set()

    def drop(self, shard: int) -> None:
        """Forgets what belongs to a shard that is no longer ours."""
        self._dropped.add(shard)
        for delivery in [d for d in self._held.values() if d.shard == shard]:
            delivery.is_withdrawn = True
            del self._held[delivery.pair]

    def replays(self) -> set[UUID]:
        """The replays of which something is in memory and not started."""
        return {delivery.replay for delivery in self._unstarted() if delivery.replay is not None}

    def withdraw(self, replays: Collection[UUID]) -> None:
        """Lets go of what of these replays is not started: its rows are gone."""
        for delivery in [delivery for delivery in self._unstarted() if delivery.replay in replays]:
            delivery.is_withdrawn = True
            del self._held[delivery.pair]

    def seqs(self, route_id: UUID) -> set[int]:
        """What of a route is held."""
        return {seq for held_route, seq in self._held if held_route == route_id}

    async def run_once(self) -> None:
        self.wakeup.clear()
        wait = POLL_SECONDS
        async with self._lanes.intake:
            shards = self._shards()  # within: while it waited, shards may have gone
            if shards:
                await self._take_due(shards)
        if shards:
            next_due = await backlog.next_due(self._database, shards)
            wait = POLL_SECONDS if next_due is None else min(POLL_SECONDS, max(0.01, next_due))
        await self.wakeup.wait(wait)

    async def _take_due(self, shards: list[int]) -> None:
        """Takes up what is due. A route that has its share in memory is passed over, so that others get their turn."""
        self._dropped.clear()
        share = Counter(route_id for route_id, _ in self._held)
        orphans: set[RouteAndSeq] = set()
        while len(self._held) < HELD_LIMIT:
            rows = await backlog.due(
                self._database,
                shards,
                held=self._held.keys() | orphans,
                without=[
                    route for route, count in share.items() if count >= ROUTE_LIMIT and not self._needs_all(route)
                ],
                limit=PAGE_ROWS,
            )
            events = await domain_events.by_seq(self._database, {row.seq: row.recorded_at for row in rows})
            for row in rows:
                event = events.get(row.seq)
                if event is None or row.shard in self._dropped:
                    orphans.add((row.route_id, row.seq))
                elif share[row.route_id] < ROUTE_LIMIT or self._needs_all(row.route_id):
                    share[row.route_id] += 1
                    delivery = Delivery.waiting(row, event, read_at=time.monotonic(), packed=None)
                    self._held[delivery.pair] = delivery
                    self._lanes.enqueue_due(self._lanes.lane(row.route_id, row.shard), delivery)
            if len(rows) < PAGE_ROWS:
                return

    def _unstarted(self) -> Iterator[Delivery]:
        return (delivery for delivery in self._held.values() if not delivery.is_started)

    def _needs_all(self, route_id: UUID) -> bool:
        """Of an ordered route all must come: the others in memory wait for the first one, whenever it falls due."""
        return self._lanes.is_ordered(route_id)
