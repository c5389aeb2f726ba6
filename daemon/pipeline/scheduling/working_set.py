"""The working set: what of each route is in memory, and not only in the tables.

A pair of route and event is in it from the moment at which it is decided or taken up from a table until a row with its
outcome is durable, or until it is parked, withdrawn or lost with its shard. So the tables can be read and changed
without touching what is in memory: the retrier passes over rows that are in the set, and a suppression leaves them to
the gate before the attempt.

`moving` is held by those who move deliveries from the tables into memory, and by those who suppress them in the
tables. Without it a row could be read, then suppressed, then sent.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator
from uuid import UUID

from daemon.pipeline.scheduling.delivery import Delivery


class WorkingSet:
    """Deliveries by route and seq, and seqs of rows that were read and have no `Delivery` yet. `size_bytes` is what the
    events of the deliveries take, those of several routes counted for each.
    """

    def __init__(self) -> None:
        self.moving = asyncio.Lock()
        self.size_bytes = 0
        self._deliveries: dict[UUID, dict[int, Delivery]] = {}
        self._read: dict[UUID, set[int]] = {}

    def add(self, delivery: Delivery) -> None:
        """Notes a delivery that was decided or taken up."""
        of_route, seq = self._deliveries.get(delivery.route_id), delivery.event.seq
        if of_route is None:
            of_route = self._deliveries[delivery.route_id] = {}
        if seq not in of_route:
            self.size_bytes += delivery.size_bytes
        of_route[seq] = delivery

    def discard(self, delivery: Delivery) -> None:
        """Forgets a delivery. If the pair was taken up again since, the newer delivery stays."""
        self.discard_all((delivery,))

    def discard_all(self, deliveries: Iterable[Delivery]) -> None:
        """The same of several."""
        routes = self._deliveries
        for delivery in deliveries:
            route_id, seq = delivery.route_id, delivery.event.seq
            of_route = routes.get(route_id)
            if of_route is not None and of_route.get(seq) is delivery:
                del of_route[seq]
                self.size_bytes -= delivery.size_bytes
                if not of_route:
                    del routes[route_id]

    def read(self, route_id: UUID, seqs: Collection[int]) -> None:
        """Notes which of a route's rows are in hand without a delivery; replaces what was noted before."""
        if seqs:
            self._read[route_id] = set(seqs)
        else:
            self._read.pop(route_id, None)

    def has(self, route_id: UUID) -> bool:
        """True if a delivery of the route is in memory, also one whose outcome is being written."""
        return route_id in self._deliveries

    def seqs(self, route_id: UUID) -> set[int]:
        """All of a route that is in memory."""
        return self._read.get(route_id, set()) | self._deliveries.get(route_id, {}).keys()

    def with_retry_row(self) -> Iterator[Delivery]:
        """Deliveries with a row in `retry`, which says nothing until their outcome is written."""
        for of_route in self._deliveries.values():
            for delivery in of_route.values():
                if delivery.had_retry_row:
                    yield delivery

    def drop(self, shard: int) -> None:
        """Forgets all of a shard."""
        self.discard_all([d for of_route in self._deliveries.values() for d in of_route.values() if d.shard == shard])
