"""Several scans of deliveries, each read downwards in stretches of its own, merged into one list.

The list is complete down to the lowest position that all scans have reached: no scan has anything more above it.

While a list is made, deliveries move from one stage of scans to a later one. So every part of the list is read from
an earlier stage first and from a later one afterwards. In the other order a delivery that moves in between would be
found in neither.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from eventstore.queries.deliveries.delivery_log import BOTTOM, FoundDelivery, ListPosition, Stretch

# Each step reads this many times as many rows as the one before, up to the maximum.
_GROWTH = 4
_MAX_ROWS = 2000

DeliveryScan = Callable[[ListPosition, int], Awaitable[Stretch]]


@dataclass(slots=True)
class _Reader:
    """A scan, the position down to which it was read, and whether that is its end."""

    scan: DeliveryScan
    reached: ListPosition
    is_over: bool = False


@dataclass(slots=True)
class Merge:
    """Reads stages of scans downwards. `reached` is the position down to which all of them were read."""

    stages: Sequence[Sequence[DeliveryScan]]
    reached: ListPosition
    rows: int
    _readers: list[list[_Reader]] = field(init=False)
    _held: dict[tuple[int, UUID], FoundDelivery] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._readers = [[_Reader(scan, self.reached) for scan in stage] for stage in self.stages]

    @property
    def is_over(self) -> bool:
        return all(reader.is_over for stage in self._readers for reader in stage)

    async def advance(self) -> list[FoundDelivery]:
        """Reads on with the scans that have reached least. Returns what is complete then, downwards, each once."""
        floor = BOTTOM
        for stage in self._readers:
            for reader in stage:
                if not reader.is_over and reader.reached >= self.reached:
                    await self._read(reader, floor)
            floor = max([floor, *(reader.reached for reader in stage)])
        self.rows = min(self.rows * _GROWTH, _MAX_ROWS)
        self.reached = floor
        complete = sorted(
            (found for found in self._held.values() if found.position >= self.reached), key=_position, reverse=True
        )
        for found in complete:
            del self._held[found.position.seq, found.position.route_id]
        return complete

    async def _read(self, reader: _Reader, floor: ListPosition) -> None:
        """Reads one stretch. What is below `floor`, which the earlier stages have reached, will be read again."""
        stretch = await reader.scan(reader.reached, self.rows)
        down_to = max(floor, stretch.down_to or BOTTOM)
        for found in stretch.found:
            if down_to <= found.position < reader.reached:
                self._held[found.position.seq, found.position.route_id] = found
        reader.is_over, reader.reached = stretch.down_to is None and floor == BOTTOM, down_to


def _position(found: FoundDelivery) -> ListPosition:
    return found.position
