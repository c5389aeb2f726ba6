"""A progress bar on a terminal's stderr, silence elsewhere; reports go past it either way."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

from daemon.cli import output
from daemon.cli.chunks import is_pipe


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """`advance` by bytes read and say where it stands; `report` one line about something that is wrong."""

    advance: Callable[[int, str], None]
    report: Callable[[str], None]


@contextmanager
def of_reading(file: BinaryIO) -> Iterator[Shown]:
    """Progress through a file by its bytes, without an end for a pipe."""
    if not sys.stderr.isatty():
        yield Shown(advance=lambda _bytes, _text: None, report=output.note)
        return
    total = None if is_pipe(file) else os.fstat(file.fileno()).st_size
    columns = (SpinnerColumn(), BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"))
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield Shown(
            advance=lambda size_bytes, text: bar.update(task, advance=size_bytes, description=text),
            report=lambda message: bar.console.print(escape(output.plain(message)), highlight=False),
        )
