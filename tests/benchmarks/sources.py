"""Sources of events: messages of one partition into the log, from a message to its webhook, and a source with nothing to
do. Broker, PostgreSQL, source and receiver share the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from dataclasses import dataclass

import uvloop

from tests.benchmarks import meter
from tests.benchmarks.fresh_database import fresh_database
from tests.benchmarks.results import BenchmarkResult, percentile, table
from tests.support.kafka.broker import broker
from tests.support.kafka.sources import SourceRuns
from tests.support.kafka.topics import Kafka, event_text
from tests.support.pipeline.process import pipeline_process
from tests.support.receivers.receiver import receiver

MESSAGES = 100_000
DELIVERIES = 200
IDLE_SECONDS = 30.0
EVENTS_PER_SECOND = 15_000
LATENCY_MS = 30
IDLE_PERCENT = 0.3

# A payload like those of `ingest`.
_DATA = {"public_id": "7dc6c1f0", "total": "19.90", "lines": [{"sku": f"A-{n}", "quantity": n} for n in range(8)]}

_CLOUD = {"specversion": "1.0", "source": "/shop", "type": "order.create", "subject": "acme", "data": _DATA}
FORMATS = {
    "hookledger": {},
    "cloudevents": {"format": "cloudevents"},
    "mapped": {
        "format": "mapped",
        "tenant": "value.tenant",
        "type": "value.type",
        "id": "value.id",
        "data": "value.data",
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """How fast a partition came into the log, and what a message cost."""

    per_second: float
    source_us: float
    cluster_us: float


async def drain(kafka: Kafka, database_url: str, format: str, messages: int) -> Drained:
    """Takes a partition that is full."""
    topic = await kafka.topic()
    more = _CLOUD if format == "cloudevents" else {"data": _DATA}
    for first in range(0, messages, 5000):
        texts = [event_text(n, **more) for n in range(first, min(first + 5000, messages))]
        await kafka.send(topic, *texts)
    async with SourceRuns(database_url, kafka) as runs:
        postmaster = meter.parent(await runs.ask("SELECT pg_backend_pid()"))
        before = meter.cpu_seconds(os.getpid()), meter.family_cpu_seconds(postmaster)
        started = time.perf_counter()
        run = await runs.start(topic, name=format, **FORMATS[format])
        await runs.until_taken({0: messages}, seconds=600)
        seconds = time.perf_counter() - started
        after = meter.cpu_seconds(os.getpid()), meter.family_cpu_seconds(postmaster)
        await run.stop()
        stored = await runs.ask("SELECT count(*) FROM hookledger.domain_event")
    assert stored == messages, stored
    return Drained(
        per_second=messages / seconds,
        source_us=(after[0] - before[0]) / messages * 1e6,
        cluster_us=(after[1] - before[1]) / messages * 1e6,
    )


async def latencies(kafka: Kafka, database_url: str, count: int) -> list[float]:
    """Milliseconds from sending each message, one at a time, to the arrival of its webhook."""
    topic = await kafka.topic()
    found: list[float] = []
    async with (
        receiver() as target,
        pipeline_process(database_url) as it,
        SourceRuns(database_url, kafka, on_events=it.pipeline.hurry) as runs,
    ):
        await it.route(target.url, "order.*")
        await runs.start(topic)
        for number in range(1, count + 1):
            started = time.perf_counter()
            await kafka.send(topic, event_text(number))
            await target.count(number)
            if number > 10:  # the first ones plan statements
                found.append((time.perf_counter() - started) * 1000)
    return found


async def idle_percent(kafka: Kafka, database_url: str, seconds: float) -> tuple[float, float]:
    """The CPU time of this process with a source that has nothing to do, and without one, in percent of a core."""
    topic = await kafka.topic()
    spent: list[float] = []
    async with SourceRuns(database_url, kafka, is_quick=False) as runs:
        for is_there in (False, True):
            if is_there:
                await runs.start(topic)
                await kafka.send(topic, event_text(1))
                await runs.until_taken({0: 1})
            await asyncio.sleep(5)
            before = meter.cpu_seconds(os.getpid())
            await asyncio.sleep(seconds)
            spent.append((meter.cpu_seconds(os.getpid()) - before) / seconds * 100)
    return spent[1], spent[0]


async def run(*, messages: int, deliveries: int, idle_seconds: float) -> None:
    results: list[BenchmarkResult] = []
    with broker() as it:
        async with Kafka(it.address) as kafka:
            for format in FORMATS:
                async with fresh_database() as database_url:
                    drained = await drain(kafka, database_url, format, messages)
                goal = EVENTS_PER_SECOND if format == "hookledger" else None
                results += [
                    BenchmarkResult(
                        name=f"{format}: events into the log", value=drained.per_second, unit="/s", must_be="at least",
                        limit=goal,
                    ),
                    BenchmarkResult(name=f"{format}: source, each", value=drained.source_us, unit="µs cpu"),
                    BenchmarkResult(name=f"{format}: PostgreSQL, each", value=drained.cluster_us, unit="µs cpu"),
                ]  # fmt: skip
            async with fresh_database() as database_url, Kafka(it.address, linger_ms=0) as prompt:
                found = await latencies(prompt, database_url, deliveries)
            results += [
                BenchmarkResult(
                    name="message to webhook, p50", value=percentile(found, 0.5), unit="ms", limit=LATENCY_MS
                ),
                BenchmarkResult(name="message to webhook, p99", value=percentile(found, 0.99), unit="ms"),
            ]
            async with fresh_database() as database_url:
                with_source, without = await idle_percent(kafka, database_url, idle_seconds)
            results.append(
                BenchmarkResult(name="idle source", value=with_source - without, unit="% cpu", limit=IDLE_PERCENT)
            )
    table(f"sources: {messages:,} messages of one partition", results)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks sources")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--messages", type=int)
    options = parser.parse_args(arguments)
    quick = options.quick
    messages = options.messages or (10_000 if quick else MESSAGES)
    uvloop.run(
        run(messages=messages, deliveries=40 if quick else DELIVERIES, idle_seconds=10.0 if quick else IDLE_SECONDS)
    )
