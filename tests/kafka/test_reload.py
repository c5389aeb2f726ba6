"""A reload of the configuration while sources are taken: each message is one event, and a new source is taken."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.support.kafka.sources import SourceRuns
from tests.support.kafka.topics import Kafka, event_text
from tests.support.processes.cli import CommandLine
from tests.support.processes.reloading import reload
from tests.support.processes.running import running

MESSAGES = 4_000


def section(kafka: Kafka, name: str, topic: str) -> str:
    return f'[sources.{name}]\nbrokers = "{kafka.address}"\ntopics = "{topic}"\n'


async def test_sources_are_taken_without_a_gap_through_reloads(
    kafka: Kafka, tmp_path: Path, database_url: str, sources: SourceRuns
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
        await sources.until("SELECT count(*) >= $1 FROM hookledger.domain_event", MESSAGES + 10, seconds=60)
        assert await daemon.stop() == 0
    taken = await sources.taken()
    for topic, partition, messages in ((old, 0, MESSAGES // 2), (old, 1, MESSAGES // 2), (new, 0, 10)):
        offsets = [offset for name, number, offset, _ in taken if (name, number) == (topic, partition)]
        assert offsets == list(range(messages)), (topic, partition)
