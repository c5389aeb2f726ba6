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
import gc
import json
import ssl
import statistics
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path

import aiohttp
import uvloop

from daemon.core.delivery.answer import Response
from daemon.core.webhook.egress import EgressPolicy
from daemon.core.webhook.request import header_lines
from daemon.incarnations import settle_memory
from daemon.pipeline.http_client.sender import Sender
from eventstore import domain_events
from eventstore.domain_events.events import NewEvent
from tests.benchmarks import meter
from tests.benchmarks.counting_receiver import HOST, counting_receiver, counting_tls_receiver
from tests.benchmarks.fresh_database import fresh_database
from tests.support.pipeline.process import pipeline_process
from tests.support.receivers.dns import FakeResolver

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


BODY = json.dumps({"id": "evt_1", "type": "order.t1", "created": 1, "data": {"object": DATA}}).encode()
HEADERS = {
    "Content-Type": "application/json",
    "User-Agent": "Hookledger/benchmark",
    "OrderGroove-Signature": f"ts=1795463815,sig={'a' * 64}",
    "webhook-id": "30628975-4708-5324-92dc-f7e8fe6a6f7b",
    "webhook-timestamp": "1795463815",
    "webhook-signature": f"v1,{'a' * 43}=",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The receiver, how many requests it has answered, and the authority of its certificate if it has one."""

    url: str
    answered: Synchronized[int]
    authority_file: Path | None

    @property
    def resolver(self) -> FakeResolver:
        return FakeResolver(**{HOST: [["127.0.0.1"]]})


@contextmanager
def target(*, is_tls: bool) -> Iterator[Target]:
    if is_tls:
        with counting_tls_receiver() as (url, answered, authority_file):
            yield Target(url=url, answered=answered, authority_file=authority_file)
    else:
        with counting_receiver() as (url, answered):
            yield Target(url=url, answered=answered, authority_file=None)


async def in_turns(count: int, post: Callable[[], Awaitable[None]]) -> Cost:
    """Posts `count` times, with as many requests in flight as the pipeline has."""
    left = deque(range(count))

    async def work() -> None:
        while left:
            left.popleft()
            await post()

    stopwatch = _Stopwatch()
    await asyncio.gather(*(work() for _ in range(CONCURRENCY)))
    return stopwatch.cost(count)


async def bare(to: Target, count: int) -> Cost:
    """Posts `count` bodies of the same size with the same number of headers, by aiohttp."""
    tls = ssl.create_default_context(cafile=to.authority_file)
    url, name = to.url.replace(HOST, "127.0.0.1"), HOST if to.authority_file else None
    connector = aiohttp.TCPConnector(limit=0, ssl=tls)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:

        async def post() -> None:
            async with session.post(url, data=BODY, headers=HEADERS, server_hostname=name) as response:
                await response.read()

        return await in_turns(count, post)


async def sender_alone(to: Target, count: int) -> Cost:
    """The same by our sender."""
    lines = header_lines(HEADERS)
    async with Sender(
        EgressPolicy.dev(),
        timeout_seconds=15,
        on_denied=print,
        resolver=to.resolver,
        extra_ca_file=to.authority_file,
        concurrency=CONCURRENCY,
    ) as sender:

        async def post() -> None:
            answer = await sender.send(to.url, lines, BODY)
            if not isinstance(answer, Response):
                raise SystemExit(f"a request failed: {answer}")

        return await in_turns(count, post)


@contextmanager
def memory_as_in_the_daemon() -> Iterator[None]:
    """The garbage collector works as in the daemon, which the pipeline does not set up by itself."""
    thresholds = gc.get_threshold()
    settle_memory()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)


async def pipeline(to: Target, count: int) -> Cost:
    """Drains a backlog of `count` events. Measures from the first request to the last checkpoint."""
    async with fresh_database() as database_url:
        async with pipeline_process(database_url, run=False) as it:
            for n in range(ROUTES):
                await it.route(f"{to.url}/{n}", f"order.t{n}")
            data = json.dumps(DATA).encode()
            for start in range(0, count, 5000):
                events = [
                    NewEvent(tenant="acme", id=f"evt_{n}", type=f"order.t{n % ROUTES}", data=data)
                    for n in range(start, min(start + 5000, count))
                ]
                await domain_events.publish(it.database, events, seconds=60)
        answered, before = to.answered, to.answered.value
        async with pipeline_process(
            database_url, concurrency=CONCURRENCY, resolver=to.resolver, extra_ca_file=to.authority_file
        ) as it:
            with memory_as_in_the_daemon():
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


async def run(events: int, rounds: int, *, is_tls: bool) -> None:
    ceilings, sent, drained = [], [], []
    with target(is_tls=is_tls) as to:
        await bare(to, 2000)
        for number in range(1, rounds + 1):
            ceilings.append(await bare(to, events))
            sent.append(await sender_alone(to, events))
            drained.append(await pipeline(to, events))
            print(
                f"round {number}: bare aiohttp {ceilings[-1]}; sender alone {sent[-1]}; pipeline {drained[-1]}",
                flush=True,
            )
    of_sender = _median(_cpu, sent) / _median(_cpu, ceilings)
    wall, cpu = (_median(measured, ceilings) / _median(measured, drained) for measured in (_wall, _cpu))
    print(f"sending alone takes {of_sender:.2f} of the CPU time of aiohttp")
    print(
        f"throughput: {1e6 / _median(_wall, drained):,.0f} deliveries/s; "
        f"{wall:.2f} of a bare aiohttp loop, by CPU time {cpu:.2f}"
    )


def _median(measured: Callable[[Cost], float], costs: list[Cost]) -> float:
    return statistics.median(map(measured, costs))


def _wall(cost: Cost) -> float:
    return cost.wall


def _cpu(cost: Cost) -> float:
    return cost.cpu


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks throughput")
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tls", action="store_true", help="the receiver is reached over https")
    options = parser.parse_args(arguments)
    uvloop.run(run(options.events, options.rounds, is_tls=options.tls))
