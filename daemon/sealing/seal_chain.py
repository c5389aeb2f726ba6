"""The chain of seals: each follows the one before, says what its hash covers, and is signed by a key of ours."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection

from daemon.core.sealing.head import TreeHead, is_signed, log_name
from daemon.core.sealing.tree import MerkleRoot, leaf_hash
from daemon.sealing.report import SealReport
from daemon.sealing.rows import content_of
from eventstore import route_log
from eventstore.postgres.connect import Database
from eventstore.seals import stored
from eventstore.seals.stored import SealRow

_BEFORE_ALL = -(2**63)


class Walk:
    """Goes over all seals, and keeps the tree of those that are whole.

    `name` is the name of the log, `keys` are the public keys that are ours, none if they are not known. `heads` gets
    the origin and the root of each size in `sizes`.
    """

    def __init__(self, *, name: str, keys: Collection[bytes], sizes: Collection[int]) -> None:
        self.name = name
        self.tree = MerkleRoot()
        self.heads: dict[int, tuple[str, bytes]] = {}
        self.last: SealRow | None = None
        self._keys = keys
        self._sizes = sizes

    async def seals(self, database: Database, report: SealReport) -> AsyncIterator[tuple[SealRow | None, SealRow]]:
        """Each seal that is whole, with the one before. Adds a finding for the first that is not, and ends there."""
        after = _BEFORE_ALL
        while page := await stored.after(database, after):
            hashes = await route_log.hashes(database, sorted({row.route_pos for row in page}))
            for row in page:
                problem = self._problem(row, hashes)
                if problem is not None:
                    report.add("seal", problem, seal=row.n)
                    return
                previous, self.last = self.last, row
                report.seals, report.sealed_until = row.n, row.at
                yield previous, row
            after = page[-1].n

    def _problem(self, row: SealRow, hashes: dict[int, bytes]) -> str | None:  # noqa: PLR0911 - one sentence for each
        """What is wrong with the seal that follows. If nothing is, the tree has grown by it."""
        last = self.last
        number, prev_hash = (0, b"") if last is None else (last.n, last.hash)
        if row.n != number + 1:
            return f"seal {number + 1} is missing: {row.n} follows {number}"
        if row.prev_hash != prev_hash:
            return f"seal {row.n} does not continue the chain of seal {number}"
        if content_of(row).hash(prev_hash) != row.hash:
            return f"seal {row.n} is not what was written: its hash differs"
        if log_name(row.origin) != self.name:
            return f"seal {row.n} is of another log, {row.origin}"
        if last is not None and not _follows(row, last):
            return f"seal {row.n} goes back behind seal {number}: in its time, a tick, a position or a checkpoint"
        if row.route_hash != hashes.get(row.route_pos, b"" if row.route_pos == 0 else None):
            return f"the route log is not the one that seal {row.n} saw: position {row.route_pos} is gone, or another"
        tree = self.tree.copy()
        tree.add(leaf_hash(row.hash))
        head = TreeHead(origin=row.origin, size=row.n, root=tree.value)
        if self._keys and row.public_key not in self._keys:
            return (
                f"seal {row.n} is signed by a key that is not ours, {row.public_key.hex()}: if it was, name it in "
                "seal.former_keys"
            )
        if not is_signed(row.public_key, head.text, row.signature):
            return f"the signature of seal {row.n} is wrong"
        self.tree = tree
        if row.n in self._sizes:
            self.heads[row.n] = (row.origin, tree.value)
        return None


def _follows(row: SealRow, last: SealRow) -> bool:
    return (
        row.at >= last.at
        and row.tick >= last.tick
        and row.route_pos >= last.route_pos
        and len(row.checkpoints) == len(last.checkpoints)
        and all(now >= was for now, was in zip(row.checkpoints, last.checkpoints, strict=True))
    )
