"""Latency from the call that publishes an event to the arrival of its webhook, one at a time, on an idle machine."""

from __future__ import annotations

import argparse
import statistics
import time

import uvloop

from tests.benchmarks.fresh_database import fresh_database
from tests.support.pipeline.process import pipeline_process
from tests.support.receivers.receiver import receiver


async def run(count: int) -> None:
    async with fresh_database() as database_url, receiver() as target, pipeline_process(database_url) as it:
        await it.route(target.url, "order.*")
        await it.publish()
        await target.count(1)
        milliseconds = []
        for number in range(2, count + 2):
            started = time.perf_counter()
            await it.publish()
            await target.count(number)
            milliseconds.append((time.perf_counter() - started) * 1000)
    milliseconds.sort()
    print(
        f"latency: median {statistics.median(milliseconds):.1f} ms, "
        f"p99 {milliseconds[int(count * 0.99) - 1]:.1f} ms from publish to arrival"
    )


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks latency")
    parser.add_argument("--events", type=int, default=300)
    uvloop.run(run(parser.parse_args(arguments).events))
