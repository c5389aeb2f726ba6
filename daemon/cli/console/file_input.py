"""Reading a file or a pipe chunk by chunk, with a progress bar on a terminal.

The one thing to know: a slow pipe must not hold back what it has sent. `chunks` yields an empty chunk when a pipe is
idle, so that the caller can process an incomplete batch.
"""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

from daemon.cli.console import output

CHUNK_BYTES = 1 << 18
IDLE_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadProgress:
    """`advance` takes the number of bytes just read, and a text to show. `report` prints one line about a problem."""

    advance: Callable[[int, str], None]
    report: Callable[[str], None]


async def chunks(file: BinaryIO) -> AsyncIterator[bytes]:
    """The content of a file in chunks of at most CHUNK_BYTES. A pipe that was idle for IDLE_SECONDS yields b""."""
    if not _is_pipe(file):
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


@contextmanager
def read_progress(file: BinaryIO) -> Iterator[ReadProgress]:
    """A progress bar on stderr, by bytes; a pipe has no total. If stderr is no terminal, only reports are printed."""
    if not sys.stderr.isatty():
        yield ReadProgress(advance=lambda _bytes, _text: None, report=output.note)
        return
    total = None if _is_pipe(file) else os.fstat(file.fileno()).st_size
    columns = (SpinnerColumn(), BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield ReadProgress(
            advance=lambda size_bytes, text: bar.update(task, advance=size_bytes, description=text),
            report=lambda message: bar.console.print(escape(output.plain(message)), highlight=False),
        )


def _is_pipe(file: BinaryIO) -> bool:
    """True if a read may have to wait for a writer."""
    mode = os.fstat(file.fileno()).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) or file.isatty()
