"""The bytes of a file or a pipe, chunk by chunk, without waiting for a slow pipe to fill a batch."""

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


# A progress bar on a terminal's stderr, silence elsewhere; reports go past it either way.


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadProgress:
    """`advance` by bytes read and say where it stands; `report` one line about something that is wrong."""

    advance: Callable[[int, str], None]
    report: Callable[[str], None]


@contextmanager
def of_reading(file: BinaryIO) -> Iterator[ReadProgress]:
    """Progress through a file by its bytes, without an end for a pipe."""
    if not sys.stderr.isatty():
        yield ReadProgress(advance=lambda _bytes, _text: None, report=output.note)
        return
    total = None if is_pipe(file) else os.fstat(file.fileno()).st_size
    columns = (SpinnerColumn(), BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield ReadProgress(
            advance=lambda size_bytes, text: bar.update(task, advance=size_bytes, description=text),
            report=lambda message: bar.console.print(escape(output.plain(message)), highlight=False),
        )
