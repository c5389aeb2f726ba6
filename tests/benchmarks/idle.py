"""The cost of an idle daemon: CPU, memory, write-ahead log, tables.

It has ten routes and a little history. After a pause for the work that follows deliveries it is measured for 30 s.
"""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import dataclass

import uvloop

from tests.benchmarks import meter
from tests.benchmarks.receivers import receivers
from tests.benchmarks.results import BenchmarkResult, table
from tests.benchmarks.workload import Workload, workload

ROUTES = 10
HISTORY = 2_000

_SERVER = """
SELECT (SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()) AS transactions,
       pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint AS wal_bytes,
       (SELECT sum(pg_total_relation_size(oid)) FROM pg_class
         WHERE relnamespace = 'hookledger'::regnamespace AND relkind = 'r')::bigint AS table_bytes
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    daemon_cpu_seconds: float
    cluster_cpu_seconds: float
    rss_bytes: int
    wake_ups: int
    transactions: int
    wal_bytes: int
    table_bytes: int


async def read(it: Workload, pid: int, postmaster: int) -> Reading:
    (server,) = await it.process.rows(_SERVER)
    return Reading(
        daemon_cpu_seconds=meter.cpu_seconds(pid),
        cluster_cpu_seconds=meter.family_cpu_seconds(postmaster),
        rss_bytes=meter.rss_bytes(pid),
        wake_ups=meter.wake_ups(pid),
        **server,
    )


async def run(settle_seconds: float, seconds: float) -> None:
    with receivers() as remote:
        async with workload() as it, it.daemon() as daemon:
            await it.routes([f"{remote.url}/live/{n}" for n in range(ROUTES)])
            await it.publish(range(ROUTES), count=HISTORY)
            await remote.until_accepted(HISTORY)
            await it.process.until_accounted()
            (backend,) = await it.process.rows("SELECT pg_backend_pid() AS pid")
            postmaster = meter.parent(backend["pid"])
            await it.process.rows(
                "CHECKPOINT"
            )  # else it would fall into the measurement, and it is not the idle daemon's
            await asyncio.sleep(settle_seconds)
            pid = daemon.process.pid
            before = await read(it, pid, postmaster)
            await asyncio.sleep(seconds)
            after = await read(it, pid, postmaster)
    report(before, after, seconds)


def report(before: Reading, after: Reading, seconds: float) -> None:
    daemon = (after.daemon_cpu_seconds - before.daemon_cpu_seconds) / seconds * 100
    cluster = (after.cluster_cpu_seconds - before.cluster_cpu_seconds) / seconds * 100
    table(
        f"an idle daemon, {seconds:g} s",
        [
            BenchmarkResult(name="daemon", value=daemon, unit="% cpu", limit=1.0),
            BenchmarkResult(name="its PostgreSQL", value=cluster, unit="% cpu", limit=1.0),
            BenchmarkResult(name="wake-ups", value=(after.wake_ups - before.wake_ups) / seconds, unit="/s"),
            BenchmarkResult(name="transactions", value=(after.transactions - before.transactions) / seconds, unit="/s"),
            BenchmarkResult(name="write-ahead log", value=(after.wal_bytes - before.wal_bytes) / seconds, unit="B/s"),
            BenchmarkResult(
                name="growth of tables", value=(after.table_bytes - before.table_bytes) / 1024, unit="KiB", limit=64
            ),
            BenchmarkResult(name="memory", value=after.rss_bytes / 1024 / 1024, unit="MiB"),
            BenchmarkResult(
                name="its growth", value=(after.rss_bytes - before.rss_bytes) / 1024 / 1024, unit="MiB", limit=1
            ),
        ],
    )


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks idle")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seconds", type=float)
    options = parser.parse_args(arguments)
    settle_seconds = 8.0 if options.quick else 15.0  # longer than any loop stays fast after the last work
    uvloop.run(run(settle_seconds, options.seconds or (10.0 if options.quick else 30.0)))
