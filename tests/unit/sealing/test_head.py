"""Signed heads: an independent verifier of C2SP notes accepts them, and nobody accepts a changed one."""

from __future__ import annotations

import metamorphic_log  # type: ignore[import-untyped] # generated bindings without py.typed
import pytest

from daemon.core.sealing import tree
from daemon.core.sealing.head import (
    ForeignSignature,
    MalformedHead,
    PublicSealKey,
    SealKey,
    SignedHead,
    TreeHead,
    parse_head,
)

NAME = "hookledger/5b0f"
ORIGIN = f"{NAME}/7712345678901234567"
KEY = SealKey(bytes(range(32)))
PUBLIC = PublicSealKey(name=NAME, key=KEY.public)
LEAVES = [tree.leaf_hash(bytes([number])) for number in range(9)]


def signed(size: int, *, key: SealKey = KEY) -> SignedHead:
    head = TreeHead(origin=ORIGIN, size=size, root=tree.root_of(LEAVES[:size]))
    public = PublicSealKey(name=NAME, key=key.public)
    return SignedHead(head=head, signatures=((NAME, public.id, key.sign(head.text)),))


def test_an_independent_verifier_accepts_a_signed_head() -> None:
    verified = metamorphic_log.checkpoint_verify(signed(5).note, [PUBLIC.text])
    assert (verified.origin, verified.size, verified.root) == (ORIGIN, 5, tree.root_of(LEAVES[:5]))


def test_an_independent_verifier_accepts_our_proofs_between_signed_heads() -> None:
    older, newer = signed(5).note, signed(9).note
    metamorphic_log.checkpoint_verify_consistency(older, newer, [PUBLIC.text], tree.consistency_path(LEAVES, 5))
    path = tree.inclusion_path(LEAVES, 3)
    metamorphic_log.checkpoint_verify_inclusion(newer, [PUBLIC.text], 3, LEAVES[3], path)


def test_a_signed_head_can_be_read_back() -> None:
    assert parse_head(signed(5).note) == signed(5)
    assert parse_head(signed(5).note).signer([PUBLIC]) == PUBLIC


def test_a_public_key_can_be_read_back() -> None:
    assert PublicSealKey.parse(PUBLIC.text + "\n") == PUBLIC


@pytest.mark.parametrize("text", ["", "hookledger", NAME, PUBLIC.text[:-1], PUBLIC.text.replace("/5", "/6"), "a+b+c"])
def test_a_text_that_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(MalformedHead):
        PublicSealKey.parse(text)


def test_a_head_with_any_bit_changed_is_refused() -> None:
    note = signed(5).note.encode()
    for place in range(len(note)):
        for bit in range(8):
            changed = bytearray(note)
            changed[place] ^= 1 << bit
            with pytest.raises((ForeignSignature, ValueError)):  # no UTF-8, no head, or no signature of ours
                parse_head(changed.decode()).signer([PUBLIC])


@pytest.mark.parametrize("end", range(1, len(signed(5).note)))
def test_a_head_that_is_cut_off_is_refused(end: int) -> None:
    with pytest.raises(MalformedHead):
        parse_head(signed(5).note[:end])


def test_a_head_that_another_key_has_signed_is_told_from_a_wrong_signature() -> None:
    with pytest.raises(ForeignSignature, match="another key"):
        signed(5, key=SealKey(bytes(32))).signer([PUBLIC])
    head = signed(5)
    forged = SignedHead(head=TreeHead(origin=ORIGIN, size=6, root=head.head.root), signatures=head.signatures)
    with pytest.raises(ForeignSignature, match="signature of the head of 6 seals is wrong"):
        forged.signer([PUBLIC])
