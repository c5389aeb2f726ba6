"""Batches of messages are unpacked up to a limit, by the compiled part of the client and by the other."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest

from daemon.sources.kafka import codecs
from daemon.sources.kafka.codecs import BatchTooLarge, Unpacking

LIMIT = 1 << 20
# As batches number them.
CODECS = {"gzip": 1, "lz4": 3, "zstd": 4}
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
