"""The parent of workers: starts them, starts them anew, and ends them together.

    starting --says ready--> ready --ends by itself--> dead --after a while--> starting
    starting, ready --stop--> finishing --ends, or is killed--> gone

Worker 0 starts alone: what keeps a daemon from starting keeps all of its workers from it, and is said once. If it ends
with a code that no second try changes, the parent ends with it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import structlog

import daemon
from daemon import app, metrics, signals
from daemon.app import Running
from daemon.config import Config, Secret
from daemon.pipeline.wakeup import Wakeup
from daemon.store import vault_of
from daemon.web.http.listeners import Listeners, open_listeners
from daemon.workers import orders
from daemon.workers.orders import WorkerOrders
from eventstore import embedded

log = structlog.get_logger()

# Wrong usage, no database, wrong configuration: trying again changes nothing while nobody looks after it.
HOPELESS = frozenset({2, 69, 78})
KILLED = 1

FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 10.0
# Who lived so long died of something new.
HEALTHY_SECONDS = 60.0
# Beyond the timeout of the requests under way: recording them, closing connections of clients, leaving.
FINISH_SECONDS = 15.0


def pause_seconds(failures: int) -> float:
    """Before the next start, after so many deaths in a row."""
    return float(min(FIRST_PAUSE_SECONDS * 2 ** min(failures - 1, 16), LONGEST_PAUSE_SECONDS))


async def run(config: Config, count: int, *, ready: Callable[[Running], None]) -> int:
    """Runs `count` workers until a signal; `ready` is called once all of them answer. The exit code.

    Raises what `daemon.app.run` raises before it is ready.
    """
    directory = Path(tempfile.mkdtemp(prefix="hookledger-"))
    workers: list[Workers] = []

    def at_once() -> None:
        for each in workers:
            each.kill()
        shutil.rmtree(directory, ignore_errors=True)
        embedded.stop_at_once()

    try:
        with signals.listening(at_once) as received:
            async with _prepared(config) as (given, inherited):
                listeners = open_listeners(config.server)
                try:
                    them = Workers(given, count, listeners, directory=directory, inherited=inherited)
                    workers.append(them)
                    with received.stopping(them.stop):
                        code = await them.run(lambda: ready(app.announced(config, listeners)))
                finally:
                    listeners.close()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return code


@asynccontextmanager
async def _prepared(config: Config) -> AsyncIterator[tuple[Config, tuple[int, ...]]]:
    """The configuration as workers need it, and which files they inherit to use the same PostgreSQL."""
    server = None
    inherited: tuple[int, ...] = ()
    if config.database.url is None:
        server = await asyncio.to_thread(embedded.start, config.database.data_dir)
        inherited = (server.use,)
        database = config.database.model_copy(update={"url": Secret(server.url)})
        config = config.model_copy(update={"database": database})
    try:
        async with app.prepared(config) as opened:
            vault = await asyncio.to_thread(vault_of, config)
            await vault.check(opened)
        yield config, inherited
    finally:
        if server is not None:
            await asyncio.to_thread(server.stop)


class Workers:
    """`run` returns when all have ended, with the exit code; `stop` asks for that, `kill` leaves no choice."""

    def __init__(
        self, config: Config, count: int, listeners: Listeners, *, directory: Path, inherited: tuple[int, ...]
    ) -> None:
        self._count = count
        self._doors = listeners
        self._directory = directory
        self._orders = WorkerOrders(
            number=0,
            config=config,
            main=orders.inherited(listeners.main),
            ops=None if listeners.ops is None else orders.inherited(listeners.ops),
        )
        self._files = self._orders.files + inherited
        self._finish_seconds = config.delivery.timeout_seconds + FINISH_SECONDS
        self._stopping = Wakeup()
        self._first_is_ready = Wakeup()
        self._alive: dict[int, Process] = {}
        self._were_ready: set[int] = set()
        self._code = 0

    def stop(self) -> None:
        self._stopping.set()
        self._first_is_ready.set()

    def kill(self) -> None:
        for process in self._alive.values():
            with contextlib.suppress(ProcessLookupError):
                process.kill()

    async def run(self, ready: Callable[[], None]) -> int:
        async with asyncio.TaskGroup() as group:
            keepers = [group.create_task(self._keep(number, ready)) for number in range(self._count)]
            try:
                await self._stopping.wait_set()
            except asyncio.CancelledError:
                self.kill()
                raise
            self._doors.close()  # who connects now must not wait for nobody
            for process in self._alive.values():
                _ask(process)
            _, late = await asyncio.wait(keepers, timeout=self._finish_seconds)
            if late:
                log.error("worker.killed", workers=sorted(self._alive))
                self._code = KILLED
                self.kill()
        return self._code

    async def _keep(self, number: int, ready: Callable[[], None]) -> None:
        """Keeps one place filled."""
        if number:
            await self._first_is_ready.wait_set()
        failures = 0
        while not self._stopping.is_set:
            began = time.monotonic()
            process = await self._start(number)
            if process is not None:
                self._alive[number] = process
                code = await self._attend(number, process, ready)
                del self._alive[number]
                metrics.forget(number, self._directory)
                if self._ends_with(number, code):
                    return
                log.warning("worker.died", worker=number, pid=process.pid, code=code)
            failures = 1 if time.monotonic() - began >= HEALTHY_SECONDS else failures + 1
            await self._stopping.wait(pause_seconds(failures))

    async def _start(self, number: int) -> Process | None:
        try:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", "daemon", "run", "--as-worker"),
                stdin=PIPE,
                stdout=PIPE,
                pass_fds=self._files,
                start_new_session=True,
                env=self._environment(),
            )
        except OSError as error:
            log.warning("worker.unstartable", worker=number, cause=error.strerror)
            return None
        log.info("worker.started", worker=number, pid=process.pid)
        return process

    async def _attend(self, number: int, process: Process, ready: Callable[[], None]) -> int:
        """Accompanies a worker from its orders to its end; its exit code, negative for the signal that killed it."""
        _write(process, orders.written(replace(self._orders, number=number)))
        if self._stopping.is_set:
            _ask(process)
        if process.stdout is not None and await process.stdout.readline() == orders.READY:
            is_news = number not in self._were_ready
            self._were_ready.add(number)
            self._first_is_ready.set()
            if is_news and len(self._were_ready) == self._count:
                ready()
        code = await process.wait()
        if process.stdin is not None:
            process.stdin.close()
        return code

    def _ends_with(self, number: int, code: int) -> bool:
        """Whether this was the end of more than a worker's life."""
        is_refused = code in HOPELESS and number not in self._were_ready and not self._stopping.is_set
        if is_refused or (self._stopping.is_set and code):
            self._code = code if is_refused else KILLED
        if is_refused:
            self.stop()
        return self._stopping.is_set

    def _environment(self) -> dict[str, str]:
        """Ours, with the place where this package lies: with -P nothing is imported from the current directory."""
        place = str(Path(daemon.__file__).parents[1])
        path = os.pathsep.join(filter(None, [place, os.environ.get("PYTHONPATH")]))
        return {**os.environ, "PYTHONPATH": path, metrics.DIRECTORY_VARIABLE: str(self._directory)}


def _ask(process: Process) -> None:
    _write(process, orders.STOP)


def _write(process: Process, text: bytes) -> None:
    if process.stdin is not None:
        with contextlib.suppress(OSError, RuntimeError):  # it is gone already
            process.stdin.write(text)
