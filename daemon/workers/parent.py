"""The parent of workers: starts them, restarts them, and stops them together.

    starting --writes ready--> ready --exits by itself--> dead --after a pause--> starting
    ready --hangs--> killed, and so dead
    starting, ready --stop--> finishing --exits, or is killed--> gone

A reload tells another configuration to one worker after the other, each of which changes over without an interruption
(daemon.incarnations). If one refuses it, those before it are told to go back. A worker that dies meanwhile, or is
starting, gets what is in effect at its next start, or its turn once it is ready.

Worker 0 starts alone: a problem that keeps one worker from starting keeps all of them from it, and so it is reported
once. If worker 0 exits with a code that a second try would not change, the parent exits with that code; with 1 if
somebody else listens on the address, as one process does.

A worker of another version (daemon.runtime.program) refuses to start. The others go on; once there is none left, the
parent exits, and whatever starts it anew starts the version that is installed.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import structlog

import daemon
from daemon import __version__, app, reloads
from daemon.app import Running
from daemon.config import Config, Secret
from daemon.incarnations import NotReplaced
from daemon.pipeline.wakeup import Wakeup
from daemon.reloads import ConfigReader
from daemon.runtime import open_files, program, signals
from daemon.runtime.tasks import TaskGroup
from daemon.store import embedded_server, open_vault
from daemon.telemetry import logs, metrics
from daemon.web.http.listeners import Listeners, open_listeners
from daemon.workers import orders
from daemon.workers.orders import WorkerOrders
from daemon.workers.watchdog import Watchdog
from daemon.workers.worker import WorkerProcess
from eventstore import embedded

log = structlog.get_logger()

# Wrong usage, no database, wrong configuration: a second try fails as well until a person acts.
PERMANENT_FAILURES = frozenset({2, 69, 78})
KILLED = 1

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 10.0
# A worker that ran for so long did not fail at its start: the pauses begin again with the first one.
HEALTHY_SECONDS = 60.0
# Beyond the timeout of requests in flight: time to record them, close connections of clients and exit.
FINISH_SECONDS = 15.0


def pause_seconds(failures: int) -> float:
    """The pause before the next start, after so many deaths in a row."""
    return float(min(FIRST_PAUSE_SECONDS * 2 ** min(failures - 1, 16), LONGEST_PAUSE_SECONDS))


async def run(config: Config, count: int, reader: ConfigReader, *, ready: Callable[[Running], None]) -> int:
    """Runs `count` workers until a signal, and returns the exit code. `ready` is called once all of them are ready.

    Raises what `daemon.app.run` raises before it is ready.
    """
    directory = Path(tempfile.mkdtemp(prefix="hookledger-"))
    kept = metrics.keep_directory(directory)
    workers: Workers | None = None

    def at_once() -> None:
        if workers is not None:
            workers.kill()
        shutil.rmtree(directory, ignore_errors=True)
        embedded.stop_at_once()

    try:
        with signals.listening(at_once) as received:
            async with _prepared(config) as (worker_config, inherited):
                listeners = open_listeners(config.server)
                workers = Workers(worker_config, count, listeners, directory=directory, inherited=inherited)
                with closing(listeners), received.stopping(workers.stop):
                    running = app.running_at(config, listeners)
                    with reloads.at_hangup(config, reader, workers, received):
                        return await workers.run(lambda: ready(running))
    finally:
        os.close(kept)
        shutil.rmtree(directory, ignore_errors=True)


@asynccontextmanager
async def _prepared(config: Config) -> AsyncIterator[tuple[Config, tuple[int, ...]]]:
    """The configuration for workers, and the file descriptors that they inherit to use the same PostgreSQL."""
    inherited: tuple[int, ...] = ()
    async with AsyncExitStack() as stack:
        if config.database.url is None:
            server = await stack.enter_async_context(embedded_server(config.database.data_dir))
            inherited = (server.users_descriptor,)
            config = config.with_database(Secret(server.url))
        async with app.prepared(config) as opened:
            vault = await open_vault(config, opened)
            await vault.check(opened)
        yield config, inherited


class Workers:
    """`run` returns the exit code when all workers have exited. `stop` asks them to finish, `kill` kills them."""

    def __init__(
        self, config: Config, count: int, listeners: Listeners, *, directory: Path, inherited: tuple[int, ...]
    ) -> None:
        self.is_ready = Wakeup()
        self._count = count
        self._listeners = listeners
        self._directory = directory
        self._orders = WorkerOrders(
            number=0,
            config=config,
            main=orders.inherited_sockets(listeners.main),
            ops=None if listeners.ops is None else orders.inherited_sockets(listeners.ops),
            watchdog=-1,  # each has one of its own
        )
        self._descriptors = self._orders.descriptors + inherited
        self._finish_seconds = config.delivery.timeout_seconds + FINISH_SECONDS
        self._stopping = Wakeup()
        self._first_is_ready = Wakeup()
        self._alive: dict[int, WorkerProcess] = {}
        self._were_ready: set[int] = set()
        self._exit_code = 0

    def stop(self) -> None:
        self._stopping.set()
        self._first_is_ready.set()

    def kill(self) -> None:
        for worker in self._alive.values():
            worker.kill()

    async def replace(self, config: Config) -> Exception | None:
        """Has all workers run by `config`, or all by the one before. Returns what kept them from it."""
        if not self._alive:
            return NotReplaced("no worker runs at this moment, to try it; reload again once one does")
        former = self._orders.config
        failure = await self._change_over(config.with_database(former.database.url))
        if failure is None:
            logs.configure(config.log.level, config.log.format, sys.stderr)
        elif (hindrance := await self._change_over(former)) is not None:
            log.error("worker.not_returned", cause=str(hindrance))
        return failure

    async def _change_over(self, config: Config) -> NotReplaced | None:
        self._orders = replace(self._orders, config=config)
        self._finish_seconds = max(self._finish_seconds, config.delivery.timeout_seconds + FINISH_SECONDS)
        for number in range(self._count):
            worker = self._alive.get(number)
            if worker is not None and worker.config is not config and not self._stopping.is_set:
                failure = await worker.replace(config)
                if failure is not None:
                    return failure
        return None

    async def run(self, ready: Callable[[], None]) -> int:
        async with TaskGroup() as group:
            slots = [group.create_task(self._run_slot(number, ready)) for number in range(self._count)]
            try:
                await self._stopping.wait_set()
            except asyncio.CancelledError:
                self.kill()
                raise
            self._listeners.close()  # a new connection must be refused, not left without an answer
            for worker in self._alive.values():
                worker.request_stop()
            _, late = await asyncio.wait(slots, timeout=self._finish_seconds)
            if late:
                log.error("worker.killed", workers=sorted(self._alive))
                self._exit_code = KILLED
                self.kill()
        return self._exit_code

    async def _run_slot(self, number: int, ready: Callable[[], None]) -> None:
        """Keeps a worker running in one slot, until all are to stop."""
        if number:
            await self._first_is_ready.wait_set()
        failures = 0
        while not self._stopping.is_set:
            started_at = time.monotonic()
            worker = await self._start(number)
            if worker is not None:
                code = await self._until_exit(worker, ready)
                metrics.remove_gauges(number, self._directory)
                if self._is_final(code):
                    return
                self._tell_death(worker, code)
            failures = 1 if time.monotonic() - started_at >= HEALTHY_SECONDS else failures + 1
            await self._stopping.wait(pause_seconds(failures))

    async def _start(self, number: int) -> WorkerProcess | None:
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)  # somebody may have cleaned up there
            watchdog = Watchdog()
        except OSError as error:
            self._tell_unstartable(number, error)
            return None
        try:
            open_files.require_for_start()
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "daemon", "run", "--as-worker", __version__),
                stdin=PIPE,
                stdout=PIPE,
                pass_fds=(*self._descriptors, watchdog.descriptor),
                start_new_session=True,
                env=self._environment(),
            )
        except OSError as error:
            watchdog.close()
            self._tell_unstartable(number, error)
            return None
        finally:
            watchdog.close_writing()
        log.info("worker.started", worker=number, pid=process.pid)
        return WorkerProcess(process, replace(self._orders, number=number, watchdog=watchdog.descriptor), watchdog)

    def _tell_unstartable(self, number: int, error: OSError) -> None:
        log.warning("worker.unstartable", worker=number, cause=error.strerror)

    async def _until_exit(self, worker: WorkerProcess, ready: Callable[[], None]) -> int:
        """Waits for its exit. Returns its code, or minus the signal that killed it."""
        self._alive[worker.number] = worker
        if self._stopping.is_set:
            worker.request_stop()
        if await worker.until_ready():
            is_first_time = worker.number not in self._were_ready
            self._were_ready.add(worker.number)
            self._first_is_ready.set()
            if is_first_time and len(self._were_ready) == self._count:
                ready()
                self.is_ready.set()
        code = await worker.until_exit()
        del self._alive[worker.number]
        return code

    def _is_final(self, code: int) -> bool:
        """Whether the slot stays empty after this exit. Sets the exit code, and stops all after a permanent failure.

        What one worker finds and another did not, such as a database without a connection for it, may pass.
        """
        is_told = code in PERMANENT_FAILURES or code == orders.NOT_LISTENING
        is_permanent = is_told and not self._were_ready and not self._stopping.is_set
        is_last = code == program.OTHER_VERSION and not self._alive and not self._stopping.is_set
        if is_permanent or is_last or (self._stopping.is_set and code):
            self._exit_code = code if is_permanent and code in PERMANENT_FAILURES else KILLED
        if is_permanent or is_last:
            self.stop()
        return self._stopping.is_set

    def _tell_death(self, worker: WorkerProcess, code: int) -> None:
        if code == program.OTHER_VERSION:
            found = {"version": __version__, "installed": program.installed_version(), "hint": program.REMEDY}
            log.error("worker.other_version", worker=worker.number, **found)
        else:
            log.warning("worker.died", worker=worker.number, pid=worker.pid, code=code)

    def _environment(self) -> dict[str, str]:
        """Our environment, with the folder of this package: with -P nothing is imported from the current directory."""
        folder = str(Path(daemon.__file__).parents[1])
        python_path = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))
        return {**os.environ, "PYTHONPATH": python_path, metrics.DIRECTORY_VARIABLE: str(self._directory)}
