"""The cost of the egress guard: our sender, compared with the same sender without its checks.

The guard checks the URL of each attempt, each resolved address and each socket. The two senders take turns in one process, and the medians are compared: over kept connections, which is how webhooks are sent, and over
a fresh connection for each request, which is the worst case and has no limit. A sender is bound by the CPU, so the
benchmark measures CPU time, which other work on the machine hardly changes.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections import deque
from functools import lru_cache
from urllib.parse import urlsplit

import uvloop
from yarl import URL

from daemon.core.delivery.answer import Response
from daemon.core.webhook.addresses import DenyReason
from daemon.core.webhook.egress import EgressPolicy
from daemon.core.webhook.request import header_lines
from daemon.pipeline.http_client.dial import Origin
from daemon.pipeline.http_client.pool import ReceiverConnectionLimits
from daemon.pipeline.http_client.sender import CHECKED_TARGETS, Sender, SendTarget
from tests.benchmarks.counting_receiver import counting_receiver
from tests.benchmarks.results import BenchmarkResult, table
from tests.benchmarks.throughput import BODY, CONCURRENCY, HEADERS
from tests.support.receivers.dns import FakeResolver

HOST = "hooks.shop.com"
LINES = header_lines(HEADERS)
COST = 0.05
FRESH_PART = 0.25


class Unguarded(Sender):
    """The sender without any check."""

    async def start(self) -> None:
        await super().start()
        self._target = lru_cache(CHECKED_TARGETS)(_unchecked)
        self._guard._denied = _permitted  # type: ignore[method-assign]


def _permitted(address: str, host: str) -> DenyReason | None:
    return None


def _unchecked(raw: str) -> SendTarget:
    url = URL(raw, encoded=True)
    origin = Origin(url.scheme == "https", url.raw_host or "", url.port or 0)
    return SendTarget(origin=origin, head=f"POST {url.raw_path_qs} HTTP/1.1\r\nHost: {url.authority}\r\n".encode())


def names() -> FakeResolver:
    return FakeResolver(**{HOST: [["127.0.0.1"]]})


async def measure(kind: type[Sender], url: str, count: int, *, is_fresh: bool) -> float:
    """Sends `count` requests, as many at once as the daemon. Returns requests per second of CPU time."""
    left = deque(range(count))
    async with kind(EgressPolicy.dev(), timeout_seconds=15, on_denied=print, resolver=names()) as sender:
        if is_fresh:
            sender._pool._limits = ReceiverConnectionLimits(idle_per_origin=0, all_together=0)

        async def work() -> None:
            while left:
                left.popleft()
                answer = await sender.send(url, LINES, BODY)
                if not isinstance(answer, Response):
                    raise SystemExit(f"a request failed: {answer}")

        started = time.process_time()
        await asyncio.gather(*(work() for _ in range(CONCURRENCY)))
        return count / (time.process_time() - started)


async def compare(url: str, count: int, rounds: int, *, is_fresh: bool) -> float:
    """The guarded rate divided by the unguarded rate, of the medians."""
    rates: dict[type[Sender], list[float]] = {Sender: [], Unguarded: []}
    for number in range(rounds + 1):
        for kind in (Sender, Unguarded) if number % 2 else (Unguarded, Sender):
            rate = await measure(kind, url, count, is_fresh=is_fresh)
            if number:  # the first round warms up
                rates[kind].append(rate)
        if number:
            print(
                f"round {number}, {'fresh' if is_fresh else 'kept'} connections: "
                f"guarded {rates[Sender][-1]:,.0f}/s, unguarded {rates[Unguarded][-1]:,.0f}/s of cpu",
                flush=True,
            )
    return statistics.median(rates[Sender]) / statistics.median(rates[Unguarded])


async def run(requests: int, rounds: int) -> None:
    with counting_receiver() as (receiver_url, _):
        url = f"http://{HOST}:{urlsplit(receiver_url).port}/hook"
        kept = await compare(url, requests, rounds, is_fresh=False)
        fresh = await compare(url, int(requests * FRESH_PART), rounds, is_fresh=True)
    table(
        "the egress guard, against a sender without one",
        [
            BenchmarkResult(
                name="throughput, kept connections", value=kept, unit="x", must_be="at least", limit=1 - COST
            ),
            BenchmarkResult(name="throughput, fresh connections", value=fresh, unit="x"),
        ],
    )


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks guard")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args(arguments)
    uvloop.run(run(options.requests, options.rounds))
