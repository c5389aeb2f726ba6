"""What a daemon with nothing to do costs: processor, memory, write-ahead log, tables.

It has ten routes and a little history. It is left alone until what follows work is over, then watched for 30 s.
"""

from __future__ import annotations

import argparse
import asyncio
from dataclasses import dataclass

import uvloop

from tests.benchmarks import meter
from tests.benchmarks.receivers import receivers
from tests.benchmarks.scene import Scene, scene
from tests.benchmarks.verdicts import Verdict, table

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


async def read(it: Scene, pid: int, postmaster: int) -> Reading:
    (server,) = await it.it.rows(_SERVER)
    return Reading(
        daemon_cpu_seconds=meter.cpu_seconds(pid),
        cluster_cpu_seconds=meter.family_cpu_seconds(postmaster),
        rss_bytes=meter.rss_bytes(pid),
        wake_ups=meter.wake_ups(pid),
        **server,
    )


async def run(settle_seconds: float, seconds: float) -> None:
    with receivers() as far:
        async with scene() as it, it.daemon() as daemon:
            await it.routes([f"{far.url}/live/{n}" for n in range(ROUTES)])
            await it.publish(range(ROUTES), count=HISTORY)
            await far.until_taken(HISTORY)
            await it.it.until_accounted()
            (backend,) = await it.it.rows("SELECT pg_backend_pid() AS pid")
            postmaster = meter.parent(backend["pid"])
            await it.it.rows("CHECKPOINT")  # which would fall into the watch, and is not the idle daemon's
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
            Verdict(name="daemon", figure=daemon, unit="% cpu", limit=1.0),
            Verdict(name="its PostgreSQL", figure=cluster, unit="% cpu", limit=1.0),
            Verdict(name="wake-ups", figure=(after.wake_ups - before.wake_ups) / seconds, unit="/s"),
            Verdict(name="transactions", figure=(after.transactions - before.transactions) / seconds, unit="/s"),
            Verdict(name="write-ahead log", figure=(after.wal_bytes - before.wal_bytes) / seconds, unit="B/s"),
            Verdict(
                name="growth of tables", figure=(after.table_bytes - before.table_bytes) / 1024, unit="KiB", limit=64
            ),
            Verdict(name="memory", figure=after.rss_bytes / 1024 / 1024, unit="MiB"),
            Verdict(name="its growth", figure=(after.rss_bytes - before.rss_bytes) / 1024 / 1024, unit="MiB", limit=1),
        ],
    )


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks idle")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--seconds", type=float)
    options = parser.parse_args(arguments)
    settle_seconds = 8.0 if options.quick else 15.0  # longer than any loop keeps its pace after the last work
    uvloop.run(run(settle_seconds, options.seconds or (10.0 if options.quick else 30.0)))
