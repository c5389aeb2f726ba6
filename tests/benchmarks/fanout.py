"""One event to a thousand routes: what a delivery costs if deciding and reading are shared by many."""

from __future__ import annotations

import argparse
from functools import partial

import uvloop

from tests.benchmarks.drain import drained
from tests.benchmarks.receivers import receivers
from tests.benchmarks.results import BenchmarkResult, table
from tests.benchmarks.workload import workload

ROUTES = 1_000
EVENTS = 40
QUICK_EVENTS = 5
TENANT = "wide"


async def run(events: int) -> None:
    results: list[BenchmarkResult] = []
    with receivers() as remote:
        async with workload() as it, it.daemon(HOOKLEDGER_LIMITS__ROUTES_PER_TENANT=str(ROUTES)) as daemon:
            for number in range(ROUTES):
                await it.process.route(f"{remote.url}/live/{number}", "load.r0", tenant=TENANT)
            it.tenants.append(TENANT)
            for count, name in ((1, "one event"), (events, f"{events} events")):
                measured = await drained(
                    it,
                    remote,
                    daemon.process.pid,
                    deliveries=count * ROUTES,
                    begin=partial(it.publish, [0], count=count),
                )
                results += [
                    BenchmarkResult(name=f"{name}: all {ROUTES:,} routes after", value=measured.seconds, unit="s"),
                    *measured.results(name),
                ]
    table(f"an event to {ROUTES:,} routes", results)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks fanout")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    uvloop.run(run(QUICK_EVENTS if options.quick else EVENTS))
