"""`hookledger status`: read once and printed, or read every few seconds and shown on the whole terminal.

While the database does not answer, the live table keeps what it has and says so: it is watched most of all then.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import click

from daemon.cli.console import output
from daemon.cli.status import screen
from daemon.cli.status.observing import IN_MEMORY, Observation, Observer, document
from daemon.cli.status.screen import Grid
from daemon.cli.store import config_option, now, settings, with_store
from daemon.config import Config
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import StoreUnavailable

_DUMB = {"dumb", "unknown", ""}


@click.command()
@click.option("--once", is_flag=True, help="Print it once, whole [always, unless on a terminal].")
@click.option(
    "--every",
    "every_seconds",
    type=click.FloatRange(min=0.5, max=3600),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    help="How often the live table is read.",
)
@config_option
@output.json_option
def status(once: bool, every_seconds: float, config_file: Path | None, as_json: bool) -> None:
    """Show the state of the installation as a live table.

    Shards and their owners, lag, what waits, what is done in a second, the webhooks that fail, and what needs a person.
    It is read from the database, also while no daemon runs. What only the daemons know is in their /metrics. Ctrl-C
    ends it. With --once or --json, or if the output is no terminal, it is printed once.
    """
    config = settings(config_file)
    if once or as_json or not sys.stdout.isatty() or os.environ.get("TERM", "") in _DUMB:
        observation = with_store(config, lambda database: Observer(database).observe())
        if as_json:
            output.document(document(observation))
        else:
            _print(observation)
        return
    _follow(config, every_seconds)


def _follow(config: Config, every_seconds: float) -> None:
    async def work(database: Database) -> None:
        await _show(Observer(database), every_seconds)

    with suppress(KeyboardInterrupt):  # the way to end it
        with_store(config, work)


async def _show(observer: Observer, every_seconds: float) -> None:
    """Observes and shows until it is cancelled. If the terminal changes its size, it is filled anew at once."""
    from rich.console import Console
    from rich.live import Live

    from daemon.cli.status.terminal import filled

    loop, resized, console = asyncio.get_running_loop(), asyncio.Event(), Console()
    observation, trouble = await observer.observe(), None
    loop.add_signal_handler(signal.SIGWINCH, resized.set)
    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            due = loop.time() + every_seconds
            while (left := due - loop.time()) > 0:
                resized.clear()
                width, height = console.size
                live.update(
                    filled(observation, width=width, height=height, every_seconds=every_seconds, trouble=trouble),
                    refresh=True,
                )
                with suppress(TimeoutError):
                    await asyncio.wait_for(resized.wait(), left)
            try:
                observation, trouble = await observer.observe(), None
            except StoreUnavailable as error:
                trouble = trouble or f"cannot be read since {output.cell(now())}: {error}"


def _print(observation: Observation) -> None:
    found, report = observation.found, observation.found.report
    output.fields([("as of", report.log.at), *screen.facts(found)])
    for sentence in observation.warnings:
        click.echo(f"warning: {output.plain(sentence)}")
    for sentence in found.unread:
        click.echo(f"unread: {output.plain(sentence)}")
    if found.failing is not None and found.failing.items:
        _print_grid(screen.failing(found.failing.items, at=report.log.at))
    _print_grid(screen.owners(report))
    _print_grid(screen.shards(report))
    output.note(f"only the daemons know, see /metrics: {IN_MEMORY}")


def _print_grid(grid: Grid) -> None:
    click.echo()
    output.table([column.name for column in grid.columns], grid.rows, empty="")
