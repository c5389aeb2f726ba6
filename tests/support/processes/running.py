"""A daemon as an operator runs it: a process that prints when it is ready, with its log in a file."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import ClientSession

from tests.support.processes.cli import CommandLine
from tests.support.processes.zygote import Forked, zygote

READY_SECONDS = 20.0
STOP_SECONDS = 25.0


@dataclass(frozen=True)
class Running:
    """The daemon's process, the address of its API, and the file of its log."""

    process: Forked
    url: str
    log: Path

    def lines(self) -> list[dict[str, Any]]:
        """The lines of the log, without one that is still being written."""
        return [json.loads(line) for line in self.log.read_text().splitlines(keepends=True) if line.endswith("}\n")]

    def events(self, *names: str) -> list[dict[str, Any]]:
        """The lines of the log about these events, in order."""
        return [line for line in self.lines() if line["event"] in names]

    def kill(self) -> None:
        """Kills the daemon with SIGKILL, as a crash would."""
        self.process.kill()
        self.process.wait()

    async def stop(self) -> int:
        """Stops the daemon with SIGTERM, as systemd does. Returns the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self.process.wait, STOP_SECONDS)


async def publish(daemon: Running, *ids: str) -> None:
    """Publishes events with these ids for the tenant acme, one after the other."""
    async with ClientSession(daemon.url) as http:
        for event_id in ids:
            event = {"tenant": "acme", "id": event_id, "type": "order.create", "data": {}}
            async with http.post("/v1/events", json=event) as answer:
                assert answer.status == 202


@asynccontextmanager
async def running(hookledger: CommandLine, *options: str) -> AsyncIterator[Running]:
    """A daemon on loopback with `--dev`, killed at the end if it still runs."""
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
        # Libraries may log tracebacks about an outage; our own code may not.
        ours = [line for line in log.read_text().splitlines() if '"event":"library.logged"' not in line]
        assert not any("Traceback" in line for line in ours), "\n".join(ours)[-8000:]
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
