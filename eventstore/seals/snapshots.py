"""Tells which seal covers a row: the first of many snapshots that shows the transaction of the row.

That is what `hookledger.tick_of` computes in SQL for one transaction, here for many.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable


class SnapshotRow:
    """Numbered snapshots, in the order in which they were taken, in text form `xmin:xmax:xip,…`."""

    def __init__(self, snapshots: Iterable[tuple[int, str]] = ()) -> None:
        self._numbers: list[int] = []
        self._ends: list[int] = []
        self._under_way: list[frozenset[int]] = []
        for number, snap in snapshots:
            self.add(number, snap)

    def add(self, number: int, snap: str) -> None:
        """Appends the next one."""
        _, end, under_way = snap.split(":")
        self._numbers.append(number)
        self._ends.append(int(end))
        self._under_way.append(frozenset(map(int, under_way.split(","))) if under_way else frozenset())

    def first_to_show(self, txid: int) -> int | None:
        """The number of the first snapshot that shows the transaction, None if none does."""
        place = bisect_right(self._ends, txid)
        while place < len(self._ends):
            if txid not in self._under_way[place]:
                return self._numbers[place]
            place += 1
        return None
