"""`hookledger rebuild` and `hookledger audit`: events and deliveries a second, by wall clock, and their memory. The CPU
time of an audit in several processes is that of all of them.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from dataclasses import dataclass

import uvloop

from tests.benchmarks.filler import fill_routes
from tests.benchmarks.receivers import receivers
from tests.benchmarks.results import BenchmarkResult, table
from tests.benchmarks.workload import Workload, workload

EVENTS, QUICK_EVENTS = 1_000_000, 50_000
VERSIONS = 10
LEAST_EVENTS_PER_SECOND = 25_000

ROUTES = 16
DELIVERIES, QUICK_DELIVERIES = 100_000, 10_000
LEAST_DELIVERIES_PER_SECOND = 15_000
PROCESSES = max(2, min(4, os.cpu_count() or 1))


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command that succeeded."""

    seconds: float
    cpu_seconds: float
    most_bytes: int


async def rebuild(events: int) -> None:
    async with workload() as it:
        await fill_routes(it.process.database.url, events // VERSIONS, versions=VERSIONS)
        ended = await command(it, "rebuild", "--json")
    table(
        f"the route log of {events:,} events, folded from nothing with its hash chain",
        [
            BenchmarkResult(
                name="events",
                value=events / ended.seconds,
                unit="/s",
                must_be="at least",
                limit=LEAST_EVENTS_PER_SECOND,
            ),
            *_results(ended, events, "an event"),
        ],
    )


async def audit(deliveries: int) -> None:
    with receivers() as remote:
        async with workload() as it:
            await it.routes([f"{remote.url}/live/{number}" for number in range(ROUTES)])
            async with it.daemon():
                await it.publish(range(ROUTES), count=deliveries)
                await remote.until_accepted(deliveries, seconds=deliveries / 50)
                await it.process.until_accounted(seconds=60)
            alone = await command(it, "audit", "--json", "--processes", "1")
            together = await command(it, "audit", "--json", "--processes", str(PROCESSES))
    table(
        f"the audit of {deliveries:,} deliveries",
        [
            BenchmarkResult(
                name="deliveries",
                value=deliveries / alone.seconds,
                unit="/s",
                must_be="at least",
                limit=LEAST_DELIVERIES_PER_SECOND,
            ),
            *_results(alone, deliveries, "a delivery"),
            BenchmarkResult(
                name=f"deliveries, in {PROCESSES} processes", value=deliveries / together.seconds, unit="/s"
            ),
            BenchmarkResult(
                name="all of them, a delivery", value=together.cpu_seconds * 1_000_000 / deliveries, unit="us cpu"
            ),
        ],
    )


async def command(it: Workload, *arguments: str) -> Command:
    """Runs a command of the command line on the database. Raises SystemExit if it fails."""

    def run() -> Command:
        started = time.monotonic()
        process = it.command_line().start(*arguments)
        out, err = process.stdout, process.stderr
        assert out is not None
        assert err is not None
        out.read()
        said = err.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise SystemExit(f"{arguments} exited with {process.returncode}: {said}")
        return Command(
            seconds=time.monotonic() - started,
            cpu_seconds=usage.ru_utime + usage.ru_stime,
            most_bytes=usage.ru_maxrss * 1024,
        )

    return await asyncio.to_thread(run)


def _results(ended: Command, count: int, each: str) -> list[BenchmarkResult]:
    return [
        BenchmarkResult(name=f"the command, {each}", value=ended.cpu_seconds * 1_000_000 / count, unit="us cpu"),
        BenchmarkResult(name="most memory", value=ended.most_bytes / 1024 / 1024, unit="MiB"),
    ]


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks rebuild")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    uvloop.run(rebuild(QUICK_EVENTS if options.quick else EVENTS))


def audit_main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks audit")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    uvloop.run(audit(QUICK_DELIVERIES if options.quick else DELIVERIES))
