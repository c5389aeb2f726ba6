"""Who should have which shard: rendezvous hashing over the processes that are alive.

Each process computes the same answer from the same names. A process that joins takes shards from others and moves none
between them; one that goes leaves its shards to the rest. What anybody may send is decided by leases, not here.
"""

from __future__ import annotations

from collections.abc import Collection
from hashlib import blake2b


def preferred(shard: int, owners: Collection[str]) -> str:
    """The one of `owners`, at least one, that a shard belongs to."""
    return max(owners, key=lambda owner: _weight(owner, shard))


def _weight(owner: str, shard: int) -> bytes:
    return blake2b(f"{shard}/{owner}".encode(), digest_size=16).digest()
