"""`hookledger run`: the daemon, in this process or in several, until a signal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path

import click
import structlog
import uvloop

from daemon import reloads
from daemon.app import LoopFailed, Running
from daemon.cli.console import failures, parsing
from daemon.cli.console.failures import CliError
from daemon.cli.store import config_option, settings
from daemon.config import Config
from daemon.incarnations import Incarnations
from daemon.reloads import ConfigReader
from daemon.runtime import open_files, program, service_manager, signals
from daemon.telemetry import logs
from daemon.web.http.listeners import ListenFailed, open_listeners
from eventstore import embedded

log = structlog.get_logger()

STANDARD_INPUT = 0

# There are 16 shards to share out. Others than their owners serve HTTP; a number with a zero too many fills the memory.
MAX_WORKERS = 256


@click.command()
@config_option
@click.option(
    "--listen", type=parsing.listen_address, metavar="H:P", help="Where to listen; port 0 lets the system choose."
)
@click.option("--workers", metavar="N", type=click.IntRange(1, MAX_WORKERS), default=1, help="Processes to run.")
@click.option("--dev", is_flag=True, help="Allow loopback targets and http; refused when listening beyond loopback.")
@click.option(
    "--as-worker",
    metavar="VERSION",
    is_flag=False,
    flag_value="",
    hidden=True,
    help="Be one of several workers of a parent of this version, with orders from the standard input.",
)
def run(config_file: Path | None, listen: str | None, workers: int, dev: bool, as_worker: str | None) -> int:
    """Run the daemon.

    Without database.url it starts the embedded PostgreSQL in the data directory. SIGTERM and Ctrl-C drain: requests in
    flight are finished and recorded. A second signal stops at once. SIGHUP has the configuration read anew: it is
    applied without an interruption, or refused as a whole if it has an error or changes a key that takes a restart.
    With several workers a process that dies is started again, and all of them answer on the one address.
    """
    open_files.keep_inherited()
    if as_worker is not None:
        return _run_worker(as_worker)
    reloads.hold_back()
    read = partial(settings, config_file, dev=dev, listen=listen, for_daemon=True)
    reader = ConfigReader(read=partial(read, is_again=True), describe=_sentences)
    config = read()
    logs.configure_daemon(config.log.level, config.log.format)
    serving = serve(config, ready=_announce, reader=reader) if workers == 1 else _supervise(config, workers, reader)
    return _run_until_end(serving)


async def serve(config: Config, *, ready: Callable[[Running], None], reader: ConfigReader | None = None) -> int:
    """Runs the daemon in this process until a signal, and reloads if there is a reader. Returns the exit code."""
    with signals.listening(embedded.stop_at_once) as received, _listen_failures():
        incarnations = Incarnations(config, open_listeners(config.server))
        with received.stopping(incarnations.stop), ExitStack() as stack:
            if reader is not None:
                stack.enter_context(reloads.at_hangup(config, reader, incarnations, received))
            await incarnations.run(ready)
    return 0


async def _supervise(config: Config, count: int, reader: ConfigReader) -> int:
    from daemon.workers import parent

    with _listen_failures():
        return await parent.run(config, count, reader, ready=_announce)


def _run_worker(version: str) -> int:
    from daemon.workers import child, orders

    service_manager.leave_to_parent()
    reloads.ignore()
    if (refusal := program.refusal_of(version)) is not None:
        raise CliError(refusal, hint=program.REMEDY, code=program.OTHER_VERSION)
    try:
        own = orders.read(STANDARD_INPUT)
    except EOFError as error:
        raise CliError("there are no orders for a worker", hint="run --workers N", code=failures.EXIT_USAGE) from error
    logs.configure_daemon(own.config.log.level, own.config.log.format)
    structlog.contextvars.bind_contextvars(worker=own.number)
    with _listen_failures(code=orders.NOT_LISTENING):
        return _run_until_end(child.run(own, control_pipe=STANDARD_INPUT, describe=_sentences))


def _run_until_end(main: Coroutine[None, None, int]) -> int:
    """Runs `main` and returns the exit code. A loop that failed is one line in the log, not an `error:` on stderr."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner, suppress(asyncio.CancelledError):
        try:
            return runner.run(service_manager.watched(main))
        except LoopFailed as failed:
            log.exception("daemon.failed", cause=failures.describe(failed).messages[0])
            return failures.EXIT_FAILED
    return 0


def _sentences(error: Exception) -> tuple[str, ...]:
    """What a start would print."""
    report = failures.describe(error)
    return (*report.messages, f"try: {report.hint}") if report.hint else report.messages


@contextmanager
def _listen_failures(*, code: int = failures.EXIT_FAILED) -> Iterator[None]:
    try:
        yield
    except ListenFailed as error:
        raise CliError(str(error), hint=error.hint, code=code) from error


def _announce(running: Running) -> None:
    operations = f", metrics and health {running.ops_url}" if running.ops_url else ""
    service_manager.tell(service_manager.READY)
    click.echo(f"ready: dashboard and API {running.url}{operations}")
