"""What a run of seals covers, computed from the rows: for the sealer a run of one, for an audit of many.

Rows are hashed on the event loop, a page at a time: half a millisecond. A thread would have to offer the interpreter's
lock after every few rows, and this process took 39 µs for a delivery with one, and 28 without.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from operator import attrgetter
from typing import Generic, TypeVar

from daemon.core.sealing.canonical import SealedTable, leaf, leaves
from daemon.core.sealing.seal import SealedDay
from daemon.core.sealing.tree import MerkleRoot
from eventstore.route_log.sealed_secrets import Table
from eventstore.seals.covered import ByTransaction, CoveredRows, CoveredRun, CoveredTick, NamedSecret, ReadTicks
from eventstore.seals.stored import SealMark

_Item = TypeVar("_Item")

_SECRET_TABLES = {Table.KEYS: SealedTable.KEY, Table.HEADERS: SealedTable.HEADERS}
_BY_TRANSACTION = {
    SealedTable.ATTEMPT: ByTransaction.ATTEMPT,
    SealedTable.RESEND: ByTransaction.RESEND,
    SealedTable.REPLAY: ByTransaction.REPLAY,
    SealedTable.REPLAY_END: ByTransaction.REPLAY_END,
    SealedTable.LOSS: ByTransaction.LOSS,
    SealedTable.TOKEN: ByTransaction.TOKEN,
    SealedTable.TOKEN_END: ByTransaction.TOKEN_END,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SealContents:
    """What the tables hold of one seal now: of each of `days` by the day, even if a seal of its form covers none. The
    secrets and the ticks are those that are there.
    """

    days: Mapping[SealedTable, tuple[SealedDay, ...]]
    ticks: tuple[CoveredTick, ...]
    ticks_root: bytes
    secrets: tuple[NamedSecret, ...]
    keys_root: bytes
    signatures: int


class DayTrees:
    """The trees of a run of seals: one for each seal, table and day. It holds a hash for each bit of their sizes."""

    def __init__(self) -> None:
        self._trees: dict[tuple[int, SealedTable], dict[date, MerkleRoot]] = {}

    async def take(self, table: SealedTable, pages: AsyncIterator[list[CoveredRun]]) -> None:
        """Hashes all these rows."""
        async for page in pages:
            for seal, day, rows in page:
                tree = self._trees.setdefault((seal, table), {}).setdefault(day, MerkleRoot())
                tree.extend(leaves(table, rows))

    def days(self, seal: int, table: SealedTable) -> tuple[SealedDay, ...]:
        """The days of one seal, in order."""
        trees = self._trees.get((seal, table), {})
        return tuple(SealedDay(day=day, rows=trees[day].size, root=trees[day].value) for day in sorted(trees))


class _Parts(Generic[_Item]):
    """Numbered items in order, as the seals of a run part them, with a tree for each. `ends` are the last numbers."""

    def __init__(
        self, ends: Sequence[int], number_of: Callable[[_Item], int], leaf_of: Callable[[_Item], bytes]
    ) -> None:
        self._ends = ends
        self._number_of = number_of
        self._leaf_of = leaf_of
        self._items: list[list[_Item]] = [[] for _ in ends]
        self._trees = [MerkleRoot() for _ in ends]

    def add(self, page: Iterable[_Item]) -> None:
        """Appends the next ones, none of which is behind the last end."""
        for place, group in groupby(page, key=lambda item: bisect_left(self._ends, self._number_of(item))):
            items = list(group)
            self._items[place] += items
            self._trees[place].extend(map(self._leaf_of, items))

    def of(self, place: int) -> tuple[tuple[_Item, ...], bytes]:
        """The items of a seal, by its place in the run, and their root."""
        return tuple(self._items[place]), self._trees[place].value


async def contents(
    rows: CoveredRows, *, before: SealMark, marks: Sequence[SealMark], restored: int
) -> dict[int, SealContents]:
    """What a run of seals covers, by their numbers. `before` is the seal before the run.

    The run is of one form, and all of the present lineage or all of earlier ones, of which `restored` is the number of
    the last seal, 0 if there is none.
    """
    last = marks[-1]
    read = ReadTicks()
    ticks = _Parts[CoveredTick]([mark.tick for mark in marks], attrgetter("tick"), tick_leaf)
    async for page in rows.ticks(after=before.tick, upto=last.tick):
        ticks.add(page)
        for tick in page:
            read.add(tick)
    trees = DayTrees()
    await trees.take(SealedTable.EVENT, rows.events(before=before, marks=marks, ticks=read, restored=restored))
    for table, read_by in _BY_TRANSACTION.items():
        await trees.take(table, rows.by_transaction(read_by, before=before, marks=marks, restored=restored))
    secrets = _Parts[NamedSecret]([mark.route_pos for mark in marks], attrgetter("pos"), secret_leaf)
    async for named in rows.secrets(after=before.route_pos, upto=last.route_pos):
        secrets.add(named)
    signed_before, signed = await rows.signatures(after=before.route_pos, upto=last.route_pos)
    found: dict[int, SealContents] = {}
    for place, mark in enumerate(marks):
        own_ticks, ticks_root = ticks.of(place)
        own_secrets, keys_root = secrets.of(place)
        found[mark.n] = SealContents(
            days={table: trees.days(mark.n, table) for table in (SealedTable.EVENT, *_BY_TRANSACTION)},
            ticks=own_ticks,
            ticks_root=ticks_root,
            secrets=own_secrets,
            keys_root=keys_root,
            signatures=signed_before + bisect_right(signed, mark.route_pos),
        )
    return found


def tick_leaf(tick: CoveredTick) -> bytes:
    """The leaf of a tick."""
    values = (tick.tick, tick.snap, tick.at, tick.route_pos, tick.closed_upto, tick.touched)
    return leaf(SealedTable.TICK, values)


def secret_leaf(secret: NamedSecret) -> bytes:
    """The leaf of a key, or of a set of headers. Its ciphertext changes when master keys are exchanged, and opens only
    if it is the one that was sealed for this route and id.
    """
    return leaf(_SECRET_TABLES[secret.table], (secret.route_id, secret.item, secret.created_at))
