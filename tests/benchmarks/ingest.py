"""How fast one daemon accepts events over HTTP, as a ratio to a bare COPY into the same table.

A few producers send batches of NDJSON, without and with ids; many producers send single events. The daemon answers once
the events are durable, and processes them as usual. The ceiling copies the same rows in batches of the same size over
one connection; it neither parses nor looks for duplicates.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import aiohttp
import asyncpg
import uvloop

from tests.benchmarks.fresh_database import fresh_database
from tests.benchmarks.meter import cpu_seconds
from tests.benchmarks.results import BenchmarkResult, table
from tests.benchmarks.throughput import DATA
from tests.support.processes.cli import CommandLine
from tests.support.processes.running import Running, running

BATCH_EVENTS = 10_000
BATCH_PRODUCERS = 2
SINGLE_PRODUCERS = 50
COLUMNS = ("tenant", "id", "type", "data")

_DATA = json.dumps(DATA, separators=(",", ":"))
_numbers = count()


def event(*, with_id: bool) -> bytes:
    """The NDJSON line of a new event."""
    number = next(_numbers)
    id = f'"id":"evt_{number:032}",' if with_id else ""
    return f'{{"tenant":"tenant-{number % 10}","type":"order.create",{id}"data":{_DATA}}}'.encode()


def batches(events: int, *, with_id: bool) -> list[bytes]:
    return [b"\n".join(event(with_id=with_id) for _ in range(BATCH_EVENTS)) for _ in range(events // BATCH_EVENTS)]


async def copied(connection: asyncpg.Connection, events: int) -> float:
    """Copies events into the table. Returns events per second."""
    data = _DATA.encode()
    parts = [
        [(f"tenant-{n % 10}", f"evt_{next(_numbers):032}", "order.create", data) for n in range(BATCH_EVENTS)]
        for _ in range(events // BATCH_EVENTS)
    ]
    started = time.perf_counter()
    for part in parts:
        await connection.copy_records_to_table("domain_event", schema_name="hookledger", columns=COLUMNS, records=part)
    return events / (time.perf_counter() - started)


async def published(daemon: Running, bodies: Sequence[bytes], *, kind: str, producers: int) -> float:
    """Posts all bodies. Returns requests per second; every answer must be 202."""
    left = list(bodies)

    async def work(session: aiohttp.ClientSession) -> None:
        while left:
            headers = {"Content-Type": kind}
            async with session.post(f"{daemon.url}/v1/events", data=left.pop(), headers=headers) as answer:
                text = await answer.text()
                if answer.status != 202:
                    raise SystemExit(f"the daemon answered {answer.status}: {text[:200]}")

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        started = time.perf_counter()
        await asyncio.gather(*(work(session) for _ in range(producers)))
        return len(bodies) / (time.perf_counter() - started)


@dataclass(kw_only=True)
class Measured:
    """Events per second of each round, and the daemon's CPU time for all events in batches."""

    copied: list[float] = field(default_factory=list)
    made: list[float] = field(default_factory=list)
    given: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)
    cpu_seconds: float = 0.0

    def __str__(self) -> str:
        return (
            f"bare COPY {self.copied[-1]:,.0f}/s, batches {self.made[-1]:,.0f}/s without ids and "
            f"{self.given[-1]:,.0f}/s with, single events {self.alone[-1]:,.0f}/s"
        )


async def one_round(daemon: Running, connection: asyncpg.Connection, events: int, singles: int, into: Measured) -> None:
    into.copied.append(await copied(connection, events))
    for rates, with_id in ((into.made, False), (into.given, True)):
        bodies = batches(events, with_id=with_id)
        before = cpu_seconds(daemon.process.pid)
        per_second = await published(daemon, bodies, kind="application/x-ndjson", producers=BATCH_PRODUCERS)
        into.cpu_seconds += cpu_seconds(daemon.process.pid) - before
        rates.append(per_second * BATCH_EVENTS)
    bodies = [event(with_id=True) for _ in range(singles)]
    into.alone.append(await published(daemon, bodies, kind="application/json", producers=SINGLE_PRODUCERS))


async def run(events: int, singles: int, rounds: int) -> None:
    measured = Measured()
    with tempfile.TemporaryDirectory(prefix="hookledger-benchmark-") as home:
        async with fresh_database() as url, running(CommandLine(Path(home), url)) as daemon:
            connection = await asyncpg.connect(url)
            for number in range(1, rounds + 1):
                await one_round(daemon, connection, events, singles, measured)
                print(f"round {number}: {measured}", flush=True)
            stored = await connection.fetchval("SELECT count(*) FROM hookledger.domain_event")
            await connection.close()
    if stored != rounds * (3 * events + singles):
        raise SystemExit(f"{stored} events are stored instead of {rounds * (3 * events + singles)}")
    table(f"ingest through one process, {len(event(with_id=True))} bytes an event", results(measured, rounds * events))


def results(measured: Measured, events: int) -> list[BenchmarkResult]:
    copied, made, given, alone = map(
        statistics.median, (measured.copied, measured.made, measured.given, measured.alone)
    )
    return [
        BenchmarkResult(name="bare COPY", value=copied, unit="/s"),
        BenchmarkResult(name="batches, without ids", value=made, unit="/s", must_be="at least", limit=20_000),
        BenchmarkResult(name="batches, with ids", value=given, unit="/s", must_be="at least", limit=20_000),
        BenchmarkResult(name="slower of both, of a bare COPY", value=min(made, given) / copied),
        BenchmarkResult(
            name="daemon's processor time in a batch", value=measured.cpu_seconds / (2 * events) * 1e6, unit="us"
        ),
        BenchmarkResult(name="single events", value=alone, unit="/s", must_be="at least", limit=2_500),
        BenchmarkResult(name="single events, of a bare COPY", value=alone / copied),
    ]


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks ingest")
    parser.add_argument("--events", type=int, default=100_000, help=f"per round, in batches of {BATCH_EVENTS:,}")
    parser.add_argument("--singles", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    if options.events < BATCH_EVENTS:
        parser.error(f"--events must be at least {BATCH_EVENTS}")
    uvloop.run(run(options.events // BATCH_EVENTS * BATCH_EVENTS, options.singles, options.rounds))
