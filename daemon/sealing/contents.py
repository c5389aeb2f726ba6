"""What a run of seals covers, computed from the rows: for the sealer a run of one, for an audit of many.

Rows are hashed on the event loop, a page at a time: half a millisecond. A thread would have to offer the interpreter's
lock after every few rows, and this process took 39 µs for a delivery with one, and 28 without.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from typing import TypeVar

from daemon.core.sealing.canonical import SealedTable, leaf, leaves
from daemon.core.sealing.seal import SealedDay
from daemon.core.sealing.tree import MerkleRoot, root_of
from eventstore.route_log.sealed_secrets import Table
from eventstore.seals.covered import CoveredRow, CoveredRows, CoveredTick, NamedSecret
from eventstore.seals.stored import SealMark

_Item = TypeVar("_Item")

_SECRET_TABLES = {Table.KEYS: SealedTable.KEY, Table.HEADERS: SealedTable.HEADERS}


@dataclass(frozen=True, slots=True, kw_only=True)
class SealContents:
    """What the tables hold of one seal now. The secrets and the ticks are those that are there."""

    events: tuple[SealedDay, ...]
    attempts: tuple[SealedDay, ...]
    ticks: tuple[CoveredTick, ...]
    secrets: tuple[NamedSecret, ...]
    signatures: int

    @property
    def ticks_root(self) -> bytes:
        return root_of(tick_leaf(tick) for tick in self.ticks)

    @property
    def keys_root(self) -> bytes:
        return root_of(secret_leaf(secret) for secret in self.secrets)


class DayTrees:
    """The trees of a run of seals: one for each seal, table and day. It holds a hash for each bit of their sizes."""

    def __init__(self) -> None:
        self._trees: dict[tuple[int, SealedTable], dict[date, MerkleRoot]] = {}

    async def take(self, table: SealedTable, pages: AsyncIterator[list[CoveredRow]]) -> None:
        """Hashes all these rows."""
        async for page in pages:
            self._add(table, page)

    def days(self, seal: int, table: SealedTable) -> tuple[SealedDay, ...]:
        """The days of one seal, in order."""
        trees = self._trees.get((seal, table), {})
        return tuple(SealedDay(day=day, rows=trees[day].size, root=trees[day].value) for day in sorted(trees))

    def _add(self, table: SealedTable, page: Sequence[CoveredRow]) -> None:
        for (seal, day), rows in groupby(page, key=lambda row: (row.seal, row.at.date())):
            tree = self._trees.setdefault((seal, table), {}).setdefault(day, MerkleRoot())
            tree.extend(leaves(table, [row.values for row in rows]))


async def contents(
    rows: CoveredRows, *, before: SealMark, marks: Sequence[SealMark], origin: str
) -> dict[int, SealContents]:
    """What a run of seals covers, by their numbers. `before` is the seal before the run.

    The run is all of the present lineage, whose origin is given, or all of earlier ones.
    """
    last = marks[-1]
    trees = DayTrees()
    ticks = await rows.ticks(after=before.tick, upto=last.tick)
    await trees.take(SealedTable.EVENT, rows.events(before=before, marks=marks, between=ticks, origin=origin))
    await trees.take(SealedTable.ATTEMPT, rows.attempts(before=before, marks=marks, origin=origin))
    secrets = await rows.secrets(after=before.route_pos, upto=last.route_pos)
    signed_before, signed = await rows.signatures(after=before.route_pos, upto=last.route_pos)
    found: dict[int, SealContents] = {}
    previous = before
    for mark in marks:
        found[mark.n] = SealContents(
            events=trees.days(mark.n, SealedTable.EVENT),
            attempts=trees.days(mark.n, SealedTable.ATTEMPT),
            ticks=tuple(_between(ticks, previous.tick, mark.tick, key=lambda tick: tick.tick)),
            secrets=tuple(_between(secrets, previous.route_pos, mark.route_pos, key=lambda secret: secret.pos)),
            signatures=signed_before + bisect_right(signed, mark.route_pos),
        )
        previous = mark
    return found


def _between(items: Sequence[_Item], after: int, upto: int, *, key: Callable[[_Item], int]) -> Sequence[_Item]:
    """The items of a sorted list after one number up to another."""
    return items[bisect_right(items, after, key=key) : bisect_right(items, upto, key=key)]


def tick_leaf(tick: CoveredTick) -> bytes:
    """The leaf of a tick."""
    values = (tick.tick, tick.snap, tick.at, tick.route_pos, tick.closed_upto, tick.touched)
    return leaf(SealedTable.TICK, values)


def secret_leaf(secret: NamedSecret) -> bytes:
    """The leaf of a key, or of a set of headers. Its ciphertext changes when master keys are exchanged, and opens only
    if it is the one that was sealed for this route and id.
    """
    return leaf(_SECRET_TABLES[secret.table], (secret.route_id, secret.item, secret.created_at))
