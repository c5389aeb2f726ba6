"""How requests are counted: by the class of the answer, and by a histogram of how long it took.

Both are in one number, the *cell*: 64 times the class (2 for 2xx, 0 for no answer), and the place of the duration among
BOUNDS_MS. `hookledger.request_cell` in schema.sql computes it and has the same bounds; a test compares them. The bounds
grow by the square root of 2, so that a percentile is off by less than a fifth, whatever the durations are.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

BOUNDS_MS = (
    1, 2, 3, 4, 6, 8, 11, 16, 23, 32, 45, 64, 91, 128, 181, 256, 362, 512, 724, 1024, 1448, 2048, 2896, 4096, 5793,
    8192, 11585, 16384, 23170, 32768, 46341, 65536,
)  # fmt: skip
_CELLS_OF_CLASS = 64
_NO_ANSWER = 0
_SUCCESS = 2


@dataclass(frozen=True, slots=True)
class RequestCounts:
    """Requests by cell."""

    cells: Mapping[int, int] = field(default_factory=dict)

    @classmethod
    def summed(cls, parts: Iterable[Mapping[int, int]]) -> RequestCounts:
        """The requests of all parts."""
        cells: dict[int, int] = {}
        for part in parts:
            for cell, count in part.items():
                cells[cell] = cells.get(cell, 0) + count
        return cls(cells)

    @property
    def total(self) -> int:
        return sum(self.cells.values())

    @property
    def successful(self) -> int:
        return self.by_class.get(_SUCCESS, 0)

    @property
    def failed(self) -> int:
        return self.total - self.successful

    @property
    def unanswered(self) -> int:
        """Requests without an answer: no connection, or none in time."""
        return self.by_class.get(_NO_ANSWER, 0)

    @property
    def by_class(self) -> Mapping[int, int]:
        """The first digit of the answer's status, 0 for none → how many."""
        found: dict[int, int] = {}
        for cell, count in self.cells.items():
            found[cell // _CELLS_OF_CLASS] = found.get(cell // _CELLS_OF_CLASS, 0) + count
        return found

    def percentile_ms(self, share: float) -> float | None:
        """How long the request took that this share of all requests is not slower than; None if there were none."""
        places: dict[int, int] = {}
        for cell, count in self.cells.items():
            places[cell % _CELLS_OF_CLASS] = places.get(cell % _CELLS_OF_CLASS, 0) + count
        left = share * self.total
        for place in sorted(places):
            if left <= places[place]:
                low, high = _range_ms(place)
                return low + (high - low) * left / places[place]
            left -= places[place]
        return None


def cell_of(status_code: int | None, duration_ms: int) -> int:
    """The cell of a request."""
    return (status_code or 0) // 100 * _CELLS_OF_CLASS + bisect_right(BOUNDS_MS, duration_ms)


def _range_ms(place: int) -> tuple[int, int]:
    """The durations at a place, in ms; those beyond the last bound count as if they were at it."""
    low = 0 if place == 0 else BOUNDS_MS[place - 1]
    return low, BOUNDS_MS[place] if place < len(BOUNDS_MS) else low
