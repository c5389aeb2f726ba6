"""A daemon as its operator runs it: a process, ready when it says so, its log in a file."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.cli import CommandLine
from tests.support.zygote import Forked, zygote

READY_SECONDS = 20.0
STOP_SECONDS = 25.0


@dataclass(frozen=True)
class Running:
    process: Forked
    url: str
    log: Path

    def kill(self) -> None:
        """As an accident would."""
        self.process.kill()
        self.process.wait()

    async def stop(self) -> int:
        """As systemd would; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self.process.wait, STOP_SECONDS)


@asynccontextmanager
async def running(hookledger: CommandLine, *options: str) -> AsyncIterator[Running]:
    """A daemon on loopback with `--dev`, killed at the end if nobody stopped it."""
    log = hookledger.home / "daemon.log"
    with log.open("ab") as file:
        process = zygote(hookledger.environment).start(
            ["run", "--dev", "--listen", "127.0.0.1:0", *options],
            cwd=hookledger.home,
            environment=hookledger.environment,
            log=file,
        )
    try:
        line = await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), READY_SECONDS)
        found = re.search(rb"http://[^\s,]+", line)
        assert found, (line, log.read_text()[-4000:])
        yield Running(process, found.group().decode(), log)
        # What a library has to say about an outage is its own affair.
        ours = [line for line in log.read_text().splitlines() if '"event":"library.logged"' not in line]
        assert not any("Traceback" in line for line in ours), "\n".join(ours)[-8000:]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
