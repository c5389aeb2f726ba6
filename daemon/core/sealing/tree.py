"""The Merkle tree of RFC 9162, section 2.1, with SHA-256: roots, and proofs of inclusion and of consistency.

A root is computed while the leaves pass by: `MerkleRoot` keeps one hash for each bit of their number. Proofs need all
leaves. Everything here works on leaf hashes, 32 bytes each; `leaf_hash` makes one of an entry.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

EMPTY_ROOT = hashlib.sha256(b"").digest()

# The leaves from one index up to another.
Part = tuple[int, int]


def leaf_hash(entry: bytes) -> bytes:
    """The hash of an entry. The byte in front tells it from that of two nodes."""
    return hashlib.sha256(b"\x00" + entry).digest()


def leaf_hashes(entries: Iterable[bytes]) -> list[bytes]:
    """Those of many entries."""
    sha256 = hashlib.sha256
    return [sha256(b"\x00" + entry).digest() for entry in entries]


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class MerkleRoot:
    """The root of a tree that grows."""

    __slots__ = ("_peaks", "size")

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[bytes] = []  # the roots of the full subtrees, the largest first

    def add(self, leaf: bytes) -> None:
        """Appends a leaf hash."""
        self.extend((leaf,))

    def extend(self, leaves: Iterable[bytes]) -> None:
        """Appends leaf hashes: level by level, which takes two thirds of the time of leaf by leaf.

        A level has the nodes of its height that are new, and in front of them the peak of that height if there is one.
        Two of them are a node of the next level, and the last one is a peak if it is left over.
        """
        level, full, sha256 = list(leaves), self.size, hashlib.sha256
        self.size += len(level)
        left_over: list[bytes] = []
        while level:
            if full & 1:
                level.insert(0, self._peaks.pop())
            full >>= 1
            if len(level) & 1:
                left_over.append(level.pop())
            pairs = zip(level[::2], level[1::2], strict=True)
            level = [sha256(b"\x01" + left + right).digest() for left, right in pairs]
        self._peaks += reversed(left_over)

    def copy(self) -> MerkleRoot:
        """A tree of the same leaves, to go on with apart."""
        other = MerkleRoot()
        other.size, other._peaks = self.size, list(self._peaks)
        return other

    @property
    def value(self) -> bytes:
        """The root of the leaves so far."""
        if not self._peaks:
            return EMPTY_ROOT
        *rest, root = self._peaks
        for peak in reversed(rest):
            root = node_hash(peak, root)
        return root


def root_of(leaves: Iterable[bytes]) -> bytes:
    """The root of these leaf hashes."""
    growing = MerkleRoot()
    growing.extend(leaves)
    return growing.value


def inclusion_path(leaves: Sequence[bytes], index: int, *, known: dict[Part, bytes] | None = None) -> list[bytes]:
    """The proof that the leaf at `index`, from 0, is in the tree of all (2.1.3.1).

    `known` has the roots of parts of the same leaves, and gets those that are computed: paths have most in common.
    """
    known = {} if known is None else known
    path: list[bytes] = []
    start, end = 0, len(leaves)
    while end - start > 1:
        middle = start + _split(end - start)
        part = (middle, end) if index < middle else (start, middle)
        root = known.get(part)
        if root is None:
            root = known[part] = root_of(leaves[part[0] : part[1]])
        path.append(root)
        start, end = (start, middle) if index < middle else (middle, end)
    return path[::-1]


def consistency_path(leaves: Sequence[bytes], first: int) -> list[bytes]:
    """The proof that the tree of all leaves continues that of the `first` ones, at least 1 (2.1.4.1)."""
    path: list[bytes] = []
    start, end, is_known = 0, len(leaves), True
    while first != end:
        middle = start + _split(end - start)
        if first <= middle:
            path.append(root_of(leaves[middle:end]))
            end = middle
        else:
            path.append(root_of(leaves[start:middle]))
            start, is_known = middle, False
    if not is_known:
        path.append(root_of(leaves[start:end]))
    return path[::-1]


def is_included(leaf: bytes, index: int, size: int, path: Sequence[bytes], root: bytes) -> bool:
    """True if the path proves that `leaf` is at `index`, from 0, in the tree of `size` leaves with that root."""
    if not 0 <= index < size:
        return False
    number, last, node = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            return False
        if number & 1 or number == last:
            node = node_hash(sibling, node)
            while not number & 1 and number:
                number, last = number >> 1, last >> 1
        else:
            node = node_hash(node, sibling)
        number, last = number >> 1, last >> 1
    return last == 0 and node == root


def is_consistent(first: int, first_root: bytes, size: int, root: bytes, path: Sequence[bytes]) -> bool:
    """True if the path proves that the tree of `size` leaves with `root` continues that of the `first` ones."""
    if not 1 <= first <= size:
        return False
    if first == size:
        return not path and first_root == root
    rest = list(path)
    if first & (first - 1) == 0:  # a full tree is a node of the larger one, and is not repeated in the path
        rest.insert(0, first_root)
    if not rest:
        return False
    number, last = first - 1, size - 1
    while number & 1:
        number, last = number >> 1, last >> 1
    old = new = rest[0]
    for node in rest[1:]:
        if last == 0:
            return False
        if number & 1 or number == last:
            old, new = node_hash(node, old), node_hash(node, new)
            while not number & 1 and number:
                number, last = number >> 1, last >> 1
        else:
            new = node_hash(new, node)
        number, last = number >> 1, last >> 1
    return last == 0 and old == first_root and new == root


def _split(size: int) -> int:
    """The largest power of two that is smaller than `size`, at least 2."""
    return 1 << ((size - 1).bit_length() - 1)
