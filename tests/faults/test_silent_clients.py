"""Seven hundred clients that say nothing, and a daemon that may open four hundred files.

They get no more places than sending leaves, and make room for clients that have something to say. In a quick run those that
never spoke are gone after 10 s; in a long one those that were answered once are gone after 75 s.
"""

from __future__ import annotations

import asyncio
import re
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from daemon.runtime import open_files
from tests.support.faults.report import FaultReport
from tests.support.faults.system_under_test import SystemUnderTest
from tests.support.processes.cli import CommandLine

FILES = 400
CLIENTS = 700
EVENTS = 300
HEALTH_SECONDS = 1.0
HEAD_SECONDS, IDLE_SECONDS, SLACK_SECONDS = 10, 75, 10

Clients = list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]


async def test_seven_hundred_silent_clients_and_four_hundred_files(
    system: SystemUnderTest, report: FaultReport, is_long: bool
) -> None:
    open_files.raise_limit()
    paths = [f"/{number}" for number in range(20)]
    async with _few_files(system):
        await asyncio.gather(*(system.route(path, f"load.r{path[1:]}") for path in paths))
        system.producer.types = [f"load.r{path[1:]}" for path in paths]
        async with _silent(
            system, after=b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n" if is_long else b""
        ) as them:
            began = time.monotonic()
            health = asyncio.ensure_future(_slowest_health(system, 20))
            await system.producer.publish(EVENTS)
            await system.until_arrived(EVENTS)
            await system.until_accounted()
            report.add("slowest healthz", await health, "s", at_most=HEALTH_SECONDS, tolerated=10)
            report.add("attempts without an answer", await _unanswered(system), at_most=0)
            gone_after = IDLE_SECONDS if is_long else HEAD_SECONDS
            async with asyncio.timeout(gone_after + SLACK_SECONDS):
                await asyncio.gather(*(_until_closed(reader) for reader, _ in them))
            report.add("the last silent one gone after", time.monotonic() - began, "s")
        found = await system.check_deliveries()
    report.add_check(found, duplicates_at_most=0)
    report.verify()


@asynccontextmanager
async def _few_files(system: SystemUnderTest) -> AsyncIterator[None]:
    """A daemon that may open FILES files."""
    home = Path(tempfile.mkdtemp(dir=system.home))
    hookledger = CommandLine(home, system.database_url)
    process = hookledger.start("run", "--dev", "--listen", "127.0.0.1:0", files=FILES)
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), 20)
        found = re.search(r"http://[^\s,]+", line)
        assert found, line
        system.url = found.group()
        yield
        process.send_signal(signal.SIGTERM)
        _, errors = await asyncio.to_thread(process.communicate, timeout=25)
        assert process.returncode == 0, errors[-4000:]
        assert "Traceback" not in errors, errors[-4000:]
    finally:
        process.kill()
        process.communicate()


@asynccontextmanager
async def _silent(system: SystemUnderTest, *, after: bytes) -> AsyncIterator[Clients]:
    """Clients that are silent after these bytes."""
    url = urlsplit(system.url)
    clients: Clients = []
    try:
        for _ in range(CLIENTS):
            clients.append(await asyncio.wait_for(asyncio.open_connection(url.hostname, url.port), 10))
            clients[-1][1].write(after)
        yield clients
    finally:
        for _, writer in clients:
            writer.transport.abort()


async def _until_closed(reader: asyncio.StreamReader) -> None:
    with suppress(ConnectionResetError):
        await reader.read()


async def _slowest_health(system: SystemUnderTest, times: int) -> float:
    slowest = 0.0
    for _ in range(times):
        began = time.monotonic()
        assert await system.status("/healthz") == 200
        slowest = max(slowest, time.monotonic() - began)
    return slowest


async def _unanswered(system: SystemUnderTest) -> int:
    count: int = await system.value("SELECT count(*) FROM hookledger.attempt WHERE status_code IS NULL")
    return count
