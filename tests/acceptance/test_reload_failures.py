"""A reload that fails in a way that nobody thought of: it is refused, and the next one works."""

from __future__ import annotations

import asyncio
import os
import signal

from daemon import reloads
from daemon.config import Config, load
from daemon.pipeline.wakeup import Wakeup
from daemon.reloads import ConfigReader
from daemon.runtime.signals import Signals

SECONDS = 30.0


class Fragile:
    """Breaks at the first reload, and notes what it is to run by at others."""

    def __init__(self) -> None:
        self.is_ready = Wakeup()
        self.is_ready.set()
        self.asked: list[str] = []
        self.replaced = Wakeup()

    async def replace(self, config: Config) -> Exception | None:
        self.asked.append(config.dashboard.name)
        if len(self.asked) == 1:
            raise ValueError("it is broken")
        self.replaced.set()
        return None


async def test_a_reload_that_breaks_is_refused_and_another_one_is_taken() -> None:
    names, refused = iter(["second", "third"]), Wakeup()

    def describe(error: Exception) -> tuple[str, ...]:
        refused.set()
        return (str(error),)

    def read() -> Config:
        return load(None, {"HOME": "/nowhere", "HOOKLEDGER_DASHBOARD__NAME": next(names)})

    target, reader = Fragile(), ConfigReader(read=read, describe=describe)
    former = load(None, {"HOME": "/nowhere"})
    async with asyncio.timeout(SECONDS):
        with reloads.at_hangup(former, reader, target, Signals(lambda: None)):
            os.kill(os.getpid(), signal.SIGHUP)
            await refused.wait_set()
            os.kill(os.getpid(), signal.SIGHUP)
            await target.replaced.wait_set()
    assert target.asked == ["second", "third"]
