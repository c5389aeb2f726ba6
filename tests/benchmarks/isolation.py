"""What one dead and one slow route cost the 98 others: latency under a steady load, throughput of a backlog.

Each round starts a daemon on a fresh database. Rounds with and without bad routes take turns and their medians are
compared, since a machine has moods. The two routes stand apart in the baseline too, so both compare the same 98.
A dead route accepts and never answers, a refusing one is nobody's port, a slow one answers after 14 s.
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
from tests.benchmarks.scene import scene
from tests.benchmarks.verdicts import Verdict, percentile, table

ROUTES = 100
WARM_UP_SECONDS = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    per_second: int
    seconds: float
    backlog: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """`cpu_seconds` is what the daemon used for one delivery of the backlog: other work on the machine hardly moves it."""

    p99_seconds: float
    per_second: float
    cpu_seconds: float


@contextmanager
def _nobody() -> Iterator[str]:
    """The URL of a port that refuses connections for as long as this lasts."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


def _targets(bad: str, count: int, url: str, nobody: str) -> list[str]:
    """The bad routes first, half of them slow."""
    dead = {"none": f"{url}/live", "dead": f"{url}/dead", "refusing": nobody}[bad]
    slow = f"{url}/live" if bad == "none" else f"{url}/slow"
    bases = [dead, slow] * count
    return [f"{base}/{n}" for n, base in enumerate(bases + [f"{url}/live"] * (ROUTES - len(bases)))]


async def measure(bad: str, count: int, load: Load) -> Round:
    """One round, with `count` routes of the bad kind and as many slow ones."""
    with receivers() as far, _nobody() as nobody:
        async with scene() as it, it.daemon() as daemon:
            await it.routes(_targets(bad, count, far.url, nobody))
            everyone, good = range(ROUTES), range(2 * count, ROUTES)
            # Keys, connections and code paths, all for the first time: not what is measured.
            await it.publish(everyone, count=ROUTES)
            await it.offer(daemon.url, everyone, per_second=load.per_second, seconds=WARM_UP_SECONDS)
            await far.until_taken(it.published(good))
            far.arrivals()

            await it.offer(daemon.url, everyone, per_second=load.per_second, seconds=load.seconds)
            await far.until_taken(it.published(good))
            p99 = percentile([arrival.seconds for arrival in far.arrivals() if arrival.route in good], 0.99)

            used = meter.cpu_seconds(daemon.process.pid)
            await it.publish(everyone, count=load.backlog)
            await far.until_taken(it.published(good))
            used = meter.cpu_seconds(daemon.process.pid) - used
            times = [arrival.at for arrival in far.arrivals() if arrival.route in good]
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
    verdicts = []
    for kind in bad_kinds:
        p99, throughput, cpu = (
            _median(found[kind], figure) / _median(found["none"], figure)
            for figure in (attrgetter("p99_seconds"), attrgetter("per_second"), attrgetter("cpu_seconds"))
        )
        verdicts += [
            Verdict(name=f"{kind}: throughput", figure=throughput, unit="x", must_be="at least", limit=0.95),
            Verdict(name=f"{kind}: p99 of latency", figure=p99, unit="x", limit=2.0),
            Verdict(name=f"{kind}: cpu of a delivery", figure=cpu, unit="x"),
        ]
    table(f"the {ROUTES - 2 * count} good routes beside {count} bad and {count} slow, against none of those", verdicts)


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
