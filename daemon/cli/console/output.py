"""Tables for people, JSON for programs. Every command prints through this module.

A terminal gets a table made by rich; one that is too narrow for it gets one row below the other. A pipe gets the same
columns without a frame and without truncation, so that `grep` and `awk` see whole values; so does a terminal if the
rows are many, since rich takes a millisecond for each: 100,000 routes took it more than a minute. `--json` prints one
JSON document. Texts of merchants are printed as plain text: neither markup nor control characters in them reach the
terminal.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime

import click

from daemon.core import texts

# Beyond that nobody looks at a frame.
_FRAMED_ROWS = 1000

# A column of a table is not narrower than that, or than its texts: a time is folded after its day.
_LEAST_COLUMN = 16
# What the frame takes for each column; it takes one more at its end.
_FRAME_COLUMNS = 3

json_option: Callable[[click.decorators.FC], click.decorators.FC] = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON."
)


def table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, empty: str) -> None:
    """Prints rows under their headings, or the sentence `empty` if there are no rows."""
    if not rows:
        click.echo(empty)
        return
    texts_of_rows = [[cell(value) for value in row] for row in rows]
    if sys.stdout.isatty() and len(rows) <= _FRAMED_ROWS:
        _for_people(columns, texts_of_rows)
    else:
        _plain_columns([list(columns), *texts_of_rows])


def _for_people(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table with a frame, or one row below the other if the terminal is so narrow that it would cut words up."""
    from rich import box
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console, table, least_width = Console(), Table(box=box.SIMPLE_HEAD, header_style="bold"), 1
    for column, *cells in zip(columns, *rows, strict=True):
        widest = max(map(cell_len, (column, *cells)))
        least_width += _FRAME_COLUMNS + (widest if column == "id" else min(widest, _LEAST_COLUMN))
        table.add_column(column, overflow="fold", no_wrap=column == "id")
    if least_width > console.width:
        for number, row in enumerate(rows):
            if number:
                click.echo()
            fields(list(zip(columns, row, strict=True)))
        return
    for row in rows:
        table.add_row(*(Text(text) for text in row))
    console.print(table)


def _plain_columns(rows: Sequence[Sequence[str]]) -> None:
    """Each column as wide as its widest text on a screen, where some characters take two places or none."""
    from rich.cells import cell_len

    sizes = [[len(text) if text.isascii() else cell_len(text) for text in row] for row in rows]
    widths = [max(column) for column in zip(*sizes, strict=True)]
    for row, taken in zip(rows, sizes, strict=True):
        padded = [text + " " * (width - size) for text, size, width in zip(row, taken, widths, strict=True)]
        click.echo("  ".join(padded).rstrip())


def fields(pairs: Sequence[tuple[str, object]]) -> None:
    """Prints one object: a name and its value on each line."""
    width = max(len(name) for name, _ in pairs)
    for name, value in pairs:
        click.echo(f"{click.style(name.ljust(width), bold=True)}  {cell(value)}")


def document(value: object) -> None:
    """Prints a JSON document: indented for a terminal, on one line for a pipe."""
    import orjson

    option = orjson.OPT_INDENT_2 if sys.stdout.isatty() else 0
    click.echo(orjson.dumps(value, option=option, default=str))


def part(json: bytes) -> object:
    """What is JSON already, as a part of a document. A terminal gets it indented, as all else."""
    import orjson

    return orjson.loads(json) if sys.stdout.isatty() else orjson.Fragment(json)


def note(message: str) -> None:
    """A line on stderr for the person who waits, never part of a command's output."""
    with even_unread():
        click.echo(plain(message), err=True)


def ask(question: str) -> str:
    """What a person types at a question on stderr. Raises click.Abort if nobody does.

    Nobody sees what comes by a pipe, nor its line's end: then the line of the question is ended here, so that what
    is said next, as `error: …`, begins a line.
    """
    try:
        typed: str = click.prompt(question, err=True, default="", show_default=False)
    except click.Abort:
        click.echo(err=True)
        raise
    if not sys.stdin.isatty():
        click.echo(err=True)
    return typed.strip()


@contextmanager
def even_unread() -> Iterator[None]:
    """For what a command says of what it did or found: that nobody reads it to its end must not end the command, and
    with it decide upon the exit code.
    """
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except BrokenPipeError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def working(what: str) -> Iterator[None]:
    """A spinner beside `what` if stderr is a terminal, else nothing."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield


def cell(value: object) -> str:
    """A value as a table shows it. An absent or empty value is a dash."""
    match value:
        case None | "" | () | []:
            return "–"
        case datetime():
            return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}Z"
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return ", ".join(cell(item) for item in value)
        case _:
            return plain(str(value))


def plain(text: str) -> str:
    """`text` on one line, with control characters escaped, so that no event can move an operator's cursor."""
    return texts.on_one_line(text)
