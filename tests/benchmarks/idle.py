"""The cost of an idle installation, one daemon with the PostgreSQL that it brought: CPU, memory, write-ahead log, tables.

It has ten routes and a little history. After a pause for the work that follows deliveries, in which connections that
are not needed any more are closed, it is measured for a minute. What measures has no connection meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import uvloop

from eventstore import embedded
from eventstore.postgres.connect import Database
from tests.benchmarks import meter
from tests.benchmarks.receivers import receivers
from tests.benchmarks.results import BenchmarkResult, table
from tests.support.processes.cli import CommandLine

ROUTES = 10
HISTORY = 2_000
START_SECONDS = 60.0

_SERVER = """
SELECT (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()) AS transactions,
       pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint AS wal_bytes,
       (SELECT sum(pg_total_relation_size(oid)) FROM pg_class
         WHERE relnamespace = 'hookledger'::regnamespace AND relkind = 'r')::bigint AS table_bytes
"""
_IS_ACCOUNTED = """
SELECT (SELECT min(tick) FROM hookledger.checkpoint) = (SELECT max(tick) FROM hookledger.tick)
   AND NOT hookledger.has_news((SELECT snap FROM hookledger.tick ORDER BY tick DESC LIMIT 1)) AS is_accounted
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What the processes have used so far, and what they use now."""

    daemon_cpu_seconds: float
    cluster_cpu_seconds: float
    daemon_pss_bytes: int
    daemon_rss_bytes: int
    cluster_pss_bytes: int
    wake_ups: int


class Installation:
    """A daemon and its PostgreSQL."""

    def __init__(self, url: str, daemon: int, data_dir: Path) -> None:
        self.url = url
        self._daemon = daemon
        self._data_dir = data_dir
        self._postmaster = int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0])

    def usage(self) -> Usage:
        cluster = meter.family(self._postmaster)
        return Usage(
            daemon_cpu_seconds=meter.cpu_seconds(self._daemon),
            cluster_cpu_seconds=meter.family_cpu_seconds(self._postmaster),
            daemon_pss_bytes=meter.pss_bytes(self._daemon),
            daemon_rss_bytes=meter.rss_bytes(self._daemon),
            cluster_pss_bytes=sum(meter.pss_bytes(pid) for pid in cluster),
            wake_ups=meter.wake_ups(self._daemon),
        )

    async def rows(self, query: str) -> list[dict[str, Any]]:
        """The rows of a query, asked on a connection of its own."""
        server = await asyncio.to_thread(embedded.start, self._data_dir)
        database = Database(server.url, pool_size=1)
        try:
            await database.open()
            async with database.connection() as connection:
                return [dict(row) for row in await connection.fetch(query)]
        finally:
            await database.close()
            await asyncio.to_thread(server.stop)

    async def deliver(self, target_url: str) -> None:
        """Makes the routes and publishes the history."""
        events = "\n".join(
            f'{{"tenant": "acme", "type": "load.r{n % ROUTES}", "data": {{"published_at":0,"number":{n}}}}}'
            for n in range(HISTORY)
        )
        async with aiohttp.ClientSession(self.url, raise_for_status=True) as session:
            for number in range(ROUTES):
                draft = {
                    "name": f"route {number}",
                    "target_url": f"{target_url}/live/{number}",
                    "event_types": [f"load.r{number}"],
                }
                await session.post("/v1/tenants/acme/routes", json=draft)
            await session.post("/v1/events", data=events, headers={"Content-Type": "application/x-ndjson"})


@asynccontextmanager
async def installation() -> AsyncIterator[Installation]:
    """Runs the daemon as a process of its own, which shares no memory with this one."""
    with tempfile.TemporaryDirectory(prefix="hookledger-benchmark-") as home:
        data_dir = Path(home, "data")
        hookledger = CommandLine(Path(home), HOOKLEDGER_DATABASE__DATA_DIR=str(data_dir))
        with Path(home, "daemon.log").open("wb") as log:
            daemon = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "daemon", "run", "--dev", "--listen", "127.0.0.1:0"),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                cwd=home,
                env=hookledger.environment,
            )
        try:
            assert daemon.stdout is not None
            line = await asyncio.wait_for(daemon.stdout.readline(), START_SECONDS)
            yield Installation(line.decode().split()[-1], daemon.pid, data_dir)
        finally:
            daemon.terminate()
            await daemon.wait()


async def run(settle_seconds: float, seconds: float) -> None:
    with receivers() as remote:
        async with installation() as it:
            await it.deliver(remote.url)
            await remote.until_accepted(HISTORY)
            while not (await it.rows(_IS_ACCOUNTED))[0]["is_accounted"]:
                await asyncio.sleep(0.1)
            await it.rows("CHECKPOINT")  # else it would fall into the measurement, and it is not the idle daemon's
            await asyncio.sleep(settle_seconds)
            (before,) = await it.rows(_SERVER)
            await asyncio.sleep(1.0)  # what this cost is not the idle daemon's either
            begin = it.usage()
            await asyncio.sleep(seconds)
            end = it.usage()
            (after,) = await it.rows(_SERVER)
    report(begin, end, {name: after[name] - before[name] for name in before}, seconds)


def report(begin: Usage, end: Usage, server: dict[str, Any], seconds: float) -> None:
    """Prints the table. `server` is by how much each column of `_SERVER` grew."""
    daemon = (end.daemon_cpu_seconds - begin.daemon_cpu_seconds) / seconds * 100
    cluster = (end.cluster_cpu_seconds - begin.cluster_cpu_seconds) / seconds * 100
    table(
        f"an idle daemon and its PostgreSQL, {seconds:g} s",
        [
            BenchmarkResult(name="cpu", value=daemon + cluster, unit="%", limit=0.6),
            BenchmarkResult(name="  daemon", value=daemon, unit="%"),
            BenchmarkResult(name="  PostgreSQL", value=cluster, unit="%"),
            BenchmarkResult(
                name="memory (PSS)", value=_mib(end.daemon_pss_bytes + end.cluster_pss_bytes), unit="MiB", limit=110
            ),
            BenchmarkResult(name="  daemon", value=_mib(end.daemon_pss_bytes), unit="MiB"),
            BenchmarkResult(
                name="  its growth (RSS)",
                value=_mib(end.daemon_rss_bytes - begin.daemon_rss_bytes),
                unit="MiB",
                limit=1,
            ),
            BenchmarkResult(name="  PostgreSQL", value=_mib(end.cluster_pss_bytes), unit="MiB"),
            BenchmarkResult(name="wake-ups of the daemon", value=(end.wake_ups - begin.wake_ups) / seconds, unit="/s"),
            BenchmarkResult(name="transactions", value=server["transactions"] / seconds, unit="/s"),
            BenchmarkResult(name="write-ahead log", value=server["wal_bytes"] / seconds, unit="B/s"),
            BenchmarkResult(name="growth of tables", value=server["table_bytes"] / 1024, unit="KiB", limit=64),
        ],
    )


def _mib(count: int) -> float:
    return count / 1024 / 1024


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks idle")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seconds", type=float)
    options = parser.parse_args(arguments)
    settle_seconds = 10.0 if options.quick else 150.0  # longer than any loop stays fast after the last work
    uvloop.run(run(settle_seconds, options.seconds or (10.0 if options.quick else 60.0)))
