"""How an observation fills a terminal of any size: by rich, on a screen of its own that disappears at the end.

The most important things stand first. What a small terminal has no place for is left out by whole columns and rows, and
never wrapped, so that the shape of the screen does not change from one observation to the next.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from daemon.cli.console import output
from daemon.cli.status import screen
from daemon.cli.status.observing import IN_MEMORY, Observation
from daemon.cli.status.screen import Grid

_FAILING_ROWS = 5
_SENTENCES = 4
_ALARM, _QUIET = "bold red", "dim"


def filled(
    observation: Observation, *, width: int, height: int, every_seconds: float, trouble: str | None
) -> RenderableType:
    """The screen. `trouble` says why the observation is not of now."""
    found, report = observation.found, observation.found.report
    head = f"hookledger status   {output.cell(report.log.at)}   every {every_seconds:g} s, Ctrl-C ends it"
    lines = [_line(head, "bold"), *([] if trouble is None else [_line(trouble, _ALARM)])]
    lines += [_line(each) for each in screen.packed(screen.facts(found), width=width)]
    lines += _sentences([*observation.warnings, *found.unread])
    foot = _line(f"Only the daemons know, see /metrics: {IN_MEMORY}.", _QUIET)
    grids = []
    if found.failing is not None and found.failing.items:
        grids.append(screen.failing(found.failing.items, at=report.log.at).head(_FAILING_ROWS))
    left = height - len(lines) - sum(len(grid.rows) + 2 for grid in grids) - 4
    grids.append(screen.shards(report) if len(report.shards) <= left else screen.owners(report))
    parts: list[RenderableType] = [*lines]
    for grid in grids:
        parts += [Text(), _table(grid, width=width)]
    return Group(*parts, Text(), foot)


def _sentences(sentences: Sequence[str]) -> list[Text]:
    shown = [_line(f"! {each}", _ALARM) for each in sentences[:_SENTENCES]]
    left = len(sentences) - len(shown)
    return [*shown, *([_line(f"! and {left} more: --once has them all", _ALARM)] if left else [])]


def _table(grid: Grid, *, width: int) -> Table:
    places = [place for place, column in enumerate(grid.columns) if column.from_width <= width]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for place in places:
        column = grid.columns[place]
        table.add_column(
            column.name, justify="right" if column.is_number else "left", no_wrap=True, overflow="ellipsis"
        )
    for number, row in enumerate(grid.rows):
        style = _ALARM if number in grid.unhealthy else ""
        table.add_row(*(Text(output.plain(row[place])) for place in places), style=style)
    return table


def _line(text: str, style: str = "") -> Text:
    return Text(output.plain(text), style=style, no_wrap=True, overflow="ellipsis")
