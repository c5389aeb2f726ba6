"""The cost of a large backlog of dead routes for live routes and for the daemon's memory, and the speed of its drain.

One run measures the throughput of live routes alone, then with parked deliveries of 20 dead routes, then the drain after
the dead routes recover. The drain is measured for a limited time; a million deliveries take minutes.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

import uvloop

from tests.benchmarks import meter
from tests.benchmarks.receivers import Arrival, Receivers, receivers
from tests.benchmarks.results import BenchmarkResult, table
from tests.benchmarks.workload import Workload, workload

LIVE = range(20)
DEAD = range(20, 40)
ROUTE_CONCURRENCY = 16  # the default of delivery.route_concurrency
PARK_SECONDS = 300.0
MAX_QUEUED_SECONDS = 30.0

RouteAndNumber = tuple[int, int]

_PARKED = """
SELECT ((SELECT coalesce(sum(cardinality(seqs)), 0) FROM hookledger.parked)
      + (SELECT coalesce(sum(pairs), 0) FROM hookledger.parked_range))::bigint AS pairs
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    pairs: int
    live_events: int
    rounds: int
    drain_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """`per_second` is the rate of the second half: in the first half breakers still wait and probe."""

    after_seconds: float
    per_second: float
    count: int
    most_behind: int


class _Watch:
    """The receiving side. `tried` are the deliveries whose first attempt failed; their retry may come late."""

    def __init__(self, remote: Receivers, kind: str) -> None:
        self.remote = remote
        self.kind = kind
        self.tried: set[RouteAndNumber] = set()

    def arrivals(self, routes: range) -> list[Arrival]:
        """The accepted requests of these routes since the last call."""
        arrivals = self.remote.arrivals()
        self.tried.update((arrival.route, arrival.number) for arrival in arrivals if not arrival.was_accepted)
        return [arrival for arrival in arrivals if arrival.was_accepted and arrival.route in routes]


async def _live_throughput(it: Workload, watch: _Watch, count: int) -> float:
    """Publishes `count` events to live routes. Returns deliveries per second, of those that arrive in time."""
    watch.arrivals(LIVE)
    before = watch.remote.accepted()
    await it.publish(LIVE, count=count)
    with suppress(AssertionError):
        await watch.remote.until_accepted(before + count, seconds=MAX_QUEUED_SECONDS)
    ended_at = time.monotonic()
    times = [arrival.at for arrival in watch.arrivals(LIVE)]
    if not times:
        return 0.0
    return len(times) / ((max(times) if len(times) >= count else ended_at) - min(times))


async def _park(it: Workload, pairs: int) -> float:
    """Publishes to the dead routes and waits for the checkpoint. Returns deliveries per second."""
    started = time.monotonic()
    await it.publish(DEAD, count=pairs)
    await it.process.until_accounted(seconds=PARK_SECONDS)
    return pairs / (time.monotonic() - started)


async def _drain(it: Workload, watch: _Watch, seconds: float) -> Drain:
    """Makes the dead routes live, and measures arrivals until all have come or the time is over."""
    watch.arrivals(DEAD)
    recovered_at = watch.remote.recover()
    with suppress(AssertionError):  # the drain may take longer than it is measured
        await watch.remote.until_accepted(it.published(DEAD) - len(watch.tried), kind=watch.kind, seconds=seconds)
    arrivals = watch.arrivals(DEAD)
    if len(arrivals) < 2:
        raise SystemExit(f"nothing was drained within {seconds:g} s")
    first, last = arrivals[0].at, arrivals[-1].at
    flowing = sum(arrival.at > (first + last) / 2 for arrival in arrivals)
    return Drain(
        after_seconds=first - recovered_at,
        per_second=flowing / ((last - first) / 2),
        count=len(arrivals),
        most_behind=_most_behind(arrivals, watch.tried),
    )


def _most_behind(arrivals: Iterable[Arrival], tried: set[RouteAndNumber]) -> int:
    """The most places by which a first attempt came after a later event of its route."""
    newest: dict[int, int] = defaultdict(int)
    most = 0
    for arrival in arrivals:
        if (arrival.route, arrival.number) not in tried:
            most = max(most, newest[arrival.route] - arrival.number)
            newest[arrival.route] = max(newest[arrival.route], arrival.number)
    return most


async def run(kind: str, sizes: Sizes) -> None:
    with receivers() as remote:
        async with workload() as it, it.daemon() as daemon:
            watch, pid = _Watch(remote, kind), daemon.process.pid
            await it.routes([f"{remote.url}/live/{n}" for n in LIVE] + [f"{remote.url}/{kind}/{n}" for n in DEAD])
            await _live_throughput(it, watch, sizes.live_events)  # warms up, so that memory is that of a working daemon

            empty = [await _live_throughput(it, watch, sizes.live_events) for _ in range(sizes.rounds)]
            print(f"live routes alone: {', '.join(f'{rate:,.0f}/s' for rate in empty)}", flush=True)
            before = meter.rss_bytes(pid)
            parking = await _park(it, sizes.pairs)
            (row,) = await it.process.rows(_PARKED)
            parked = row["pairs"]
            print(f"{sizes.pairs:,} pairs accounted for, {parked:,} of them parked: {parking:,.0f}/s", flush=True)
            if parked == 0:
                raise SystemExit("nothing is parked: all of it was tried")
            beside = [await _live_throughput(it, watch, sizes.live_events) for _ in range(sizes.rounds)]
            print(f"live routes beside them: {', '.join(f'{rate:,.0f}/s' for rate in beside)}", flush=True)
            growth = meter.rss_bytes(pid) - before
            drain = await _drain(it, watch, sizes.drain_seconds)
    normal = statistics.median(empty)
    table(
        f"{sizes.pairs:,} pairs for {len(DEAD)} {kind} routes",
        [
            BenchmarkResult(name="parking", value=parking, unit="/s"),
            BenchmarkResult(
                name="live routes beside it",
                value=statistics.median(beside) / normal,
                unit="x",
                must_be="at least",
                limit=0.9,
            ),
            BenchmarkResult(name="growth of the daemon", value=growth / 1024 / 1024, unit="MiB", limit=100),
            BenchmarkResult(name="recovered: first delivery after", value=drain.after_seconds, unit="s"),
            BenchmarkResult(name="drained meanwhile", value=drain.count),
            BenchmarkResult(
                name="drain, against normal throughput",
                value=drain.per_second / normal,
                unit="x",
                must_be="at least",
                limit=0.5,
            ),
            BenchmarkResult(name="most places out of order", value=drain.most_behind, limit=ROUTE_CONCURRENCY),
        ],
    )


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks parked")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--pairs", type=int)
    parser.add_argument("--kind", choices=["dead", "failing"], default="dead", help="never answer, or answer 500")
    parser.add_argument("--drain-seconds", type=float, default=40.0)
    options = parser.parse_args(arguments)
    sizes = Sizes(
        pairs=options.pairs or (20_000 if options.quick else 200_000),
        live_events=4_000 if options.quick else 6_000,
        rounds=2 if options.quick else 3,
        drain_seconds=options.drain_seconds,
    )
    uvloop.run(run(options.kind, sizes))
