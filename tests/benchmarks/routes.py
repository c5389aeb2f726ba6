"""Many routes: what an event costs beside 100 and beside 100,000 routes that it does not match, what the start of a
daemon takes, and how much memory a route takes.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from functools import partial

import uvloop

from tests.benchmarks import meter
from tests.benchmarks.drain import Drained, drained
from tests.benchmarks.filler import fill_routes
from tests.benchmarks.receivers import receivers
from tests.benchmarks.results import BenchmarkResult, table
from tests.benchmarks.workload import workload
from tests.support.audit.seals import seal

MATCHING = 16
FEW = 100
MANY = 100_000
QUICK_MANY = 10_000
EVENTS = 10_000
QUICK_EVENTS = 2_000
MOST_RATIO = 1.1
MOST_START_CPU_SECONDS = 5.0
MOST_BYTES = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class BesideRoutes:
    """A daemon that began with so many routes."""

    start_cpu_seconds: float
    start_seconds: float
    rss_bytes: int
    drained: Drained


async def run(many: int, events: int) -> None:
    few, lots = await measure(FEW, events), await measure(many, events)
    each = (lots.rss_bytes - few.rss_bytes) / (many - FEW)
    ratio = lots.drained.cpu_ms / few.drained.cpu_ms
    start = lots.start_cpu_seconds - few.start_cpu_seconds
    table(
        f"{FEW} and {many:,} routes that do not match, beside {MATCHING} that do",
        [
            *few.drained.results(f"{FEW} routes"),
            *lots.drained.results(f"{many:,} routes"),
            BenchmarkResult(name="cost of a delivery, ratio", value=ratio, limit=MOST_RATIO),
            BenchmarkResult(name=f"start with {FEW} routes", value=few.start_cpu_seconds, unit="s cpu"),
            BenchmarkResult(
                name=f"what {many:,} routes add to it", value=start, unit="s cpu", limit=MOST_START_CPU_SECONDS
            ),
            BenchmarkResult(name=f"ready with {many:,} routes after", value=lots.start_seconds, unit="s"),
            BenchmarkResult(name="memory of a route", value=each, unit="B", limit=MOST_BYTES),
        ],
    )


async def measure(routes: int, events: int) -> BesideRoutes:
    with receivers() as remote:
        async with workload() as it:
            await fill_routes(it.process.database.url, routes)
            await it.routes([f"{remote.url}/live/{number}" for number in range(MATCHING)])
            # What new routes leave to seal and to write is no cost of an event.
            while (await seal(it.process.database)).is_behind:
                pass
            await it.process.rows("CHECKPOINT")
            began = time.monotonic()
            async with it.daemon() as daemon:
                pid = daemon.process.pid
                await it.until_ready(daemon.url)
                ready = time.monotonic() - began
                start, rss = meter.family_cpu_seconds(pid), meter.rss_bytes(pid)
                measured = await drained(
                    it, remote, pid, deliveries=events, begin=partial(it.publish, range(MATCHING), count=events)
                )
    return BesideRoutes(start_cpu_seconds=start, start_seconds=ready, rss_bytes=rss, drained=measured)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks routes")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    uvloop.run(run(QUICK_MANY, QUICK_EVENTS) if options.quick else run(MANY, EVENTS))
