"""What seals cost: the CPU time of sealing a delivery beside that of delivering it, and the lag of the event loop.

A pipeline drains the same number of events with seals and without, in turns. The lag is how late a task runs that wants
to every few milliseconds. The cost of sealing is measured apart, by sealing afterwards what was delivered without: the
difference of two runs would be smaller than the noise of either. CPU time is that of the process and of PostgreSQL.

What a delivery costs depends on how its event came: by SQL in large transactions, as in those runs, it costs least. So
a daemon also delivers what is published over HTTP, in batches and with a request for each event.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from pathlib import Path

import aiohttp
import uvloop

from daemon.pipeline.upkeep.sealing import SealSettings
from tests.benchmarks import meter
from tests.benchmarks.fresh_database import fresh_database
from tests.benchmarks.receivers import Receivers, receivers
from tests.benchmarks.results import BenchmarkResult, percentile, table
from tests.benchmarks.workload import Workload, line, workload
from tests.support.audit.seals import seal
from tests.support.pipeline.process import PipelineProcess, pipeline_process

ROUTES = 16
EVENTS, QUICK_EVENTS = 20_000, 3_000
ROUNDS, QUICK_ROUNDS = 3, 1
BATCH_EVENTS, CONNECTIONS = 500, 32
PROBE_SECONDS = 0.005
# The most frequent that can be set: each minute has the work of sixty, and at once what was delivered within a second.
OFTEN = SealSettings(every=timedelta(seconds=1))

MOST_PART = 0.05
# Ten percent, and what the scheduler adds to any wait.
MOST_LAG, LAG_NOISE_MS = 1.1, 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """A run with seals or without; `sealing_cpu_seconds` is what sealing took afterwards, 0 with seals."""

    cpu_seconds: float
    lags_ms: list[float]
    sealing_cpu_seconds: float
    seals: int


async def drained(remote: Receivers, events: int, *, seals: SealSettings | None) -> Drained:
    async with fresh_database() as url:
        async with pipeline_process(url, seals=seals) as it, cluster(it) as cluster_pid:
            load = Workload(process=it, home=Path())
            await load.routes([f"{remote.url}/live/{number}" for number in range(ROUTES)])
            lags: list[float] = []
            accepted = remote.accepted()
            with cpu_since(cluster_pid) as cpu:
                probing = asyncio.ensure_future(probe(lags))
                await load.publish(range(ROUTES), count=events)
                it.pipeline.hurry()
                await remote.until_accepted(accepted + events, seconds=600)  # some wait in the tables at first
                await it.until_row("SELECT count(*) >= $1 FROM hookledger.attempt", events)
                probing.cancel()
            (row,) = await it.rows("SELECT count(*) AS seals FROM hookledger.seal")
        async with pipeline_process(url, run=False) as it, cluster(it) as cluster_pid:
            with cpu_since(cluster_pid) as sealing:
                if seals is None:
                    while (await seal(it.database)).is_behind:
                        pass
        return Drained(
            cpu_seconds=cpu.seconds,
            lags_ms=lags,
            sealing_cpu_seconds=0.0 if seals is not None else sealing.seconds,
            seals=row["seals"],
        )


async def published(remote: Receivers, events: int, *, batch: int) -> float:
    """The CPU seconds of a daemon that makes no seal, and of PostgreSQL, for events of so many to a request."""
    async with workload() as it, cluster(it.process) as cluster_pid:
        await it.routes([f"{remote.url}/live/{number}" for number in range(ROUTES)])
        async with it.daemon(HOOKLEDGER_SEAL__EVERY_SECONDS="86400") as daemon:
            lines = [line(it.event(number % ROUTES)) for number in range(events)]
            requests = [b"\n".join(lines[first : first + batch]) for first in range(0, events, batch)]
            accepted = remote.accepted()
            before = meter.family_cpu_seconds(daemon.process.pid) + meter.family_cpu_seconds(cluster_pid)
            kind = "application/json" if batch == 1 else "application/x-ndjson"
            await post(f"{daemon.url}/v1/events", requests, kind)
            await remote.until_accepted(accepted + events, seconds=600)
            await it.process.until_row("SELECT count(*) >= $1 FROM hookledger.attempt", events)
            return meter.family_cpu_seconds(daemon.process.pid) + meter.family_cpu_seconds(cluster_pid) - before


async def post(url: str, requests: list[bytes], kind: str) -> None:
    """Sends the requests over a few connections, each when there is an answer to the one before it."""
    async with aiohttp.ClientSession() as session, asyncio.TaskGroup() as group:
        left = iter(requests)

        async def connection() -> None:
            for request in left:
                async with session.post(url, data=request, headers={"Content-Type": kind}) as answer:
                    if answer.status != HTTPStatus.ACCEPTED:
                        raise SystemExit(f"the daemon did not take events: {answer.status} {await answer.text()}")

        for _ in range(CONNECTIONS):
            group.create_task(connection())


async def probe(lags: list[float]) -> None:
    """Notes how late it runs, in milliseconds, until it is cancelled."""
    while True:
        wanted = time.monotonic() + PROBE_SECONDS
        await asyncio.sleep(PROBE_SECONDS)
        lags.append((time.monotonic() - wanted) * 1000)


@asynccontextmanager
async def cluster(it: PipelineProcess) -> AsyncIterator[int]:
    """The process id of the postmaster."""
    (row,) = await it.rows("SELECT pg_backend_pid() AS pid")
    yield meter.parent(row["pid"])


@dataclass
class CpuTime:
    seconds: float = 0.0


@contextmanager
def cpu_since(cluster_pid: int) -> Iterator[CpuTime]:
    taken, before = CpuTime(), time.process_time() + meter.family_cpu_seconds(cluster_pid)
    yield taken
    taken.seconds = time.process_time() + meter.family_cpu_seconds(cluster_pid) - before


async def run(events: int, rounds: int) -> None:
    without, sealed, in_batches, singly = [], [], [], []
    with receivers() as remote:
        for _ in range(rounds):
            without.append(await drained(remote, events, seals=None))
            sealed.append(await drained(remote, events, seals=OFTEN))
            in_batches.append(await published(remote, events, batch=BATCH_EVENTS))
            singly.append(await published(remote, events, batch=1))
    delivering = statistics.median(each.cpu_seconds for each in without)
    sealing = statistics.median(each.sealing_cpu_seconds for each in without)
    delivering_by = {
        "SQL": delivering,
        f"batches of {BATCH_EVENTS}": statistics.median(in_batches),
        "a request each": statistics.median(singly),
    }
    calm, beside = (statistics.median(percentile(each.lags_ms, 0.99) for each in runs) for runs in (without, sealed))
    results = [
        BenchmarkResult(name="sealing a delivery", value=sealing * 1_000_000 / events, unit="us cpu"),
        *(
            BenchmarkResult(name=f"delivering it, published by {way}", value=cost * 1_000_000 / events, unit="us cpu")
            for way, cost in delivering_by.items()
        ),
        *(
            BenchmarkResult(name=f"part of the cost, by {way}", value=sealing / (cost + sealing), limit=MOST_PART)
            for way, cost in delivering_by.items()
        ),
        BenchmarkResult(name="loop lag without seals, p99", value=calm, unit="ms"),
        BenchmarkResult(
            name="loop lag with a seal a second, p99", value=beside, unit="ms", limit=calm * MOST_LAG + LAG_NOISE_MS
        ),
        BenchmarkResult(name="seals in a run", value=statistics.median(each.seals for each in sealed)),
    ]
    table(f"seals of {events:,} deliveries, {rounds} runs with and without", results)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks seals")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    quick = options.quick
    uvloop.run(run(QUICK_EVENTS if quick else EVENTS, QUICK_ROUNDS if quick else ROUNDS))
