"""How much a compressed batch of messages may become: a few kilobytes of gzip, lz4 or zstd can hold gigabytes.

The one thing to know: aiokafka unpacks a batch at once and knows no limit, and a broker looks at the packed size only.
So its functions are replaced by ones that have one, in the whole process. A batch beyond it is one that cannot be read.
Snappy makes some twenty bytes of one at most, but a block begins with its length, and the library asks for as much
memory as that says: if 4 GiB are not to be had, it ends the process.
"""

from __future__ import annotations

import gzip
import io
import struct
from collections.abc import Callable
from importlib import import_module
from types import ModuleType

# A broker takes packed batches of 1 MiB unless it is told otherwise, and JSON that repeats its schema shrinks to a
# fiftieth.
LEAST_LIMIT_BYTES = 64 << 20
# The length cannot be known before: what is too little is multiplied.
_FIRST_BYTES, _FIRST_FACTOR, _NEXT_FACTOR = 1 << 16, 8, 8

# What Java writes around blocks of Snappy, each behind its packed length; others write one block.
_XERIAL = b"\x82SNAPPY\0" + struct.pack(">ii", 1, 1)
_BLOCK_LENGTH = struct.Struct(">i")

# Where the library has what it unpacks with.
_USERS = (
    "aiokafka.record.default_records",
    "aiokafka.record.legacy_records",
    "aiokafka.record._crecords.default_records",
    "aiokafka.record._crecords.legacy_records",
)


class BatchTooLarge(ValueError):
    """A batch of messages is larger than is taken, once it is unpacked."""

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"a compressed batch of messages has more than {limit_bytes} bytes")


def limit(limit_bytes: int) -> None:
    """Has batches of up to so many bytes unpacked, or of more if that was allowed before in this process."""
    Unpacking.limit_bytes = max(Unpacking.limit_bytes, limit_bytes)
    for user in _USERS:
        try:
            module = import_module(user)
        except ImportError:  # the compiled ones are not there on every platform
            continue
        for name, unpack in _UNPACK.items():
            if hasattr(module, name):
                setattr(module, name, unpack)


class Unpacking:
    """One for the whole process, as the functions of the library are."""

    limit_bytes = LEAST_LIMIT_BYTES


def _gzip(packed: bytes) -> bytes:
    with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
        unpacked = file.read(Unpacking.limit_bytes + 1)
    if len(unpacked) > Unpacking.limit_bytes:
        raise BatchTooLarge(Unpacking.limit_bytes)
    return unpacked


def _lz4(packed: bytes) -> bytes:
    return _unpacked(packed, _cramjam().lz4)


def _zstd(packed: bytes) -> bytes:
    return _unpacked(packed, _cramjam().zstd)


def _snappy(packed: bytes) -> bytes:
    if not packed.startswith(_XERIAL):
        return _snappy_block(packed, Unpacking.limit_bytes)
    unpacked, at = bytearray(), len(_XERIAL)
    while at < len(packed):
        (length,) = _BLOCK_LENGTH.unpack_from(packed, at)
        at += _BLOCK_LENGTH.size
        if not 0 < length <= len(packed) - at:
            raise ValueError("a block of Snappy ends beyond its batch")
        unpacked += _snappy_block(packed[at : at + length], Unpacking.limit_bytes - len(unpacked))
        at += length
    return bytes(unpacked)


def _snappy_block(packed: bytes, most: int) -> bytes:
    snappy = _cramjam().snappy
    if snappy.decompress_raw_len(packed) > most:
        raise BatchTooLarge(Unpacking.limit_bytes)
    return bytes(snappy.decompress_raw(packed))


def _unpacked(packed: bytes, codec: ModuleType) -> bytes:
    """By a library that fills what it is given, and fails if that is too little or the bytes are wrong."""
    room = min(_FIRST_BYTES + _FIRST_FACTOR * len(packed), Unpacking.limit_bytes)
    while True:
        buffer = bytearray(room)
        try:
            return bytes(memoryview(buffer)[: codec.decompress_into(packed, buffer)])
        except _cramjam().DecompressionError as error:
            if "whole buffer" not in str(error):
                raise
            if room == Unpacking.limit_bytes:
                raise BatchTooLarge(room) from error
        room = min(room * _NEXT_FACTOR, Unpacking.limit_bytes)


def _cramjam() -> ModuleType:
    return import_module("cramjam")


_UNPACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip_decode": _gzip,
    "snappy_decode": _snappy,
    "lz4_decode": _lz4,
    "zstd_decode": _zstd,
}
