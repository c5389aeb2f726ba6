"""What a run of seals covers, computed from the rows: for the sealer a run of one, for an audit of many.

Rows are hashed in a thread, a page at a time, while the event loop goes on. The thread offers the interpreter's lock
after every few rows: a loop that asks for it would otherwise wait for up to 5 ms.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import date

from daemon.core.sealing.canonical import SealedTable, leaf
from daemon.core.sealing.seal import SealedDay
from daemon.core.sealing.tree import MerkleRoot, root_of
from eventstore.route_log.sealed_secrets import Table
from eventstore.seals.covered import CoveredRow, CoveredRows, CoveredTick, NamedSecret
from eventstore.seals.stored import SealMark

# About a quarter of a millisecond of work.
_SLICE_ROWS = 16

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
        self._trees: dict[tuple[int, SealedTable, date], MerkleRoot] = {}

    async def take(self, table: SealedTable, pages: AsyncIterator[list[CoveredRow]]) -> None:
        """Hashes all these rows."""
        async for page in pages:
            await asyncio.to_thread(self._add, table, page)

    def days(self, seal: int, table: SealedTable) -> tuple[SealedDay, ...]:
        """The days of one seal, in order."""
        return tuple(
            SealedDay(day=day, rows=tree.size, root=tree.value)
            for (number, kind, day), tree in sorted(self._trees.items(), key=lambda item: item[0])
            if (number, kind) == (seal, table)
        )

    def _add(self, table: SealedTable, page: Sequence[CoveredRow]) -> None:
        trees = self._trees
        for start in range(0, len(page), _SLICE_ROWS):
            for row in page[start : start + _SLICE_ROWS]:
                key = (row.seal, table, row.at.date())
                tree = trees.get(key)
                if tree is None:
                    tree = trees[key] = MerkleRoot()
                tree.add(leaf(table, row.values))
            time.sleep(0)


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
    found = {}
    previous = before
    for mark in marks:
        found[mark.n] = SealContents(
            events=trees.days(mark.n, SealedTable.EVENT),
            attempts=trees.days(mark.n, SealedTable.ATTEMPT),
            ticks=tuple(tick for tick in ticks if previous.tick < tick.tick <= mark.tick),
            secrets=tuple(secret for secret in secrets if previous.route_pos < secret.pos <= mark.route_pos),
            signatures=await rows.signature_count(upto=mark.route_pos),
        )
        previous = mark
    return found


def tick_leaf(tick: CoveredTick) -> bytes:
    """The leaf of a tick."""
    return leaf(SealedTable.TICK, (tick.tick, tick.snap, tick.at, tick.route_pos, tick.closed_upto))


def secret_leaf(secret: NamedSecret) -> bytes:
    """The leaf of a key, or of a set of headers. Its ciphertext changes when master keys are exchanged, and opens only
    if it is the one that was sealed for this route and id.
    """
    return leaf(_SECRET_TABLES[secret.table], (secret.route_id, secret.item, secret.created_at))
