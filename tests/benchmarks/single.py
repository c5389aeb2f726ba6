"""One event at once: the CPU time and the delay of an event that is published alone, at a steady rate.

A producer posts events one by one, at equal distances, however long the answers take, to 16 routes of as many tenants.
The delay is that from the POST to the arrival at the receiver. CPU time is that of the daemon with its workers, and of
PostgreSQL; at 1 event a second it is mostly what an idle daemon takes. Rates and workers are measured one after another
on one database, each with a daemon of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from dataclasses import dataclass

import aiohttp
import uvloop

from tests.benchmarks import meter
from tests.benchmarks.receivers import Receivers, receivers
from tests.benchmarks.results import BenchmarkResult, percentile, table
from tests.benchmarks.workload import Workload, line, workload

ROUTES = 16
WARM_UP_EVENTS = 100
RATES = (1, 100)
WORKERS = (1, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class SingleEvents:
    """What was measured at one rate."""

    per_second: int
    workers: int
    delays_ms: list[float]
    daemon_cpu_ms: float
    cluster_cpu_ms: float

    def results(self) -> list[BenchmarkResult]:
        name = f"{self.per_second}/s, {self.workers} worker{'s' * (self.workers > 1)}: "
        return [
            BenchmarkResult(name=name + "delay, p50", value=percentile(self.delays_ms, 0.5), unit="ms"),
            BenchmarkResult(name=name + "delay, p99", value=percentile(self.delays_ms, 0.99), unit="ms"),
            BenchmarkResult(name=name + "daemon, an event", value=self.daemon_cpu_ms, unit="ms cpu"),
            BenchmarkResult(name=name + "its PostgreSQL, an event", value=self.cluster_cpu_ms, unit="ms cpu"),
        ]


async def publish_singly(it: Workload, url: str, *, per_second: int, count: int) -> None:
    """Posts `count` events, each in a request of its own."""
    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:

        async def post(route: int) -> None:
            async with session.post(f"{url}/v1/events", data=line(it.event(route)), headers=headers) as answer:
                if answer.status != 202:
                    raise SystemExit(f"the daemon did not take an event: {answer.status}")

        started = time.monotonic()
        for number in range(count):
            await asyncio.sleep(started + number / per_second - time.monotonic())
            group.create_task(post(number % ROUTES))


async def measure(it: Workload, remote: Receivers, *, workers: int, per_second: int, seconds: float) -> SingleEvents:
    count = max(1, int(per_second * seconds))
    backend = (await it.process.rows("SELECT pg_backend_pid() AS pid"))[0]["pid"]
    postmaster = meter.parent(backend)
    async with it.daemon("--workers", str(workers)) as daemon:
        accepted = remote.accepted()
        await publish_singly(it, daemon.url, per_second=50, count=WARM_UP_EVENTS)
        await remote.until_accepted(accepted + WARM_UP_EVENTS)
        await it.process.until_accounted()
        remote.arrivals()
        before = meter.family_cpu_seconds(daemon.process.pid), meter.family_cpu_seconds(postmaster)
        await publish_singly(it, daemon.url, per_second=per_second, count=count)
        await remote.until_accepted(accepted + WARM_UP_EVENTS + count)
        await it.process.until_accounted()
        after = meter.family_cpu_seconds(daemon.process.pid), meter.family_cpu_seconds(postmaster)
        delays = [arrival.seconds * 1000 for arrival in remote.arrivals()]
        await daemon.stop()
    daemon_ms, cluster_ms = ((now - then) * 1000 / count for then, now in zip(before, after, strict=True))
    return SingleEvents(
        per_second=per_second, workers=workers, delays_ms=delays, daemon_cpu_ms=daemon_ms, cluster_cpu_ms=cluster_ms
    )


async def run(rates: list[int], seconds: float) -> None:
    results: list[BenchmarkResult] = []
    with receivers() as remote:
        async with workload() as it:
            targets = [f"{remote.url}/live/{number}" for number in range(ROUTES)]
            await it.routes(targets, tenants=[f"tenant-{number}" for number in range(ROUTES)])
            for workers in WORKERS:
                for per_second in rates:
                    measured = await measure(it, remote, workers=workers, per_second=per_second, seconds=seconds)
                    results += measured.results()
    table(f"events published one by one, {seconds:g} s at each rate", results)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks single")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rate", type=int, action="append", help="events per second; may be repeated")
    options = parser.parse_args(arguments)
    uvloop.run(run(options.rate or list(RATES), 5.0 if options.quick else 20.0))
