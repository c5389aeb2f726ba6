"""Batches of messages are unpacked up to a limit, by the compiled part of the client and by the other."""

from __future__ import annotations

import struct
from importlib import import_module
from typing import Any

import cramjam
import pytest

from daemon.sources.kafka import codecs
from daemon.sources.kafka.codecs import BatchTooLarge, Unpacking

LIMIT = 1 << 20
# As batches number them.
CODECS = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
# What stands before its value in a batch.
HEAD_BYTES = 20

READERS = [
    ("aiokafka.record.default_records", "_DefaultRecordBatchPy"),
    ("aiokafka.record._crecords.default_records", "DefaultRecordBatch"),
]


@pytest.fixture(autouse=True)
def limited(monkeypatch: pytest.MonkeyPatch) -> None:
    codecs.limit(1)
    monkeypatch.setattr(Unpacking, "limit_bytes", LIMIT)


def packed(codec: str, value: bytes) -> bytes:
    records: Any = import_module("aiokafka.record.default_records")
    builder = records.DefaultRecordBatchBuilder(2, CODECS[codec], False, -1, -1, -1, 1 << 30)
    assert builder.append(0, timestamp=1, key=None, value=value, headers=[]) is not None
    return bytes(builder.build())


@pytest.mark.parametrize(("module", "name"), READERS)
@pytest.mark.parametrize("codec", CODECS)
def test_a_batch_is_unpacked_up_to_the_limit(module: str, name: str, codec: str) -> None:
    read: Any = getattr(import_module(module), name)
    value = bytes(LIMIT - HEAD_BYTES)
    assert [record.value for record in read(packed(codec, value))] == [value]
    with pytest.raises(BatchTooLarge, match="a compressed batch of messages has more than 1048576 bytes"):
        list(read(packed(codec, bytes(LIMIT))))


LIBRARY: Any = import_module("aiokafka.codec")


def java_blocks(*blocks: bytes) -> bytes:
    """Snappy as Java's producers frame it."""
    head = LIBRARY.snappy_encode(b"", xerial_compatible=True)[:16]
    return bytes(head) + b"".join(struct.pack(">i", len(block)) + block for block in blocks)


BLOCK = bytes(cramjam.snappy.compress_raw(b"x" * 1000))
FOUR_GIB = b"\xff\xff\xff\xff\x0f" + b"\0x" * 10  # four bytes less
BROKEN = {
    "a block that says it has 4 GiB": FOUR_GIB,
    "such a block of Java's": java_blocks(BLOCK, FOUR_GIB),
    "blocks that are too much together": java_blocks(*[BLOCK] * (LIMIT // 1000 + 1)),
}
IMPOSSIBLE = {
    "a block beyond the end": java_blocks(BLOCK) + struct.pack(">i", 10) + b"x",
    "a block before its beginning": java_blocks(BLOCK) + struct.pack(">i", -5) + BLOCK,
    "half a length": java_blocks(BLOCK) + b"\0",
    "no block": java_blocks(b"") + b"x",
    "nothing": b"",
}


@pytest.mark.parametrize("given", BROKEN.values(), ids=BROKEN.keys())
def test_no_memory_is_taken_for_what_snappy_says_that_it_is(given: bytes) -> None:
    with pytest.raises(BatchTooLarge):
        unpack_snappy(given)


@pytest.mark.parametrize("given", IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_snappy_that_is_none_is_refused(given: bytes) -> None:
    with pytest.raises((ValueError, struct.error, cramjam.DecompressionError)):
        unpack_snappy(given)


def test_snappy_of_java_is_unpacked_block_by_block() -> None:
    assert unpack_snappy(java_blocks(BLOCK, BLOCK)) == b"x" * 2000
    assert unpack_snappy(bytes(LIBRARY.snappy_encode(b"ab" * 100_000, xerial_blocksize=1000))) == b"ab" * 100_000
    assert unpack_snappy(BLOCK) == b"x" * 1000


def unpack_snappy(given: bytes) -> bytes:
    records: Any = import_module("aiokafka.record.default_records")
    unpacked: bytes = records.snappy_decode(given)
    return unpacked
