"""Lists of deliveries that change meanwhile: a delivery that exists throughout is in the list exactly once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from daemon.deliveries.scanning.merge import DeliveryScan, Merge
from eventstore.queries.deliveries.delivery_log import TOP, FoundDelivery, ListPosition, Stretch
from tests.support.values.deliveries import NOON

ROUTE = UUID(int=1)


def at(second: int) -> FoundDelivery:
    return FoundDelivery(
        ListPosition(NOON + timedelta(seconds=second), second, ROUTE), f"e{second}", "order.create", False
    )


class Moving:
    """Two tables: deliveries move from the first to the second while the list is read."""

    def __init__(self, waiting: Sequence[int], ended: Sequence[int], *, moves: int) -> None:
        self.tables = [set(waiting), set(ended)]
        self.moves = moves
        self.reads = 0

    def scan(self, table: int) -> DeliveryScan:
        async def read(begin: ListPosition, rows: int) -> Stretch:
            self.reads += 1
            there = sorted(
                (at(second) for second in self.tables[table]), key=lambda found: found.position, reverse=True
            )
            below = [found for found in there if found.position < begin][:rows]
            if self.reads == 2:  # both tables were read once
                self.tables[0].discard(self.moves)
                self.tables[1].add(self.moves)
            return Stretch(below, below[-1].position if len(below) == rows else None)

        return read


async def test_what_moves_on_between_two_stretches_is_in_the_list() -> None:
    moving = Moving(waiting=range(10, 20), ended=(1, 2), moves=10)
    merge = Merge([[moving.scan(0)], [moving.scan(1)]], TOP, rows=4)

    listed: list[int] = []
    while not merge.is_over:
        listed += [found.position.seq for found in await merge.advance()]

    assert listed == [*range(19, 9, -1), 2, 1]
