"""The cost of one dead and one slow route for 98 others: latency under a steady load, throughput of a backlog.

Each round starts a daemon on a fresh database. Rounds with and without bad routes take turns and their medians are
compared, since a machine's speed varies. The baseline leaves out the same two routes, so both compare the same 98.
A dead route accepts and never answers, a refusing one has no listener on its port, a slow one answers after 14 s.
"""

from __future__ import annotations

import argparse
import socket
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from operator import attrgetter

import uvloop

from tests.benchmarks import meter
from tests.benchmarks.receivers import receivers
from tests.benchmarks.results import BenchmarkResult, percentile, table
from tests.benchmarks.workload import workload

ROUTES = 100
WARM_UP_SECONDS = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    per_second: int
    seconds: float
    backlog: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """`cpu_seconds` is the daemon's CPU time for one delivery of the backlog. Other work on the machine hardly changes it."""

    p99_seconds: float
    per_second: float
    cpu_seconds: float


@contextmanager
def _refusing_port() -> Iterator[str]:
    """The URL of a port that refuses connections during the block."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


def _targets(bad: str, count: int, url: str, refusing_url: str) -> list[str]:
    """The bad routes first, half of them slow."""
    dead = {"none": f"{url}/live", "dead": f"{url}/dead", "refusing": refusing_url}[bad]
    slow = f"{url}/live" if bad == "none" else f"{url}/slow"
    bases = [dead, slow] * count
    return [f"{base}/{n}" for n, base in enumerate(bases + [f"{url}/live"] * (ROUTES - len(bases)))]


async def measure(bad: str, count: int, load: Load) -> Round:
    """One round, with `count` routes of the bad kind and as many slow ones."""
    with receivers() as remote, _refusing_port() as refusing_url:
        async with workload() as it, it.daemon() as daemon:
            await it.routes(_targets(bad, count, remote.url, refusing_url))
            everyone, good = range(ROUTES), range(2 * count, ROUTES)
            # Warms up keys, connections and code paths.
            await it.publish(everyone, count=ROUTES)
            await it.publish_steadily(daemon.url, everyone, per_second=load.per_second, seconds=WARM_UP_SECONDS)
            await remote.until_accepted(it.published(good))
            remote.arrivals()

            await it.publish_steadily(daemon.url, everyone, per_second=load.per_second, seconds=load.seconds)
            await remote.until_accepted(it.published(good))
            p99 = percentile([arrival.seconds for arrival in remote.arrivals() if arrival.route in good], 0.99)

            used = meter.cpu_seconds(daemon.process.pid)
            await it.publish(everyone, count=load.backlog)
            await remote.until_accepted(it.published(good))
            used = meter.cpu_seconds(daemon.process.pid) - used
            times = [arrival.at for arrival in remote.arrivals() if arrival.route in good]
    per_second = (len(times) - 1) / (max(times) - min(times))
    return Round(p99_seconds=p99, per_second=per_second, cpu_seconds=used / len(times))


async def run(bad_kinds: list[str], count: int, rounds: int, load: Load) -> None:
    found: dict[str, list[Round]] = {kind: [] for kind in ("none", *bad_kinds)}
    for number in range(1, rounds + 1):
        turns = list(found)
        for kind in turns[number % len(turns) :] + turns[: number % len(turns)]:  # none is always the first
            those = found[kind]
            those.append(await measure(kind, count, load))
            print(
                f"round {number}, bad routes {kind}: p99 {those[-1].p99_seconds * 1000:,.1f} ms, "
                f"backlog {those[-1].per_second:,.0f}/s, {those[-1].cpu_seconds * 1e6:,.0f} µs of cpu each",
                flush=True,
            )
    results = []
    for kind in bad_kinds:
        p99, throughput, cpu = (
            _median(found[kind], figure) / _median(found["none"], figure)
            for figure in (attrgetter("p99_seconds"), attrgetter("per_second"), attrgetter("cpu_seconds"))
        )
        results += [
            BenchmarkResult(name=f"{kind}: throughput", value=throughput, unit="x", must_be="at least", limit=0.95),
            BenchmarkResult(name=f"{kind}: p99 of latency", value=p99, unit="x", limit=2.0),
            BenchmarkResult(name=f"{kind}: cpu of a delivery", value=cpu, unit="x"),
        ]
    table(f"the {ROUTES - 2 * count} good routes beside {count} bad and {count} slow, against none of those", results)


def _median(rounds: list[Round], figure: Callable[[Round], float]) -> float:
    return statistics.median(map(figure, rounds))


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks isolation")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--bad", choices=["dead", "refusing", "both"], default="both")
    parser.add_argument("--count", type=int, default=1, help="bad routes of either kind: so many dead, so many slow")
    parser.add_argument("--rounds", type=int)
    options = parser.parse_args(arguments)
    kinds = ["dead", "refusing"] if options.bad == "both" else [options.bad]
    load = Load(per_second=300, seconds=6, backlog=10_000)
    if options.quick:
        load = Load(per_second=300, seconds=4, backlog=5_000)
    uvloop.run(run(kinds, options.count, options.rounds or (1 if options.quick else 3), load))
