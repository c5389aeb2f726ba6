"""A daemon that is started with output streams that are full, closed, or read by nobody."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass

from aiohttp import ClientError, ClientSession, ClientTimeout

from tests.support.processes.cli import CommandLine

SECONDS = 30.0
# The shell redirects, because subprocess cannot start a program without a stream.
FULL = 'exec "$@" {stream}>/dev/full'
CLOSED = 'exec "$@" {stream}>&-'


@dataclass(kw_only=True)
class Started:
    """A daemon that was started with broken streams. `url` is known beforehand: it may be unable to say it."""

    process: subprocess.Popen[bytes]
    url: str

    async def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return await asyncio.to_thread(self.process.wait, SECONDS)


@asynccontextmanager
async def started(
    hookledger: CommandLine, *options: str, shell: str = 'exec "$@"', **streams: int
) -> AsyncIterator[Started]:
    """A daemon on loopback, once it answers; killed at the end if it still runs."""
    with closing(socket.create_server(("127.0.0.1", 0))) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [sys.executable, "-m", "daemon", "run", "--dev", "--listen", address, *options]
    process = subprocess.Popen(
        ["sh", "-c", shell, "sh", *command],
        cwd=hookledger.home,
        env=hookledger.environment,
        stdin=subprocess.DEVNULL,
        **{"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **streams},  # type: ignore[call-overload] # by name
        start_new_session=True,
    )
    try:
        it = Started(process=process, url=f"http://{address}")
        await until_ready(it)
        yield it
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


async def until_ready(it: Started) -> None:
    deadline = time.monotonic() + SECONDS
    async with ClientSession(it.url, timeout=ClientTimeout(total=2)) as http:
        while True:
            assert it.process.poll() is None, f"the daemon ended with code {it.process.returncode}"
            assert time.monotonic() < deadline, "the daemon does not answer"
            with suppress(ClientError, TimeoutError):
                async with http.get("/readyz") as answer:
                    if answer.status == 200:
                        return
            await asyncio.sleep(0.05)
