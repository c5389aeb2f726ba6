"""Bodies that unpack to a thousand times their size."""

from __future__ import annotations

import zlib
from functools import cache

_BLOCK_BYTES = 1 << 20


@cache
def gzip_bomb(unpacked_bytes: int) -> bytes:
    """A gzip stream of so many blanks, made without packing them: a flushed block repeats itself. Its end is missing."""
    packer = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16)
    head = packer.compress(b"") + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(b" " * _BLOCK_BYTES) + packer.flush(zlib.Z_FULL_FLUSH)
    return head + block * (unpacked_bytes // _BLOCK_BYTES)
