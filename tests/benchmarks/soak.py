"""An hour of steady traffic to a daemon with two workers, in which nothing may grow but the logs.

Events are posted in small batches at a steady rate. One receiver of sixteen is slow, so that requests are always under
way. Meanwhile somebody toggles a webhook and reads pages, lists and metrics. The slopes are of a line through all
samples after the warm-up, in which caches fill: of the memory of all processes together, and of the size of the tables
that are no log. Files and asyncio tasks come and go with connections, so of them the least number is compared.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import linear_regression

import aiohttp
import uvloop

from tests.benchmarks import meter
from tests.benchmarks.receivers import receivers
from tests.benchmarks.results import BenchmarkResult, table
from tests.benchmarks.workload import Workload, workload

LIVE = 15
WORKERS = 2
# To the slow receiver, which answers after 14 s: so many requests a second.
SLOW_PER_SECOND = 1
SAMPLE_SECONDS = 15.0
READ_SECONDS = 5.0
SLICE_SECONDS = 30.0
# A part of the run, at its beginning.
WARM_UP_PART = 0.25
MOST_MIB_AN_HOUR = 2.0

# What grows with every event, or with every change or seal, for as long as it is kept.
_LOGS = "^(domain_event|attempt|tick|seal|route_event)"
_TABLES = f"""
SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class
 WHERE relnamespace = 'hookledger'::regnamespace AND relkind = 'r' AND relname !~ '{_LOGS}'
"""
_WAITING = """
SELECT (SELECT count(*) FROM hookledger.retry) + (SELECT count(*) FROM hookledger.parked)
     + (SELECT count(*) FROM hookledger.parked_range)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SoakSample:
    """What the processes and tables have at a moment, in hours since the start."""

    hours: float
    memory_mib: float
    files: int
    tasks: float
    table_mib: float
    waiting_rows: int


async def run(minutes: float, per_second: int) -> None:
    with receivers() as remote:
        async with workload() as it:
            await it.routes([f"{remote.url}/live/{n}" for n in range(LIVE)] + [f"{remote.url}/slow/{LIVE}"])
            async with it.daemon("--workers", str(WORKERS)) as daemon:
                samples: list[SoakSample] = []
                watching = asyncio.create_task(_watch(it, daemon.url, daemon.process.pid, samples))
                reading = asyncio.create_task(_read(daemon.url, it.tenants[0]))
                count = await _publish(it, daemon.url, minutes * 60, per_second)
                await remote.until_accepted(count, seconds=60)
                watching.cancel()
                reading.cancel()
                for result in await asyncio.gather(watching, reading, return_exceptions=True):
                    if not isinstance(result, asyncio.CancelledError):
                        raise SystemExit(f"what watched the run failed: {result!r}")
                await it.process.until_accounted()
                await it.process.until_row(f"SELECT ({_WAITING}) = 0", seconds=60)  # for the slow receiver
            accepted = remote.accepted()
    report(samples[int(len(samples) * WARM_UP_PART) :], count, accepted, per_second)


async def _publish(it: Workload, url: str, seconds: float, per_second: int) -> int:
    """Publishes in slices, so that no more than one slice of requests is in memory. Returns the number for live ones."""
    count, ends_at = 0, time.monotonic() + seconds
    while (left := ends_at - time.monotonic()) > 0:
        span = min(SLICE_SECONDS, left)
        published, _ = await asyncio.gather(
            it.publish_steadily(url, range(LIVE), per_second=per_second, seconds=span),
            it.publish_steadily(url, [LIVE], per_second=SLOW_PER_SECOND, seconds=span),
        )
        count += published
    return count


async def _watch(it: Workload, url: str, pid: int, samples: list[SoakSample]) -> None:
    began = time.monotonic()
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        while True:
            await asyncio.sleep(SAMPLE_SECONDS)
            async with session.get(f"{url}/metrics") as answer:
                metrics = await answer.text()
            (sizes,) = await it.process.rows(f"SELECT ({_TABLES}) AS table_bytes, ({_WAITING}) AS waiting_rows")
            sample = SoakSample(
                hours=(time.monotonic() - began) / 3600,
                memory_mib=meter.family_rss_bytes(pid) / 2**20,
                files=meter.family_files(pid),
                tasks=_value(metrics, "hookledger_tasks"),
                table_mib=sizes["table_bytes"] / 2**20,
                waiting_rows=sizes["waiting_rows"],
            )
            samples.append(sample)
            print(
                f"  {sample.hours * 60:5.1f} min: {sample.memory_mib:.1f} MiB, {sample.files} files, {sample.tasks:.0f} "
                f"tasks, tables {sample.table_mib:.1f} MiB, {sample.waiting_rows} rows wait",
                flush=True,
            )


async def _read(url: str, tenant: str) -> None:
    """What merchants, operators and Prometheus do all the time."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30)) as session:
        async with session.get(f"{url}/v1/tenants/{tenant}/routes") as answer:
            route = (await answer.json())["items"][0]["id"]
        own = f"{url}/v1/tenants/{tenant}"
        pages = (f"{own}/deliveries", f"{own}/routes/{route}", f"{url}/t/{tenant}/deliveries", f"{url}/operator/status")
        other = {"name": "toggled", "target_url": f"{url}/nowhere", "event_types": ["nothing.happens"]}
        async with session.post(f"{own}/routes", json=other) as answer:
            toggled = (await answer.json())["id"]
        for word in itertools.cycle(("disable", "enable")):
            await asyncio.sleep(READ_SECONDS)
            for page in pages:
                async with session.get(page) as answer:
                    if answer.status != 200:
                        raise SystemExit(f"{page}: {answer.status} {await answer.text()}")
            async with session.post(f"{own}/routes/{toggled}/{word}") as answer:
                if answer.status != 200:
                    raise SystemExit(f"{word}: {answer.status} {await answer.text()}")


def _value(metrics: str, name: str) -> float:
    found = re.search(rf"^{name} (\S+)$", metrics, re.MULTILINE)
    if found is None:
        raise SystemExit(f"no metric {name}")
    return float(found.group(1))


def report(samples: list[SoakSample], published: int, accepted: int, per_second: int) -> None:
    hours = [sample.hours for sample in samples]

    def slope(values: list[float]) -> float:
        return linear_regression(hours, values).slope

    tables = [sample.table_mib for sample in samples]
    table(
        f"{samples[-1].hours * 60:.0f} min at {per_second} events a second, {WORKERS} workers, {published:,} deliveries",
        [
            BenchmarkResult(
                name="memory grows by",
                value=slope([sample.memory_mib for sample in samples]),
                unit="MiB/h",
                limit=MOST_MIB_AN_HOUR,
            ),
            BenchmarkResult(name="memory at the end", value=samples[-1].memory_mib, unit="MiB"),
            BenchmarkResult(name="files that stay grew by", value=_growth([s.files for s in samples]), limit=32),
            BenchmarkResult(name="tasks that stay grew by", value=_growth([s.tasks for s in samples]), limit=5),
            BenchmarkResult(name="tables that are no log grow by", value=slope(tables), unit="MiB/h", limit=2),
            BenchmarkResult(name="rows that wait, at most", value=max(s.waiting_rows for s in samples)),
            BenchmarkResult(name="lost", value=max(0, published - accepted), limit=0),
            BenchmarkResult(name="twice", value=max(0, accepted - published)),
        ],
    )


def _growth(values: Sequence[float]) -> float:
    """By how much the least of the second half is above that of the first: what comes and goes does not count."""
    middle = len(values) // 2
    return min(values[middle:]) - min(values[:middle])


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks soak")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=int, default=1000, help="events per second, a fifth of what the machine can do")
    options = parser.parse_args(arguments)
    uvloop.run(run(3.0 if options.quick else options.minutes, options.rate))
