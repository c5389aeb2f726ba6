"""An export of all deliveries of a tenant as NDJSON: deliveries a second, and that memory does not grow."""

from __future__ import annotations

import argparse
import gc
import os
import time

import uvloop
from aiohttp import ClientTimeout, web
from aiohttp.test_utils import TestClient

from tests.benchmarks import meter
from tests.benchmarks.fresh_database import fresh_database
from tests.benchmarks.lists import LISTS, fill
from tests.benchmarks.results import BenchmarkResult, table
from tests.support.web.application import app

DELIVERIES, QUICK_DELIVERIES = 1_000_000, 100_000

# The reader of the export runs in the same process, and keeps nothing.
MOST_GROWTH_MIB = 16
CHUNK_BYTES = 1 << 16
SILENCE_SECONDS = 60


async def run(count: int) -> None:
    async with fresh_database() as url:
        await fill(url, count)
        async with app(url) as it:
            await export(it.client, f"{LISTS}?type=load.r1")  # a first one, for caches and connections
            deliveries, seconds, growth = await export(it.client, LISTS)
    table(
        f"an export of {deliveries:,} deliveries",
        [
            BenchmarkResult(name="deliveries", value=deliveries / seconds, unit="/s"),
            BenchmarkResult(name="growth of memory", value=growth / 1024 / 1024, unit="MiB", limit=MOST_GROWTH_MIB),
        ],
    )


async def export(client: TestClient[web.Request, web.Application], url: str) -> tuple[int, float, int]:
    """How many lines there are, the seconds, and by how many bytes memory grew after the first of them."""
    lines, begun, started = 0, 0, time.monotonic()
    patience = ClientTimeout(total=None, sock_read=SILENCE_SECONDS)
    async with client.get(url, headers={"Accept": "application/x-ndjson"}, timeout=patience) as answer:
        async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
            lines += chunk.count(b"\n")
            if not begun:
                gc.collect()
                begun = meter.rss_bytes(os.getpid())
    return lines, time.monotonic() - started, meter.rss_bytes(os.getpid()) - begun


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks export")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(arguments)
    uvloop.run(run(QUICK_DELIVERIES if options.quick else DELIVERIES))
