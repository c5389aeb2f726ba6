"""Payloads from 0.5 to 250 kB: what a delivery and a megabyte cost."""

from __future__ import annotations

import argparse
import json
import secrets
from functools import partial

import uvloop

from tests.benchmarks.drain import drained
from tests.benchmarks.receivers import receivers
from tests.benchmarks.results import BenchmarkResult, table
from tests.benchmarks.workload import workload

ROUTES = 16
KILOBYTES = (0.5, 5, 50, 250)

# For each size as many events as have so many bytes together, but not more than MOST_EVENTS.
BYTES = 200_000_000
QUICK_BYTES = 5_000_000
MOST_EVENTS = 10_000


async def run(size_bytes: int) -> None:
    results: list[BenchmarkResult] = []
    with receivers() as remote:
        async with workload() as it, it.daemon() as daemon:
            await it.routes([f"{remote.url}/live/{number}" for number in range(ROUTES)])
            for kilobytes in KILOBYTES:
                count = min(MOST_EVENTS, int(size_bytes / (kilobytes * 1000)))
                it.padding = json.dumps(secrets.token_urlsafe(int(kilobytes * 750))).encode()  # no text compresses
                name = f"{kilobytes:g} kB"
                measured = await drained(
                    it,
                    remote,
                    daemon.process.pid,
                    deliveries=count,
                    begin=partial(it.publish, range(ROUTES), count=count),
                )
                megabytes = count * kilobytes / 1000 / measured.seconds
                results += measured.results(name)
                results.append(BenchmarkResult(name=f"{name}: payload", value=megabytes, unit="MB/s"))
    table(f"payloads to {ROUTES} routes", results)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks payload")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    uvloop.run(run(QUICK_BYTES if options.quick else BYTES))
