"""A signed head: the root of the tree of seals with its size, as a signed note with a checkpoint in it.

The form is that of C2SP (c2sp.org/signed-note, c2sp.org/tlog-checkpoint), so that its tools can verify and witness it:

    hookledger/2f1c…/7712…            origin: the log, and the lineage
    1042                              size: the number of seals
    wq8…=                             the root, in base64
                                      an empty line
    — hookledger/2f1c… Zm9v…          the signer, and base64 of the key's id and an Ed25519 signature of the lines above

A public key is written as `<name>+<id in hex>+<base64 of a 1 and the key>`, the verifier key of that form.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import sys
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SEED_BYTES = KEY_BYTES = 32
_ALGORITHM = b"\x01"  # Ed25519
_ID_BYTES = 4
_SIGNATURE_BYTES = 64
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_ORIGIN = re.compile(r"[!-~]{1,256}")
# Ours and those of witnesses. Each one under our name is verified.
_MOST_SIGNATURES = 100


class MalformedHead(ValueError):
    """A text that is no signed head, or a key that is no key. The message says what is wrong with it."""


class ForeignSignature(ValueError):
    """A head that none of the known keys has signed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicSealKey:
    """A public key with the name of the log that it signs for."""

    name: str
    key: bytes

    @property
    def id(self) -> bytes:
        return hashlib.sha256(self.name.encode() + b"\n" + _ALGORITHM + self.key).digest()[:_ID_BYTES]

    @property
    def text(self) -> str:
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(_ALGORITHM + self.key).decode()}"

    @classmethod
    def parse(cls, text: str) -> PublicSealKey:
        """The inverse of `text`. Raises MalformedHead."""
        name, _, rest = text.strip().partition("+")
        key_id, _, encoded = rest.partition("+")
        raw = _decoded(encoded)
        if not name or raw[:1] != _ALGORITHM or len(raw) != 1 + KEY_BYTES:
            raise MalformedHead("this is no public key of seals: it is written as name+id+base64")
        key = cls(name=name, key=raw[1:])
        if key.id.hex() != key_id:
            raise MalformedHead("a character of this public key is wrong: its id does not fit")
        return key


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeHead:
    """What is signed: the number of seals, and the root of their tree. `origin` names the log and its lineage."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedHead:
    """A head with its signatures, as (name, key id, signature)."""

    head: TreeHead
    signatures: tuple[tuple[str, bytes, bytes], ...]

    @property
    def note(self) -> str:
        lines = [f"— {name} {base64.b64encode(key_id + signed).decode()}\n" for name, key_id, signed in self.signatures]
        return f"{self.head.text}\n{''.join(lines)}"

    def signer(self, keys: list[PublicSealKey]) -> PublicSealKey:
        """The one of `keys` that has signed it. Raises ForeignSignature."""
        for name, key_id, signature in self.signatures:
            for key in keys:
                if (name, key_id) == (key.name, key.id) and is_signed(key.key, self.head.text, signature):
                    return key
        known = {key.id for key in keys}
        if any(key_id in known for _, key_id, _ in self.signatures):
            raise ForeignSignature(f"the signature of the head of {self.head.size} seals is wrong")
        signers = ", ".join(f"{name}+{key_id.hex()}" for name, key_id, _ in self.signatures)
        raise ForeignSignature(f"the head of {self.head.size} seals is signed by another key, {signers}")


class SealKey:
    """The private key that signs heads and lifecycle events. `seed` are its 32 bytes."""

    def __init__(self, seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.public: bytes = self._private.public_key().public_bytes_raw()

    def sign(self, text: str) -> bytes:
        """The signature of a text: that of a head, or of a lifecycle event."""
        return self._private.sign(text.encode())


def lifecycle_text(pos: int, event_hash: bytes) -> str:
    """What is signed of an event of the route log. Its hash covers everything before it, too."""
    return f"hookledger route log\n{pos}\n{event_hash.hex()}\n"


def is_signed(public_key: bytes, text: str, signature: bytes) -> bool:
    """True if that is the signature of this text by this key."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, text.encode())
    except (InvalidSignature, ValueError):
        return False
    return True


def parse_head(note: str) -> SignedHead:
    """The head in a signed note. Raises MalformedHead."""
    text, separator, tail = note.partition("\n\n")
    lines = text.split("\n")
    if not separator or len(lines) < 3:
        raise MalformedHead("a signed head has an origin, a size, a root, an empty line and a signature")
    if len(lines) > 3:
        raise MalformedHead("a signed head of ours has three lines before the signature")
    origin, size, encoded = lines
    root = _decoded(encoded)
    if not _ORIGIN.fullmatch(origin):
        raise MalformedHead("the origin of a signed head is a short text without blanks")
    if not _SIZE.fullmatch(size) or len(root) != 32:
        raise MalformedHead("the size or the root of a signed head is no number, or no base64 of 32 bytes")
    if not tail.endswith("\n"):
        raise MalformedHead("the signature of a head is cut off")
    signed = tail[:-1].split("\n")
    if len(signed) > _MOST_SIGNATURES:
        raise MalformedHead(
            f"a signed head has {_MOST_SIGNATURES} signatures at most, and this one has {len(signed):,}"
        )
    signatures = tuple(_signature(line) for line in signed)
    # A year has half a million heads, with the same names.
    head = TreeHead(origin=sys.intern(origin), size=int(size), root=root)
    return SignedHead(head=head, signatures=signatures)


def log_name(origin: str) -> str:
    """The name of the log, and of its key: the origin without the lineage."""
    return origin.rpartition("/")[0]


def _signature(line: str) -> tuple[str, bytes, bytes]:
    dash, _, rest = line.partition(" ")
    name, _, encoded = rest.partition(" ")
    raw = _decoded(encoded)
    # Signatures by others, as of witnesses, may be longer.
    if dash != "—" or not 0 < len(name) <= 256 or len(raw) < _ID_BYTES + _SIGNATURE_BYTES:
        raise MalformedHead("the signature of a head is cut off, or no base64")
    return sys.intern(name), raw[:_ID_BYTES], raw[_ID_BYTES:]


def _decoded(text: str) -> bytes:
    """The bytes, none if it is not base64 as it is written: its last character may have bits that do not count."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return raw if base64.b64encode(raw).decode() == text else b""
