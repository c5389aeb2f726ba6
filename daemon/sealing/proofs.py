"""Makes the proof of a delivery, of a head, and of the growth from one head to another.

A path needs all leaves of its tree: for a row those of its seal, table and day, which are hashed anew, for a seal the
hashes of all. If the rows are not what was sealed, no proof is made, since nobody would accept it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from itertools import chain
from uuid import UUID

from daemon.core.sealing import tree
from daemon.core.sealing.canonical import SealedTable, SealedValue, leaf, row_entry
from daemon.core.sealing.head import SignedHead
from daemon.core.sealing.proof import FORMAT, DeliveryProof, ProvenRow, ProvenSeal
from daemon.core.sealing.tree import Part, leaf_hash
from daemon.sealing.rows import content_of, head_of
from eventstore.postgres.connect import Database
from eventstore.seals import covered, places, stored, turns
from eventstore.seals.covered import ByTransaction, CoveredRows, CoveredRun, CoveredValue, ReadTicks
from eventstore.seals.places import SealedDelivery
from eventstore.seals.stored import SealMark, SealRow

# For reading the rows of the seals that cover one delivery: a few thousand, but for the first seal of an old log.
_PROOF_SECONDS = 20.0


class NotSealed(Exception):
    """The event is not sealed yet."""


class NotKept(Exception):
    """Retention has dropped what the proof would need."""


class NotWhole(Exception):
    """The rows are not those that were sealed. The message says where."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenPair:
    """The delivery to prove."""

    delivery: str
    tenant: str
    event: str
    event_time: datetime
    seq: int
    route_id: UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadPath:
    """Two heads, and the path that proves that the second continues the first."""

    older: SignedHead
    newer: SignedHead
    path: list[bytes]


async def head(database: Database, row: SealRow) -> SignedHead:
    """The signed head of a seal."""
    hashes = await stored.hashes(database, upto=row.n)
    return head_of(row, await asyncio.to_thread(lambda: tree.root_of(map(leaf_hash, hashes))))


async def consistency(database: Database, older: SealRow, newer: SealRow) -> HeadPath:
    """The proof that the seals up to the newer continue those up to the older."""
    hashes = await stored.hashes(database, upto=newer.n)

    def made() -> HeadPath:
        leaves = [leaf_hash(each) for each in hashes]
        return HeadPath(
            older=head_of(older, tree.root_of(leaves[: older.n])),
            newer=head_of(newer, tree.root_of(leaves)),
            path=tree.consistency_path(leaves, older.n),
        )

    return await asyncio.to_thread(made)


async def of_delivery(database: Database, pair: ProvenPair) -> DeliveryProof:
    """The proof of a delivery, as far as it is sealed. Raises NotSealed, NotKept and NotWhole."""
    sealed = await places.of_delivery(database, pair.route_id, pair.seq, event_time=pair.event_time)
    if sealed is None:
        raise NotKept("the event is no longer kept, and so cannot be proven any more")
    if sealed.event.seal is None:
        raise NotSealed("the event is not sealed yet: seals are made from time to time (seal.every_seconds)")
    newest = await stored.newest(database)
    if newest is None:
        raise NotSealed("nothing is sealed yet")
    hashes = await stored.hashes(database, upto=newest.n)
    places_of = (sealed.event, *sealed.attempts, *sealed.resends)
    numbers = sorted({place.seal for place in places_of if place.seal is not None})
    rows = await _rows(database, pair, sealed, numbers)
    seals = await stored.of_numbers(database, numbers)

    def made() -> DeliveryProof:
        leaves = [leaf_hash(each) for each in hashes]
        known: dict[Part, bytes] = {}
        return DeliveryProof(
            format=FORMAT,
            delivery=pair.delivery,
            tenant=pair.tenant,
            event=pair.event,
            route=str(pair.route_id),
            head=head_of(newest, tree.root_of(leaves)).note,
            seals=[_seal(seals[number], leaves, known) for number in numbers],
            rows=rows,
            unsealed=sum(place.seal is None for place in sealed.attempts),
        )

    return await asyncio.to_thread(made)


async def _rows(
    database: Database, pair: ProvenPair, sealed: SealedDelivery, numbers: Sequence[int]
) -> list[ProvenRow]:
    restored = (await stored.newest_of_others(database, await turns.origin(database))).n
    around = await stored.of_numbers(database, [*numbers, *(number - 1 for number in numbers)])
    found: list[ProvenRow] = []
    async with covered.reading(database, seconds=_PROOF_SECONDS) as reader:
        for number in numbers:
            before = around[number - 1].mark if number > 1 else SealMark()
            trees = _SealTrees(reader, before, around[number], restored)
            if number == sealed.event.seal:
                found += await trees.rows(SealedTable.EVENT, sealed.event.at.date(), (pair.seq,))
            days = {place.at.date() for place in sealed.attempts if place.seal == number}
            for day in sorted(days):
                found += await trees.rows(SealedTable.ATTEMPT, day, (pair.seq, str(pair.route_id)))
            for resend in sealed.resends:
                if resend.seal == number:
                    found += await trees.rows(SealedTable.RESEND, resend.at.date(), (resend.id,))
    return found


class _SealTrees:
    """The trees of one seal, made to prove some of their leaves."""

    def __init__(self, reader: CoveredRows, before: SealMark, row: SealRow, restored: int) -> None:
        self._reader = reader
        self._before = before
        self._row = row
        self._restored = restored

    async def rows(self, table: SealedTable, day: date, key: tuple[SealedValue, ...]) -> list[ProvenRow]:
        """The rows of one table and day whose first columns are `key`, with their paths. Raises NotWhole."""
        leaves: list[bytes] = []
        wanted: list[tuple[int, tuple[CoveredValue, ...]]] = []

        def add(page: list[CoveredRun]) -> None:
            for values in chain.from_iterable(run.rows for run in page if run.day == day):
                if values[: len(key)] == key:
                    wanted.append((len(leaves), values))
                leaves.append(leaf(table, values))

        before, mark = self._before, self._row.mark
        if table is SealedTable.EVENT:
            ticks = ReadTicks()
            async for read in self._reader.ticks(after=before.tick, upto=mark.tick):
                for tick in read:
                    ticks.add(tick)
            pages = self._reader.events(before=before, marks=[mark], ticks=ticks, restored=self._restored)
        else:
            read_by = ByTransaction.RESEND if table is SealedTable.RESEND else ByTransaction.ATTEMPT
            pages = self._reader.by_transaction(read_by, before=before, marks=[mark], restored=self._restored)
        async for page in pages:
            await asyncio.to_thread(add, page)
        content = content_of(self._row)
        days = {
            SealedTable.EVENT: content.events,
            SealedTable.ATTEMPT: content.attempts,
            SealedTable.RESEND: content.resends or (),
        }[table]
        if await asyncio.to_thread(tree.root_of, leaves) not in {each.root for each in days if each.day == day}:
            raise NotWhole(f"the rows of {day} are not those that seal {mark.n} covers: run hookledger audit")
        known: dict[Part, bytes] = {}
        return await asyncio.to_thread(
            lambda: [
                _row(table, mark.n, index, values, tree.inclusion_path(leaves, index, known=known))
                for index, values in wanted
            ]
        )


def _row(table: SealedTable, seal: int, index: int, values: Sequence[SealedValue], path: Sequence[bytes]) -> ProvenRow:
    return ProvenRow(
        entry=row_entry(table, values).decode(),
        seal=seal,
        index=index,
        path=[each.hex() for each in path],
    )


def _seal(row: SealRow, leaves: Sequence[bytes], known: dict[Part, bytes]) -> ProvenSeal:
    return ProvenSeal(
        n=row.n,
        fields=content_of(row).texts(),
        prev_hash=row.prev_hash.hex(),
        path=[each.hex() for each in tree.inclusion_path(leaves, row.n - 1, known=known)],
    )
