"""Which process should own which shard: rendezvous hashing over the processes that are alive.

Each process computes the same answer from the same names. A process that joins takes shards from others and moves none
between them. The shards of a process that leaves are shared out among the rest. This is only the preferred assignment:
the right to send comes from a lease.
"""

from __future__ import annotations

from collections.abc import Collection
from hashlib import blake2b


def preferred(shard: int, owners: Collection[str]) -> str:
    """The preferred owner of a shard among `owners`, of which there is at least one."""
    return max(owners, key=lambda owner: _weight(owner, shard))


def _weight(owner: str, shard: int) -> bytes:
    return blake2b(f"{shard}/{owner}".encode(), digest_size=16).digest()
