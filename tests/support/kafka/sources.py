"""Sources that run in the test's process, without the rest of a daemon."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import count
from typing import Any, Self

import asyncpg

from daemon import config
from daemon.config import Config
from daemon.pipeline.tunables import DEFAULTS
from daemon.sources.sources import CONNECTIONS, Sources
from daemon.telemetry.metrics import Metrics
from eventstore.domain_events.events import NewEvent
from eventstore.postgres.connect import Database
from tests.support.kafka.topics import Kafka

_numbers = count(1)

# As in a daemon, but quick to notice what it looks at from time to time.
QUICK = replace(
    DEFAULTS,
    source_turn_seconds=0.2,
    source_report_seconds=0.3,
    source_reconnect_seconds=0.3,
    source_silent_seconds=4,
    operations_source_seconds=0,
)

TAKEN = """
SELECT t.topic, t.partition, e.source_offset, e.id FROM hookledger.domain_event e
  JOIN hookledger.source_partition t ON t.id = e.source_partition ORDER BY e.seq
"""


def config_of(brokers: str, topics: str, *, name: str = "shop", **keys: str) -> Config:
    """A configuration with one source, and operators who are told of it."""
    values = {"brokers": brokers, "topics": topics, **keys}
    environ = {f"HOOKLEDGER_SOURCES__{name.upper()}__{key.upper()}": text for key, text in values.items()}
    return config.load(None, {"HOME": "/nonexistent", "HOOKLEDGER_OPERATIONS__TENANT": "ops", **environ})


@dataclass(kw_only=True)
class SourceRun:
    """Sources that run: those of one process."""

    owner: str
    sources: Sources
    metrics: Metrics
    task: asyncio.Task[None]
    hurried: list[None] = field(default_factory=list)
    told: list[NewEvent] = field(default_factory=list)

    async def stop(self) -> None:
        """Ends them as a daemon that stops does."""
        self.sources.stop()
        async with asyncio.timeout(20):
            await self.task

    async def crash(self) -> None:
        """Ends them at once, wherever they are."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


class SourceRuns:
    """Runs sources on a database, and knows what they took."""

    def __init__(
        self,
        database_url: str,
        kafka: Kafka,
        *,
        on_events: Callable[[], None] | None = None,
        is_quick: bool = True,
    ) -> None:
        self.database_url = database_url
        self.kafka = kafka
        self._on_events = on_events
        self._tunables = QUICK if is_quick else DEFAULTS
        self._stack = AsyncExitStack()
        self._runs: list[SourceRun] = []

    async def __aenter__(self) -> Self:
        self._sql = await asyncpg.connect(self.database_url, server_settings={"timezone": "UTC"})
        return self

    async def __aexit__(self, *_: object) -> None:
        for run in self._runs:
            await run.crash()
        await self._stack.aclose()
        self._sql.terminate()

    async def start(self, topics: str, *, through: str | None = None, **keys: str) -> SourceRun:
        """Runs the source of some topics; `through` is another URL of the database."""
        brokers = keys.pop("brokers", self.kafka.address)
        database = Database(through or self.database_url, pool_size=CONNECTIONS)
        await database.open()
        self._stack.push_async_callback(database.close)
        owner = f"test:{os.getpid()}:{next(_numbers)}"
        with suppress(asyncpg.PostgresConnectionError):
            await self._sql.execute(
                "INSERT INTO hookledger.process (owner, host, pid, version, master_key) VALUES ($1, 'h', 1, 'v', '')",
                owner,
            )
        metrics = Metrics()
        hurried: list[None] = []
        told: list[NewEvent] = []
        sources = Sources(
            config_of(brokers, topics, **keys),
            database,
            metrics,
            owner=owner,
            now=lambda: datetime.now(UTC),
            on_events=self._on_events or (lambda: hurried.append(None)),
            tell=told.extend,
            tunables=self._tunables,
        )
        run = SourceRun(
            owner=owner,
            sources=sources,
            metrics=metrics,
            task=asyncio.create_task(sources.run()),
            hurried=hurried,
            told=told,
        )
        self._runs.append(run)
        return run

    async def ask(self, question: str) -> Any:
        """One value of the database."""
        return await self._sql.fetchval(question)

    async def taken(self) -> list[tuple[str, int, int, str]]:
        """What became an event, in the order of the log: topic, partition, offset, id."""
        return [tuple(row) for row in await self._sql.fetch(TAKEN)]

    async def positions(self) -> dict[int, int]:
        """Partition → the offset from which on nothing is taken."""
        rows = await self._sql.fetch("SELECT partition, next_offset FROM hookledger.source_partition")
        return {row["partition"]: row["next_offset"] for row in rows}

    async def until_taken(self, ends: Mapping[int, int], *, seconds: float = 30) -> None:
        """Waits until partitions are taken up to these offsets."""
        await self.until(
            "SELECT coalesce(bool_and(p.next_offset >= e.upto), false) FROM unnest($1::integer[], $2::bigint[]) e (n, upto) "
            "LEFT JOIN hookledger.source_partition p ON p.partition = e.n",
            list(ends),
            list(ends.values()),
            seconds=seconds,
        )

    async def until(self, question: str, *arguments: object, seconds: float = 30) -> Any:
        """Waits for an answer that is true."""
        async with asyncio.timeout(seconds):
            while not (answer := await self._sql.fetchval(question, *arguments)):
                await asyncio.sleep(0.01)
        return answer

    async def refusals(self) -> list[tuple[int, str]]:
        """Offset and reason of what was refused."""
        rows = await self._sql.fetch(
            "SELECT source_offset, reason FROM hookledger.source_refusal ORDER BY source_partition, source_offset"
        )
        return [tuple(row) for row in rows]
