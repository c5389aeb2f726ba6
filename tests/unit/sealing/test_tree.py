"""Our tree against an independent implementation of RFC 9162, in both directions."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tamperlog import merkle  # type: ignore[import-untyped] # it has annotations, and no py.typed

from daemon.core.sealing import tree

LEAVES = [tree.leaf_hash(f"entry {number}".encode()) for number in range(33)]
SIZES = range(1, len(LEAVES) + 1)
ROOTS = {size: tree.root_of(LEAVES[:size]) for size in range(len(LEAVES) + 1)}


def test_the_root_of_nothing_is_the_hash_of_nothing() -> None:
    assert tree.root_of([]) == hashlib.sha256(b"").digest()


@pytest.mark.parametrize("size", SIZES)
def test_an_independent_library_computes_the_same_root(size: int) -> None:
    assert ROOTS[size] == merkle.merkle_root(LEAVES[:size])


@given(st.lists(st.integers(0, 20), max_size=12))
def test_a_tree_that_grows_by_parts_of_any_size_is_that_of_all_leaves(parts: list[int]) -> None:
    grown, leaves = tree.MerkleRoot(), list[bytes]()
    for part in parts:
        more = [tree.leaf_hash(b"%d" % number) for number in range(len(leaves), len(leaves) + part)]
        grown.extend(more)
        leaves += more
        assert (grown.size, grown.value) == (len(leaves), merkle.merkle_root(leaves) if leaves else tree.EMPTY_ROOT)


@pytest.mark.parametrize("size", SIZES)
def test_an_independent_library_accepts_our_proofs_of_inclusion(size: int) -> None:
    for index in range(size):
        path = tree.inclusion_path(LEAVES[:size], index)
        merkle.verify_inclusion(index, size, LEAVES[index], path, ROOTS[size])


@pytest.mark.parametrize("size", SIZES)
def test_we_accept_the_proofs_of_inclusion_of_an_independent_library(size: int) -> None:
    for index in range(size):
        path = merkle.inclusion_proof(index, LEAVES[:size])
        assert tree.is_included(LEAVES[index], index, size, path, ROOTS[size])


@pytest.mark.parametrize("size", SIZES)
def test_an_independent_library_accepts_our_proofs_of_consistency(size: int) -> None:
    for first in range(1, size + 1):
        path = tree.consistency_path(LEAVES[:size], first)
        merkle.verify_consistency(first, ROOTS[first], size, ROOTS[size], path)


@pytest.mark.parametrize("size", SIZES)
def test_we_accept_the_proofs_of_consistency_of_an_independent_library(size: int) -> None:
    for first in range(1, size + 1):
        path = merkle.consistency_proof(first, LEAVES[:size])
        assert tree.is_consistent(first, ROOTS[first], size, ROOTS[size], path)


def test_a_proof_with_one_bit_changed_is_refused() -> None:
    for first, size in itertools.product(SIZES, SIZES):
        if first > size:
            continue
        path = tree.consistency_path(LEAVES[:size], first)
        for place in range(len(path)):
            assert not tree.is_consistent(first, ROOTS[first], size, ROOTS[size], _flipped(path, place))
        path = tree.inclusion_path(LEAVES[:size], first - 1)
        for place in range(len(path)):
            assert not tree.is_included(LEAVES[first - 1], first - 1, size, _flipped(path, place), ROOTS[size])


def test_a_proof_is_refused_for_another_place_size_or_root() -> None:
    path = tree.inclusion_path(LEAVES[:21], 7)
    assert tree.is_included(LEAVES[7], 7, 21, path, ROOTS[21])
    assert not tree.is_included(LEAVES[7], 6, 21, path, ROOTS[21])
    assert not tree.is_included(LEAVES[7], 7, 22, path, ROOTS[22])
    assert not tree.is_included(LEAVES[6], 7, 21, path, ROOTS[21])
    assert not tree.is_included(LEAVES[7], 21, 21, path, ROOTS[21])
    assert not tree.is_included(LEAVES[7], 7, 21, [*path, path[0]], ROOTS[21])
    assert not tree.is_included(LEAVES[7], 7, 21, path[:-1], ROOTS[21])
    path = tree.consistency_path(LEAVES[:21], 7)
    assert not tree.is_consistent(8, ROOTS[8], 21, ROOTS[21], path)
    assert not tree.is_consistent(7, ROOTS[7], 22, ROOTS[22], path)
    assert not tree.is_consistent(7, ROOTS[8], 21, ROOTS[21], path)
    assert not tree.is_consistent(0, ROOTS[0], 21, ROOTS[21], [])
    assert not tree.is_consistent(22, ROOTS[21], 21, ROOTS[21], [])
    assert not tree.is_consistent(7, ROOTS[7], 21, ROOTS[21], path[:-1])


def _flipped(path: list[bytes], place: int) -> list[bytes]:
    changed = bytearray(path[place])
    changed[-1] ^= 1
    return [*path[:place], bytes(changed), *path[place + 1 :]]


def test_several_paths_of_the_same_leaves_are_hardly_more_work_than_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A delivery that was sent again for weeks is in a thousand seals, of which each year makes half a million."""
    leaves = [tree.leaf_hash(bytes([number % 256, number >> 8])) for number in range(1000)]
    paths = [tree.inclusion_path(leaves, index) for index in range(0, 1000, 10)]
    hashed: list[int] = []
    root_of = tree.root_of

    def counted(part: Sequence[bytes]) -> bytes:
        hashed.append(len(part))
        return root_of(part)

    monkeypatch.setattr(tree, "root_of", counted)
    known: dict[tuple[int, int], bytes] = {}
    assert [tree.inclusion_path(leaves, index, known=known) for index in range(0, 1000, 10)] == paths
    assert sum(hashed) < 10 * len(leaves)
