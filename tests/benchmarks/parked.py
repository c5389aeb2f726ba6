"""What a large backlog of dead routes costs the live ones and the daemon's memory, and how it is drained after.

In one run: the throughput of live routes with nothing else to do, then the same while pairs of 20 dead routes lie
parked, then the dead routes recover. The drain is watched for a while only; a million takes minutes.
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
from tests.benchmarks.scene import Scene, scene
from tests.benchmarks.verdicts import Verdict, table

LIVE = range(20)
DEAD = range(20, 40)
ROUTE_CONCURRENCY = 16  # the default of delivery.route_concurrency
PARK_SECONDS = 300.0
MAX_QUEUED_SECONDS = 30.0

Pair = tuple[int, int]

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
    """`per_second` is that of the second half: in the first one breakers still wait and probe."""

    after_seconds: float
    per_second: float
    count: int
    most_behind: int


class _Watch:
    """The receiving side; `tried` are pairs whose first attempt failed, so that a retry of them may come late."""

    def __init__(self, far: Receivers, kind: str) -> None:
        self.far = far
        self.kind = kind
        self.tried: set[Pair] = set()

    def arrivals(self, routes: range) -> list[Arrival]:
        """What these routes took since this was asked last."""
        arrivals = self.far.arrivals()
        self.tried.update((arrival.route, arrival.number) for arrival in arrivals if not arrival.was_taken)
        return [arrival for arrival in arrivals if arrival.was_taken and arrival.route in routes]


async def _live_throughput(it: Scene, watch: _Watch, count: int) -> float:
    """Deliveries per second of so many events; of those that came, if they do not all come."""
    watch.arrivals(LIVE)
    before = watch.far.taken()
    await it.publish(LIVE, count=count)
    with suppress(AssertionError):
        await watch.far.until_taken(before + count, seconds=MAX_QUEUED_SECONDS)
    ended_at = time.monotonic()
    times = [arrival.at for arrival in watch.arrivals(LIVE)]
    if not times:
        return 0.0
    return len(times) / ((max(times) if len(times) >= count else ended_at) - min(times))


async def _park(it: Scene, pairs: int) -> float:
    """Publishes for the dead routes until all of it is accounted for; pairs per second."""
    started = time.monotonic()
    await it.publish(DEAD, count=pairs)
    await it.it.until_accounted(seconds=PARK_SECONDS)
    return pairs / (time.monotonic() - started)


async def _drain(it: Scene, watch: _Watch, seconds: float) -> Drain:
    """Mends the dead routes, and sees what comes until all has come or the time is over."""
    watch.arrivals(DEAD)
    mended_at = watch.far.mend()
    with suppress(AssertionError):  # what is not drained by then is not waited for
        await watch.far.until_taken(it.published(DEAD) - len(watch.tried), kind=watch.kind, seconds=seconds)
    arrivals = watch.arrivals(DEAD)
    if len(arrivals) < 2:
        raise SystemExit(f"nothing was drained within {seconds:g} s")
    first, last = arrivals[0].at, arrivals[-1].at
    flowing = sum(arrival.at > (first + last) / 2 for arrival in arrivals)
    return Drain(
        after_seconds=first - mended_at,
        per_second=flowing / ((last - first) / 2),
        count=len(arrivals),
        most_behind=_most_behind(arrivals, watch.tried),
    )


def _most_behind(arrivals: Iterable[Arrival], tried: set[Pair]) -> int:
    """By how many places a first attempt came after a later one of its route, at most."""
    newest: dict[int, int] = defaultdict(int)
    most = 0
    for arrival in arrivals:
        if (arrival.route, arrival.number) not in tried:
            most = max(most, newest[arrival.route] - arrival.number)
            newest[arrival.route] = max(newest[arrival.route], arrival.number)
    return most


async def run(kind: str, sizes: Sizes) -> None:
    with receivers() as far:
        async with scene() as it, it.daemon() as daemon:
            watch, pid = _Watch(far, kind), daemon.process.pid
            await it.routes([f"{far.url}/live/{n}" for n in LIVE] + [f"{far.url}/{kind}/{n}" for n in DEAD])
            await _live_throughput(it, watch, sizes.live_events)  # so that memory is what a working daemon has

            empty = [await _live_throughput(it, watch, sizes.live_events) for _ in range(sizes.rounds)]
            print(f"live routes alone: {', '.join(f'{rate:,.0f}/s' for rate in empty)}", flush=True)
            before = meter.rss_bytes(pid)
            parking = await _park(it, sizes.pairs)
            (row,) = await it.it.rows(_PARKED)
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
            Verdict(name="parking", figure=parking, unit="/s"),
            Verdict(
                name="live routes beside it",
                figure=statistics.median(beside) / normal,
                unit="x",
                must_be="at least",
                limit=0.9,
            ),
            Verdict(name="growth of the daemon", figure=growth / 1024 / 1024, unit="MiB", limit=100),
            Verdict(name="recovered: first delivery after", figure=drain.after_seconds, unit="s"),
            Verdict(name="drained meanwhile", figure=drain.count),
            Verdict(
                name="drain, against normal throughput",
                figure=drain.per_second / normal,
                unit="x",
                must_be="at least",
                limit=0.5,
            ),
            Verdict(name="most places out of order", figure=drain.most_behind, limit=ROUTE_CONCURRENCY),
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
