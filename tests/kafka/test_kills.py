"""Kills of daemons, of PostgreSQL and of the broker, and rebalances in between: each message is one event.

What lies in Kafka is read by the test itself and compared with what lies in PostgreSQL. With --long it is 200,000 messages,
and the broker is killed too.
"""

from __future__ import annotations

import asyncio
import base64
import random
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import asyncpg
import orjson
import pytest

from eventstore.postgres import schema
from eventstore.postgres.connect import Database
from tests.support.faults.report import seed_of
from tests.support.kafka.broker import Broker
from tests.support.kafka.topics import Kafka, event_text
from tests.support.postgres.cluster import cluster
from tests.support.processes.cli import CommandLine
from tests.support.processes.running import Running, running

PARTITIONS = 12
_KEY = base64.b64encode(b"k" * 32).decode()
_STATE = "SELECT partition, next_offset FROM hookledger.source_partition"
_EVENTS = """
SELECT p.partition, e.source_offset, e.id FROM hookledger.domain_event e
  JOIN hookledger.source_partition p ON p.id = e.source_partition ORDER BY e.seq
"""
_DRIVER_ERRORS = (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError)


class Daemons:
    """Two daemons on one database, of which any may be killed and is replaced."""

    def __init__(self, home: Path, url: str, kafka: Kafka, topic: str) -> None:
        self._home, self._url = home, url
        self._settings = {
            "HOOKLEDGER_SIGNING__MASTER_KEY": _KEY,
            "HOOKLEDGER_SOURCES__SHOP__BROKERS": kafka.address,
            "HOOKLEDGER_SOURCES__SHOP__TOPICS": topic,
        }
        self._stack = AsyncExitStack()
        self.running: list[Running] = []

    async def start(self) -> None:
        home = Path(tempfile.mkdtemp(dir=self._home))
        line = CommandLine(home, self._url, **self._settings)
        self.running.append(await self._stack.enter_async_context(running(line)))

    async def close(self) -> None:
        for each in self.running:
            assert await each.stop() == 0
        await self._stack.aclose()


@asynccontextmanager
async def sending(kafka: Kafka, topic: str, count: int) -> AsyncIterator[asyncio.Task[None]]:
    """Sends messages round the partitions, as fast as they are taken in."""

    async def send() -> None:
        for first in range(0, count, 600):
            number = min(600, count - first) // PARTITIONS
            for partition in range(PARTITIONS):
                base = first + partition * number
                await kafka.send(topic, *(event_text(base + n) for n in range(number)), partition=partition)

    task = asyncio.create_task(send())
    try:
        yield task
        await task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def positions(url: str) -> dict[int, int]:
    """Partition → the offset up to which it was taken; PostgreSQL may be down."""
    with suppress(*_DRIVER_ERRORS):
        connection = await asyncpg.connect(url, timeout=5)
        try:
            return {row["partition"]: row["next_offset"] for row in await connection.fetch(_STATE)}
        finally:
            connection.terminate()
    return {}


async def until_more(url: str, count: int, sent: asyncio.Task[None], *, seconds: float = 120) -> None:
    """Waits until so many more offsets are taken, or all are sent. Raises what kept them from being sent."""
    before = sum((await positions(url)).values())
    async with asyncio.timeout(seconds):
        while sum((await positions(url)).values()) < before + count and not sent.done():
            await asyncio.sleep(0.05)
    if sent.done():
        sent.result()


async def test_each_message_is_one_event_through_kills(
    kafka: Kafka, shared_broker: Broker, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    is_long = bool(request.config.getoption("--long"))
    messages, rounds = (200_400, 12) if is_long else (12_000, 2)
    dice = random.Random(f"{seed_of(request.config)}-{request.node.name}")
    topic = await kafka.topic(partitions=PARTITIONS)
    with cluster() as server:
        database = Database(server.url, pool_size=1)
        await database.open()
        await schema.migrate(database)
        await database.close()
        daemons = Daemons(tmp_path, server.url, kafka, topic)
        await daemons.start()
        await daemons.start()
        async with sending(kafka, topic, messages) as sent:
            for turn in range(rounds):
                await until_more(server.url, dice.randint(1, messages // rounds // 4), sent)
                kind = ("daemon", "database", "rebalance", "broker" if is_long else "daemon")[turn % 4]
                if kind == "daemon":
                    daemons.running.pop(dice.randrange(2)).kill()
                    await daemons.start()
                elif kind == "database":
                    server.kill()
                    await asyncio.to_thread(server.start)
                elif kind == "rebalance":
                    assert await daemons.running.pop(0).stop() == 0
                    await daemons.start()
                else:
                    shared_broker.kill()
                    await asyncio.to_thread(shared_broker.start)
        in_kafka = {partition: await kafka.read(topic, partition) for partition in range(PARTITIONS)}
        ends = {partition: found[-1].offset + 1 for partition, found in in_kafka.items()}
        async with asyncio.timeout(120):
            while await positions(server.url) != ends:
                await asyncio.sleep(0.1)
        await daemons.close()
        connection = await asyncpg.connect(server.url)
        rows = await connection.fetch(_EVENTS)
        counts = await connection.fetch("SELECT * FROM hookledger.source_partition")
        await connection.close()
    seen: set[str] = set()
    for partition, found in in_kafka.items():
        expected = []
        for each in found:  # a producer that got no answer may have sent some twice
            name = orjson.loads(each.value)["id"]
            if name not in seen:
                expected.append((each.offset, name))
            seen.add(name)
        stored = [(row["source_offset"], row["id"]) for row in rows if row["partition"] == partition]
        assert stored == expected, partition
    assert len(rows) == len(seen) == messages
    assert sum(row["events"] for row in counts) == messages
    assert sum(row["refused"] + row["filtered"] for row in counts) == 0
