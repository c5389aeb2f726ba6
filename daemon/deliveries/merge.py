"""Several sources of deliveries, each read downwards in stretches of its own, merged into one list.

What lies above the lowest place that all of them have reached is complete: no source can bring anything more there.

A delivery moves on while a list of it is made, from each stage of sources to a later one. So of no part of the list is
a later stage read before an earlier one: it would not have yet what the earlier one has no more.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from eventstore.queries.delivery_log import BOTTOM, FoundDelivery, ListPosition, Stretch

# What is looked at next is so much more than before, up to so many rows.
_GROWTH = 4
_MAX_ROWS = 2000

DeliverySource = Callable[[ListPosition, int], Awaitable[Stretch]]


@dataclass(slots=True)
class _Reader:
    """A source, how far it was read, and whether to its end."""

    source: DeliverySource
    reached: ListPosition
    is_over: bool = False


@dataclass(slots=True)
class Merge:
    """Reads stages of sources downwards. `reached` is the place down to which all of them were read."""

    stages: Sequence[Sequence[DeliverySource]]
    reached: ListPosition
    rows: int
    _readers: list[list[_Reader]] = field(init=False)
    _held: dict[tuple[int, UUID], FoundDelivery] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._readers = [[_Reader(source, self.reached) for source in stage] for stage in self.stages]

    @property
    def is_over(self) -> bool:
        return all(reader.is_over for stage in self._readers for reader in stage)

    async def advance(self) -> list[FoundDelivery]:
        """Reads on where least was read, and gives what is complete by then, downwards, each delivery once."""
        floor = BOTTOM
        for stage in self._readers:
            for reader in stage:
                if not reader.is_over and reader.reached >= self.reached:
                    await self._read(reader, floor)
            floor = max([floor, *(reader.reached for reader in stage)])
        self.rows = min(self.rows * _GROWTH, _MAX_ROWS)
        self.reached = floor
        complete = sorted(
            (found for found in self._held.values() if found.place >= self.reached), key=_place, reverse=True
        )
        for found in complete:
            del self._held[found.place.seq, found.place.route_id]
        return complete

    async def _read(self, reader: _Reader, floor: ListPosition) -> None:
        """One stretch, as far as the stages before were read; what is below that is read again."""
        stretch = await reader.source(reader.reached, self.rows)
        down_to = max(floor, stretch.down_to or BOTTOM)
        for found in stretch.found:
            if down_to <= found.place < reader.reached:
                self._held[found.place.seq, found.place.route_id] = found
        reader.is_over, reader.reached = stretch.down_to is None and floor == BOTTOM, down_to


def _place(found: FoundDelivery) -> ListPosition:
    return found.place
