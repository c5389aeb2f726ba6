"""`hookledger run`: the daemon in this process, until a signal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import click
import uvloop

from daemon import app, logs
from daemon.app import ListenFailed, Running
from daemon.cli.failures import EXIT_USAGE, CliError
from daemon.cli.store import cancel_on_sigterm, config_option, settings
from daemon.config import Config


@click.command()
@config_option
@click.option("--listen", metavar="H:P", help="Where to listen; port 0 lets the system choose.")
@click.option("--workers", metavar="N", type=click.IntRange(min=1), default=1, help="Processes to run; only 1 for now.")
@click.option("--dev", is_flag=True, help="Allow loopback targets and http; refused when listening beyond loopback.")
def run(config_file: Path | None, listen: str | None, workers: int, dev: bool) -> None:
    """Run the daemon.

    Without database.url it starts the embedded PostgreSQL in the data directory. SIGTERM and Ctrl-C drain: what is in
    flight is finished and recorded; a second one stops at once.
    """
    if workers > 1:
        message = f"--workers {workers}: this version runs one process"
        raise CliError(message, hint="leave --workers out", code=EXIT_USAGE)
    config = settings(config_file, dev=dev, listen=listen)
    logs.configure(config.log.level, config.log.format)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, suppress(asyncio.CancelledError):
        runner.run(_run(config))


async def serve(config: Config, *, ready: Callable[[Running], None]) -> None:
    """The daemon, until a signal."""
    try:
        await app.run(config, ready=ready)
    except ListenFailed as error:
        raise CliError(str(error), hint="stop what listens there, or choose another address with --listen") from error


async def _run(config: Config) -> None:
    cancel_on_sigterm()
    await serve(config, ready=_announce)


def _announce(running: Running) -> None:
    operations = f", metrics and health {running.ops_url}" if running.ops_url else ""
    click.echo(f"ready: API {running.url}{operations}")
