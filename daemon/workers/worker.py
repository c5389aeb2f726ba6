"""A worker as its parent sees it: a process that gets orders, answers them by a line each, and ends."""

from __future__ import annotations

import asyncio
import contextlib
from asyncio.subprocess import Process

import structlog

from daemon import incarnations
from daemon.config import Config
from daemon.incarnations import NotReplaced
from daemon.pipeline.wakeup import Wakeup
from daemon.workers import orders
from daemon.workers.orders import WorkerOrders
from daemon.workers.watchdog import Watchdog

log = structlog.get_logger()

# A worker limits the time of a change by itself. One that does not answer for so much longer stands still.
GRACE_SECONDS = 15.0


class WorkerProcess:
    """`number` is its slot, and `config` what it runs by."""

    def __init__(self, process: Process, own: WorkerOrders, watchdog: Watchdog) -> None:
        self.number = own.number
        self.config = own.config
        self.pid = process.pid
        self._process = process
        self._watchdog = watchdog
        self._started = Wakeup()
        self._is_ready = False
        self._write(orders.encode(own))

    async def until_ready(self) -> bool:
        """False if it exits instead. To be called once. What else it prints, a library may have said while it began."""
        while (line := await self._line()) not in (orders.READY, b""):
            pass
        self._is_ready = line == orders.READY
        self._started.set()
        return self._is_ready

    async def until_exit(self) -> int:
        """Returns its code, or minus the signal that killed it. It is killed if it hangs.

        To be called once it is ready, or is not: a start may take its time.
        """
        watching = asyncio.create_task(self._kill_once_hanging())
        try:
            code = await self._process.wait()
        finally:
            watching.cancel()
            self._watchdog.close()
        if self._process.stdin is not None:
            self._process.stdin.close()
        return code

    async def _kill_once_hanging(self) -> None:
        await self._watchdog.until_hanging()
        log.error("worker.hanging", worker=self.number, pid=self.pid)
        self.kill()

    async def replace(self, config: Config) -> NotReplaced | None:
        """Has it run by `config`, once it is ready. Returns why it does not. One that exits before is not asked."""
        seconds = incarnations.longest_replacement_seconds(self.config) + GRACE_SECONDS
        if not await self._started.wait(seconds):
            return NotReplaced(
                f"worker {self.number}: it has been starting for {seconds:.0f} s; try again once it is ready"
            )
        if not self._is_ready:
            return None
        why: str | None = f"it did not answer for {seconds:.0f} s, and was killed"
        answer = b""
        self._write(orders.encode(config))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                answer = await self._line()
                why = orders.why_refused(answer)
        if not answer:
            self._is_ready = False
            self.kill()
        if why is not None:
            return NotReplaced(f"worker {self.number}: {why}")
        self.config = config
        return None

    def request_stop(self) -> None:
        self._write(orders.STOP)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def _line(self) -> bytes:
        """The next line that it prints, empty at its end. Instead of one that is too long there is an empty line."""
        try:
            return b"" if self._process.stdout is None else await self._process.stdout.readline()
        except ValueError:
            return b"\n"

    def _write(self, frame: bytes) -> None:
        if self._process.stdin is not None:
            with contextlib.suppress(OSError, RuntimeError):  # the process has exited already
                self._process.stdin.write(frame)
