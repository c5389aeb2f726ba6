"""A daemon that was away: it drains what was published meanwhile."""

from __future__ import annotations

import argparse

import uvloop

from tests.benchmarks import meter
from tests.benchmarks.drain import drained
from tests.benchmarks.receivers import receivers
from tests.benchmarks.results import BenchmarkResult, table
from tests.benchmarks.workload import workload

ROUTES = 16
EVENTS = 100_000
QUICK_EVENTS = 10_000


async def run(events: int) -> None:
    with receivers() as remote:
        async with workload() as it:
            await it.routes([f"{remote.url}/live/{number}" for number in range(ROUTES)])
            await it.publish(range(ROUTES), count=events)
            async with it.daemon() as daemon:
                measured = await drained(it, remote, daemon.process.pid, deliveries=events)
                peak = meter.peak_rss_bytes(daemon.process.pid) / 1024 / 1024
    table(
        f"a backlog of {events:,} events",
        [
            BenchmarkResult(name="all delivered after", value=measured.seconds, unit="s"),
            *measured.results("backlog"),
            BenchmarkResult(name="most memory", value=peak, unit="MiB"),
        ],
    )


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks backlog")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    uvloop.run(run(QUICK_EVENTS if options.quick else EVENTS))
