"""`hookledger demo`: the daemon, a receiver and a story, in one process and a temporary directory.

The daemon is the real one, `daemon.app.run`, on a real embedded PostgreSQL. Only its retries are faster than usual. It
ignores the settings of the environment, so that the demo does the same on every machine.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import tempfile
from collections.abc import Mapping
from itertools import count
from pathlib import Path

import click
import uvloop
from aiohttp import ClientSession, ClientTimeout
from rich.console import Console

from daemon.app import Running
from daemon.cli.console import parsing
from daemon.cli.console.failures import CliError
from daemon.cli.demo.receiver import Receiver, receiving
from daemon.cli.demo.story import TENANT, Story
from daemon.cli.run import serve
from daemon.cli.store import cancel_on_sigterm
from daemon.config import Config, LogLevel, load
from daemon.runtime.tasks import TaskGroup
from daemon.telemetry import logs

DEFAULT_LISTEN = ("127.0.0.1", 8080)
ANSWER_SECONDS = 10.0

_QUICK_RETRIES = {
    "HOOKLEDGER_DELIVERY__RETRY_FIRST_SECONDS": "0.5",
    "HOOKLEDGER_DELIVERY__RETRY_CAP_SECONDS": "2",
}


@click.command()
@click.option("--exit", "exit_after", is_flag=True, help="End after the story instead of keeping the daemon up.")
@click.option(
    "--listen",
    type=parsing.listen_address,
    metavar="H:P",
    help="Where the daemon listens [127.0.0.1:8080, or a free port if taken].",
)
def demo(exit_after: bool, listen: str | None) -> None:
    """Show what Hookledger does, on an embedded PostgreSQL.

    A route is created, disabled, enabled; a receiver fails and recovers; a key is rotated. Each line says what the
    receiver really got. Exits with 0 only if the story came true.
    """
    with tempfile.TemporaryDirectory(prefix="hookledger-demo-", ignore_cleanup_errors=True) as directory:
        config = load(None, _environment(Path(directory)), dev=True, listen=listen or _free_address())
        logs.configure_daemon(LogLevel.ERROR, None)
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(_run(config, exit_after=exit_after))
        except asyncio.CancelledError:
            raise _interrupted() from None


async def _run(config: Config, *, exit_after: bool) -> None:
    """Runs the daemon and the story. If the daemon stops before the story has ended, the story is cancelled."""
    cancel_on_sigterm()
    console = Console(highlight=False)
    console.print("Starting a daemon and its PostgreSQL in a temporary directory …", style="dim")
    ready: asyncio.Future[Running] = asyncio.get_running_loop().create_future()
    async with receiving() as receiver, TaskGroup() as group:
        daemon = group.create_task(serve(config, ready=ready.set_result))
        story = group.create_task(_tell(console, ready, receiver))
        await asyncio.wait({daemon, story}, return_when=asyncio.FIRST_COMPLETED)
        if not story.done():
            story.cancel()
            raise _interrupted()
        if story.exception() is not None:
            return
        if exit_after:
            signal.raise_signal(signal.SIGTERM)
        else:
            console.print(f"\nThe dashboard stays up at {story.result()} until Ctrl-C.", markup=False, soft_wrap=True)


async def _tell(console: Console, ready: asyncio.Future[Running], receiver: Receiver) -> str:
    """Tells the story once the daemon is ready. Returns the URL of the dashboard's list of webhooks."""
    running = await ready
    dashboard = f"{running.url}/t/{TENANT}/webhooks"
    console.print(f"Ready: dashboard {dashboard}, API {running.url}/v1\n", markup=False, soft_wrap=True)
    chapters = count(1)
    async with ClientSession(f"http://{running.address}", timeout=ClientTimeout(total=ANSWER_SECONDS)) as http:
        story = Story(
            http,
            receiver,
            say=lambda text: console.print(f"{next(chapters):2}. {text}", markup=False, soft_wrap=True),
            prove=lambda text: console.print(f"    → {text}", markup=False, soft_wrap=True, style="green"),
        )
        await story.tell()
    webhooks = len({each.webhook_id for each in receiver.received})
    console.print(f"\nThe story came true: {len(receiver.received)} requests for {webhooks} webhooks.", style="bold")
    return dashboard


def _interrupted() -> CliError:
    return CliError("the story was interrupted")


def _environment(directory: Path) -> Mapping[str, str]:
    return {"HOOKLEDGER_DATABASE__DATA_DIR": str(directory), **_QUICK_RETRIES}


def _free_address() -> str:
    host, port = DEFAULT_LISTEN
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(DEFAULT_LISTEN)
        except OSError:
            port = 0
    return f"{host}:{port}"
