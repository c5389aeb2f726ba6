"""The bytes of a file or a pipe, chunk by chunk, without waiting for a slow pipe to fill a batch."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator
from typing import BinaryIO

CHUNK_BYTES = 1 << 18
IDLE_SECONDS = 0.2


async def chunks(file: BinaryIO) -> AsyncIterator[bytes]:
    """The content of a file, chunk by chunk. An empty chunk means that a pipe has nothing to say at the moment."""
    if not is_pipe(file):
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
        return
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    descriptor = file.fileno()
    while True:
        loop.add_reader(descriptor, ready.set)
        try:
            try:
                await asyncio.wait_for(ready.wait(), IDLE_SECONDS)
            except TimeoutError:
                yield b""
                await ready.wait()
        finally:
            loop.remove_reader(descriptor)
        ready.clear()
        if not (chunk := os.read(descriptor, CHUNK_BYTES)):
            return
        yield chunk


def is_pipe(file: BinaryIO) -> bool:
    """True if reading may have to wait for somebody."""
    mode = os.fstat(file.fileno()).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or file.isatty()
