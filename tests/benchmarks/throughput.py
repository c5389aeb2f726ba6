"""Throughput of the whole durable pipeline, as a ratio to a bare aiohttp loop that posts the same bytes.

A backlog of events, each for one of 16 routes, is drained: tail, decide, lane, gate, render, sign, send, classify,
record, checkpoint. The ceiling posts the same bodies with as many headers to the same receiver, with the same number of
requests in flight, and does nothing else. Ceiling and pipeline take turns, and the medians are compared: of the time
that it takes, and of the CPU time, which other work on the machine changes less. The pipeline runs in this process, and
the CPU time of its PostgreSQL is added to its own. The receiver's counts for neither.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections import deque
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized

import aiohttp
import uvloop

from eventstore import domain_events
from eventstore.domain_events.events import NewEvent
from tests.benchmarks import meter
from tests.benchmarks.counting_receiver import counting_receiver
from tests.benchmarks.fresh_database import fresh_database
from tests.support.pipeline_process import pipeline_process

ROUTES = 16
CONCURRENCY = 256

DATA = {
    "type": "order",
    "public_id": "7dc684477391c94c8286",
    "customer": "h334741",
    "sub_total": "34.33",
    "tax_total": "2.74",
    "total": "37.07",
    "place": "2026-12-01",
    "status": 1,
    "status_display": "Unsent",
    "items": [{"public_id": f"{n:020x}", "product": "SKU-787", "quantity": 4, "price": "7.52"} for n in range(4)],
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What one request took, in µs: time, and CPU time of this process and of PostgreSQL."""

    wall: float
    own_cpu: float
    cluster_cpu: float = 0.0

    @property
    def cpu(self) -> float:
        return self.own_cpu + self.cluster_cpu

    def __str__(self) -> str:
        return f"{1e6 / self.wall:,.0f}/s, {self.own_cpu:.0f} + {self.cluster_cpu:.0f} µs CPU"


class _Stopwatch:
    """Measures from its making on. `postmaster` is the server whose CPU time counts too, if there is one."""

    def __init__(self, postmaster: int | None = None) -> None:
        self._postmaster = postmaster
        self._cluster_cpu = self._cluster()
        self._own_cpu, self._wall = time.process_time(), time.perf_counter()

    def cost(self, count: int) -> Cost:
        wall, own_cpu = time.perf_counter() - self._wall, time.process_time() - self._own_cpu
        part = 1e6 / count
        return Cost(wall=wall * part, own_cpu=own_cpu * part, cluster_cpu=(self._cluster() - self._cluster_cpu) * part)

    def _cluster(self) -> float:
        return 0.0 if self._postmaster is None else meter.family_cpu_seconds(self._postmaster)


async def bare(url: str, count: int) -> Cost:
    """Posts `count` bodies of the same size with the same number of headers."""
    body = json.dumps({"id": "evt_1", "type": "order.t1", "created": 1, "data": {"object": DATA}}).encode()
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "Hookledger/benchmark",
        "OrderGroove-Signature": f"ts=1795463815,sig={'a' * 64}",
        "webhook-id": "30628975-4708-5324-92dc-f7e8fe6a6f7b",
        "webhook-timestamp": "1795463815",
        "webhook-signature": f"v1,{'a' * 43}=",
    }
    left = deque(range(count))

    async def work(session: aiohttp.ClientSession) -> None:
        while left:
            left.popleft()
            async with session.post(url, data=body, headers=headers) as response:
                await response.read()

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        stopwatch = _Stopwatch()
        await asyncio.gather(*(work(session) for _ in range(CONCURRENCY)))
        return stopwatch.cost(count)


async def pipeline(url: str, count: int, answered: Synchronized[int]) -> Cost:
    """Drains a backlog of `count` events. Measures from the first request to the last checkpoint."""
    async with fresh_database() as database_url:
        async with pipeline_process(database_url, run=False) as it:
            for n in range(ROUTES):
                await it.route(f"{url}/{n}", f"order.t{n}")
            data = json.dumps(DATA).encode()
            for start in range(0, count, 5000):
                events = [
                    NewEvent(tenant="acme", id=f"evt_{n}", type=f"order.t{n % ROUTES}", data=data)
                    for n in range(start, min(start + 5000, count))
                ]
                await domain_events.publish(it.database, events, seconds=60)
        before = answered.value
        async with pipeline_process(database_url, concurrency=CONCURRENCY) as it:
            backend = (await it.rows("SELECT pg_backend_pid() AS pid"))[0]["pid"]
            postmaster = meter.parent(backend)
            while answered.value == before:
                await asyncio.sleep(0.001)
            stopwatch = _Stopwatch(postmaster)
            while answered.value < before + count:
                await asyncio.sleep(0.005)
            await it.until_accounted(seconds=120)
            cost = stopwatch.cost(count)
        if answered.value - before != count:
            raise SystemExit(f"{answered.value - before} requests arrived instead of {count}")
        return cost


async def run(events: int, rounds: int) -> None:
    ceilings, drained = [], []
    with counting_receiver() as (url, answered):
        await bare(url, 2000)
        for number in range(1, rounds + 1):
            ceilings.append(await bare(url, events))
            drained.append(await pipeline(url, events, answered))
            print(f"round {number}: bare aiohttp {ceilings[-1]}; pipeline {drained[-1]}", flush=True)
    wall, cpu = (
        statistics.median(measured(cost) for cost in ceilings) / statistics.median(measured(cost) for cost in drained)
        for measured in (_wall, _cpu)
    )
    rate = 1e6 / statistics.median(map(_wall, drained))
    print(f"throughput: {rate:,.0f} deliveries/s; {wall:.2f} of a bare aiohttp loop, by CPU time {cpu:.2f}")


def _wall(cost: Cost) -> float:
    return cost.wall


def _cpu(cost: Cost) -> float:
    return cost.cpu


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks throughput")
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(arguments)
    uvloop.run(run(options.events, options.rounds))
