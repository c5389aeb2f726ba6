"""A reload of the configuration while sources are taken: each message is one event, and a new source is taken."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg

from tests.support.cli import CommandLine
from tests.support.kafka import Kafka, event_text
from tests.support.reloading import reload
from tests.support.running import running

MESSAGES = 4_000
TAKEN = """
SELECT p.source, p.partition, e.source_offset FROM hookledger.domain_event e
  JOIN hookledger.source_partition p ON p.id = e.source_partition ORDER BY e.seq
"""


def section(kafka: Kafka, name: str, topic: str) -> str:
    return f'[sources.{name}]\nbrokers = "{kafka.address}"\ntopics = "{topic}"\n'


async def test_sources_are_taken_without_a_gap_through_reloads(
    kafka: Kafka, tmp_path: Path, database_url: str, sql: asyncpg.Connection
) -> None:
    old, new = await kafka.topic(partitions=2), await kafka.topic()
    await kafka.send(new, *(event_text(n, tenant="globex") for n in range(10)))
    file = tmp_path / "hookledger.toml"
    file.write_text(section(kafka, "shop", old))
    hookledger = CommandLine(tmp_path, database_url, HOOKLEDGER_CONFIG=str(file))

    async def send() -> None:
        for first in range(0, MESSAGES, 100):
            await kafka.send(old, *(event_text(first + n) for n in range(100)), partition=first // 100 % 2)

    async with running(hookledger) as daemon:
        sending = asyncio.create_task(send())
        assert (await reload(daemon))["changed"] == []
        file.write_text(section(kafka, "shop", old) + section(kafka, "stock", new))
        assert (await reload(daemon))["changed"] == ["sources.stock"]
        await sending

        async def count() -> int:
            return int(await sql.fetchval("SELECT count(*) FROM hookledger.domain_event"))

        async with asyncio.timeout(60):
            while await count() < MESSAGES + 10:
                await asyncio.sleep(0.05)
        assert await daemon.stop() == 0
    found = [tuple(row) for row in await sql.fetch(TAKEN)]
    for source, partition, messages in (("shop", 0, MESSAGES // 2), ("shop", 1, MESSAGES // 2), ("stock", 0, 10)):
        offsets = [offset for name, number, offset in found if (name, number) == (source, partition)]
        assert offsets == list(range(messages)), (source, partition)
