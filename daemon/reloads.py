"""Reloads: at SIGHUP the configuration is read anew, checked as a whole, and applied or refused as a whole.

The one thing to know: a configuration with an error changes nothing and ends nothing. What is wrong with it is said in
the sentences that a start would say, in the log and to the service manager.

One reload runs at a time. Signals that come meanwhile, or before the daemon is ready, lead to one more together, which
reads what the files say then. A terminal sends SIGHUP, too, when it is closed: that is a request to stop, except of a
process that was started by nohup.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import structlog

from daemon.config import Config, changed_keys, check_change
from daemon.pipeline.wakeup import Wakeup
from daemon.runtime import program, service_manager
from daemon.runtime.signals import Signals

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigReader:
    """`read` reads once more what was read at the start, and raises ConfigError. `describe` says in sentences what kept
    a configuration from being applied.
    """

    read: Callable[[], Config]
    describe: Callable[[Exception], tuple[str, ...]]


class Reloadable(Protocol):
    """What runs by a configuration. `replace` has it run by another one, or returns what kept it from that."""

    is_ready: Wakeup

    async def replace(self, config: Config) -> Exception | None: ...


def hold_back() -> None:
    """Keeps a SIGHUP waiting until `at_hangup` takes it. For the time before: it would end the process."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGHUP})


def ignore() -> None:
    """For a worker: its parent takes the signal, and tells it."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


@contextmanager
def at_hangup(config: Config, reader: ConfigReader, target: Reloadable, signals: Signals) -> Iterator[None]:
    """Reloads within the block at each SIGHUP. Afterwards the signal has no effect: everything is closing."""
    reloads = _Reloads(config, reader, target, signals)
    loop = asyncio.get_running_loop()
    ends_with_terminal = _has_terminal() and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN

    def received() -> None:
        if ends_with_terminal and not _has_terminal():
            signals.request_stop()
        else:
            reloads.requested.set()

    loop.add_signal_handler(signal.SIGHUP, received)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    reloading = asyncio.create_task(reloads.run())
    try:
        yield
    finally:
        reloading.cancel()
        loop.add_signal_handler(signal.SIGHUP, _nothing)


class _Reloads:
    def __init__(self, config: Config, reader: ConfigReader, target: Reloadable, signals: Signals) -> None:
        self.requested = Wakeup()
        self._config = config
        self._reader = reader
        self._target = target
        self._signals = signals

    async def run(self) -> None:
        await self._target.is_ready.wait_set()
        while True:
            await self.requested.wait_set()
            self.requested.clear()
            if not self._signals.is_stop_requested:
                await self._reload()

    async def _reload(self) -> None:
        service_manager.tell_reloading()
        new = self._config
        failure: Exception | None
        try:
            program.check()
            new = await asyncio.to_thread(self._reader.read)
            check_change(self._config, new)
            failure = await self._target.replace(new)
        except Exception as error:  # noqa: BLE001 - whatever the files hold, the daemon goes on, and so do its reloads
            failure = error
        if self._signals.is_stop_requested:
            return
        if failure is not None:
            problems = self._reader.describe(failure)
            log.error("config.refused", problems=problems)
            status = f"new configuration refused, the former one goes on: {'; '.join(problems)}"
        else:
            changed = [f"{section}.{key}" for section, key in changed_keys(self._config, new)]
            self._config = new
            log.info("config.reloaded", changed=changed)
            status = f"configuration reloaded: {', '.join(changed) or 'no key changed'}"
        service_manager.tell_reloaded(status)


def _nothing() -> None:
    """The action of the signal when everything is closing."""


def _has_terminal() -> bool:
    """True if this process has a controlling terminal. A terminal that was closed is none any more."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
