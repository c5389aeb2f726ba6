"""Makes the next seal, if there is anything new, and its signed head.

Only one process at a time does, and it continues only what is whole: the newest seal must carry the hash of what it
says, and the signature of a key of ours over the tree of all before it. Otherwise it refuses, because a seal on top of
a forged one would vouch for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from daemon.core.sealing.canonical import SealedTable
from daemon.core.sealing.head import SealKey, SignedHead, TreeHead, is_signed
from daemon.core.sealing.seal import SealContent
from daemon.core.sealing.tree import MerkleRoot, leaf_hash
from daemon.sealing.contents import contents
from daemon.sealing.rows import content_of, head_of, row_of
from eventstore.domain_events.ticks import EMPTY_SNAP
from eventstore.postgres.connect import Database
from eventstore.seals import turns
from eventstore.seals.stored import FORM, SealMark, SealRow
from eventstore.seals.turns import LogExtent, SealTurn

# So many hashes take a millisecond or two.
_GROWN_AT_ONCE = 1000


class SealRefused(Exception):
    """The newest seal is not one that we may continue. The message says what is wrong, and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """A turn: the newest seal, None if there is none, and the time by the database's clock.

    `head` is the signed head, if the seal was made in this turn. With `is_behind` there is more to seal already. With
    `is_current` nothing was new. `lost` is how many seals this process knew until now, if not all of them are there any
    more, or others in their place.
    """

    seal: SealContent | None
    head: SignedHead | None
    now: datetime
    is_behind: bool = False
    is_current: bool = False
    lost: int | None = None


class Sealer:
    """`seal` makes one seal. `keys` are ours, of which the first signs; `former_keys` are public keys that earlier ones
    were signed with.
    """

    def __init__(self, database: Database, keys: Sequence[SealKey], former_keys: Sequence[bytes] = ()) -> None:
        self._database = database
        self._key = keys[0]
        self._known = {*(key.public for key in keys), *former_keys}
        self._tree = MerkleRoot()

    async def seal(self, *, every: timedelta = timedelta(0)) -> Sealed | None:
        """Makes a seal, unless there is nothing new or the newest one is younger than `every`.

        None if another process is making one. Raises SealRefused and StoreUnavailable.
        """
        async with turns.turn(self._database) as turn:
            if turn is None:
                return None
            last = await turn.newest()
            before = SealMark() if last is None else last.mark
            state = await turn.state(after_tick=before.tick, after_pos=before.route_pos)
            known = self._tree
            if last is None:
                self._tree = MerkleRoot()
            else:
                await self._follow(turn, last)
            # What another process has made since was added to what is known, unless that is not there any more.
            lost = known.size if known is not self._tree and known.size else None
            newest = None if last is None else content_of(last)
            if last is not None and last.at <= state.at < last.at + every:
                return Sealed(seal=newest, head=None, now=state.at, lost=lost)
            if not await _has_news(turn, state, last):
                return Sealed(seal=newest, head=None, now=state.at, is_current=True, lost=lost)
            row = await self._made(turn, state, last)
            await turn.append(row)
        self._tree.add(leaf_hash(row.hash))
        return Sealed(
            seal=content_of(row),
            head=head_of(row, self._tree.value),
            now=state.at,
            is_behind=state.is_more,
            lost=lost,
        )

    async def _made(self, turn: SealTurn, state: LogExtent, last: SealRow | None) -> SealRow:
        before = SealMark() if last is None else last.mark
        is_same_lineage = before.origin == state.origin
        mark = SealMark(
            before.n + 1,
            state.origin,
            state.snap,
            state.tick,
            state.tick_snap or (before.tick_snap if is_same_lineage else EMPTY_SNAP),
            state.route_pos,
        )
        restored = 0 if is_same_lineage else before.n
        found = (await contents(turn.rows, before=before, marks=[mark], restored=restored))[mark.n]
        content = SealContent(
            n=mark.n,
            at=state.at if last is None else max(state.at, last.at),  # the clock may have gone back
            origin=mark.origin,
            snap=mark.snap,
            tick=mark.tick,
            tick_snap=mark.tick_snap,
            route_pos=mark.route_pos,
            route_hash=state.route_hash,
            events=found.days[SealedTable.EVENT],
            attempts=found.days[SealedTable.ATTEMPT],
            ticks=len(found.ticks),
            ticks_root=found.ticks_root,
            keys=len(found.secrets),
            keys_root=found.keys_root,
            signatures=found.signatures,
            checkpoints=tuple(state.checkpoints),
            events_kept_from=state.events_kept_from,
            attempts_kept_from=state.attempts_kept_from,
            public_key=self._key.public,
            resends=found.days[SealedTable.RESEND],
            replays=found.days[SealedTable.REPLAY],
            replay_ends=found.days[SealedTable.REPLAY_END],
            losses=found.days[SealedTable.LOSS],
            tokens=found.days[SealedTable.TOKEN],
            token_ends=found.days[SealedTable.TOKEN_END],
        )
        prev_hash = b"" if last is None else last.hash
        tree = self._tree.copy()
        tree.add(leaf_hash(content.hash(prev_hash)))
        head = TreeHead(origin=content.origin, size=content.n, root=tree.value)
        return row_of(content, prev_hash=prev_hash, signature=self._key.sign(head.text))

    async def _follow(self, turn: SealTurn, last: SealRow) -> None:
        """Brings the tree to the newest seal, and checks that seal. Raises SealRefused."""
        if content_of(last).hash(last.prev_hash) != last.hash:
            raise SealRefused(f"seal {last.n} is not what was written: run hookledger audit")
        if last.public_key not in self._known:
            raise SealRefused(
                f"seal {last.n} is signed by another key, {last.public_key.hex()}: if that was ours, add it to "
                "seal.former_keys; if not, run hookledger audit"
            )
        # What is in memory may be of seals that a promoted standby has not: then all hashes are read again.
        if self._tree.size <= last.n:
            await self._grow(turn, last.n)
        if not self._fits(last):
            self._tree = MerkleRoot()
            await self._grow(turn, last.n)
        if not self._fits(last):
            raise SealRefused(f"the signature of seal {last.n} does not fit the seals up to it: run hookledger audit")

    async def _grow(self, turn: SealTurn, size: int) -> None:
        hashes = await turn.hashes(after=self._tree.size, upto=size)
        for first in range(0, len(hashes), _GROWN_AT_ONCE):
            await asyncio.to_thread(self._add, hashes[first : first + _GROWN_AT_ONCE])

    def _add(self, hashes: Sequence[bytes]) -> None:
        self._tree.extend(leaf_hash(each) for each in hashes)

    def _fits(self, last: SealRow) -> bool:
        head = TreeHead(origin=last.origin, size=self._tree.size, root=self._tree.value)
        return head.size == last.n and is_signed(last.public_key, head.text, last.signature)


async def _has_news(turn: SealTurn, state: LogExtent, last: SealRow | None) -> bool:
    before = SealMark() if last is None else last.mark
    if state.tick > before.tick or state.route_pos > before.route_pos:
        return True
    snap = before.snap if before.origin == state.origin else EMPTY_SNAP
    if await turn.has_new_attempts(before=snap, snap=state.snap):
        return True
    return await turn.has_new_requests(before=snap if before.form == FORM else EMPTY_SNAP, snap=state.snap)
