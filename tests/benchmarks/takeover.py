"""Two daemons on one database, one of them ends: the time until the other delivers for its shards.

A route in each of the 16 shards gets events all the time. The gap of a shard is the time from the end of its daemon to
the first arrival of an event that was published later. After `kill -9` the daemon must be found dead. SIGTERM hands them over
while a request to a slow receiver is in flight, and must neither lose nor repeat anything.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import time
from collections import Counter
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from itertools import count

import uvloop

from eventstore.domain_events.events import SHARDS, shard_of
from tests.benchmarks.receivers import Arrival, Receivers, receivers
from tests.benchmarks.results import BenchmarkResult, table
from tests.benchmarks.workload import Workload, workload
from tests.support.processes.running import Running
from tests.support.until import until

STEADY = range(SHARDS)
EVERY_SECONDS = 0.05
# Until the two daemons have their shares; after that time the round starts with the shares as they are.
SETTLE_SECONDS = 15.0
MAX_QUEUED_SECONDS = 40.0

_OWNERS = """
SELECT shard, split_part(owner, ':', 2)::integer AS pid FROM hookledger.lease
 WHERE owner IS NOT NULL AND expires_at > clock_timestamp()
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    gap_seconds: float
    shards: int
    twice: int
    code: int


def tenants_of_all_shards() -> list[str]:
    """Tenant n is in shard n."""
    found: dict[int, str] = {}
    for number in count():
        found.setdefault(shard_of(f"tenant-{number}"), f"tenant-{number}")
        if len(found) == SHARDS:
            return [found[shard] for shard in range(SHARDS)]
    raise AssertionError


async def _shards_by_pid(it: Workload) -> dict[int, set[int]]:
    owned: dict[int, set[int]] = {}
    for row in await it.process.rows(_OWNERS):
        owned.setdefault(row["pid"], set()).add(row["shard"])
    return owned


async def _settled(it: Workload, daemons: list[Running]) -> dict[int, set[int]]:
    """Waits until each daemon has its share, or too long. Returns process id → its shards."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while True:
        owned = await _shards_by_pid(it)
        shares = [len(owned.get(daemon.process.pid, ())) for daemon in daemons]
        if (all(shares) and sum(shares) == SHARDS) or time.monotonic() > deadline:
            return owned
        await asyncio.sleep(0.2)


class _Watch:
    """Counts arrivals over all rounds."""

    def __init__(self, remote: Receivers) -> None:
        self.times: Counter[tuple[int, int]] = Counter()
        self._remote = remote

    def look(self) -> list[Arrival]:
        arrivals = self._remote.arrivals()
        self.times.update((arrival.route, arrival.number) for arrival in arrivals)
        return arrivals

    @property
    def repeated(self) -> int:
        return self.times.total() - len(self.times)


async def _end(it: Workload, watch: _Watch, victim: Running, shards: set[int], how: signal.Signals) -> Round:
    """Ends a daemon under load, and waits until the other one delivers for each of its shards."""
    watch.look()
    repeated = watch.repeated
    if how is signal.SIGTERM:
        slow = SHARDS + min(shards)
        await it.publish([slow], count=1)
        await until(lambda: any(arrival.route == slow for arrival in watch.look()), seconds=MAX_QUEUED_SECONDS)
    ended_at = time.monotonic()
    victim.process.send_signal(how)
    gaps: dict[int, float] = {}

    def all_came() -> bool:
        for arrival in watch.look():
            if arrival.route in shards and arrival.published_at > ended_at:
                gaps.setdefault(arrival.route, arrival.at - ended_at)
        return len(gaps) == len(shards)

    await until(all_came, seconds=MAX_QUEUED_SECONDS)
    code = await asyncio.to_thread(victim.process.wait, MAX_QUEUED_SECONDS)
    # By then requests in flight of the ended daemon are repeated if their outcome was not recorded.
    await it.process.until_row("SELECT count(*) = 0 FROM hookledger.retry", seconds=MAX_QUEUED_SECONDS)
    return Round(gap_seconds=max(gaps.values()), shards=len(shards), twice=watch.repeated - repeated, code=code)


async def _publish_until(it: Workload, stop: asyncio.Event) -> None:
    while not stop.is_set():
        await it.publish(STEADY, count=SHARDS)
        await asyncio.sleep(EVERY_SECONDS)


async def run(rounds: int) -> None:
    found: dict[signal.Signals, list[Round]] = {signal.SIGKILL: [], signal.SIGTERM: []}
    with receivers() as remote:
        async with workload() as it, AsyncExitStack() as daemons:
            running = [await daemons.enter_async_context(it.daemon()) for _ in range(2)]
            kinds = ["live"] * SHARDS + ["slow"] * SHARDS
            await it.routes(
                [f"{remote.url}/{kind}/{n}" for n, kind in enumerate(kinds)], tenants=tenants_of_all_shards()
            )
            watch = _Watch(remote)
            stop = asyncio.Event()
            load = asyncio.create_task(_publish_until(it, stop))
            for how in list(found) * rounds:
                owned = await _settled(it, running)
                victim = max(running, key=lambda daemon: len(owned.get(daemon.process.pid, ())))
                found[how].append(await _end(it, watch, victim, owned[victim.process.pid], how))
                print(f"{how.name}: {found[how][-1]}", flush=True)
                running.remove(victim)
                running.append(await daemons.enter_async_context(it.daemon()))
            stop.set()
            await load
            everything = it.published(range(2 * SHARDS))
            with suppress(AssertionError):
                await until(
                    lambda: watch.look() is not None and len(watch.times) == everything, seconds=MAX_QUEUED_SECONDS
                )
            report(found, lost=everything - len(watch.times))


def report(found: dict[signal.Signals, list[Round]], *, lost: int) -> None:
    killed, asked = found[signal.SIGKILL], found[signal.SIGTERM]
    table(
        "one of two daemons ends",
        [
            BenchmarkResult(name="kill -9: longest gap", value=max(r.gap_seconds for r in killed), unit="s", limit=3),
            BenchmarkResult(name="kill -9: delivered twice", value=sum(r.twice for r in killed)),
            BenchmarkResult(name="SIGTERM: longest gap", value=max(r.gap_seconds for r in asked), unit="s", limit=1),
            BenchmarkResult(name="SIGTERM: delivered twice", value=sum(r.twice for r in asked), limit=0),
            BenchmarkResult(name="SIGTERM: exit codes other than 0", value=sum(r.code != 0 for r in asked), limit=0),
            BenchmarkResult(name="lost", value=lost, limit=0),
        ],
    )


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks takeover")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, help="one kill -9 and one SIGTERM in each")
    options = parser.parse_args(arguments)
    uvloop.run(run(options.rounds or (1 if options.quick else 2)))
