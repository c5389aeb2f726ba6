"""A running process tells what it holds."""

from __future__ import annotations

import math
import sys

import pytest

from daemon.pipeline.upkeep import gauges, quiet_time
from daemon.telemetry.metrics import Metrics
from eventstore.domain_events.events import SHARDS
from eventstore.postgres.connect import Database
from eventstore.queries.metrics import status
from eventstore.queries.metrics.status import InstallationStatus
from tests.support.pipeline.process import pipeline_process
from tests.support.until import until


def gauge(metrics: Metrics, name: str) -> float:
    return metrics.registry.get_sample_value(name) or 0.0


async def test_a_process_tells_its_shards(database_url: str) -> None:
    async with pipeline_process(database_url) as it:
        await until(lambda: gauge(it.metrics, "hookledger_shards_owned") == SHARDS)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says how much of it is in RAM")
async def test_a_process_tells_its_memory(database_url: str) -> None:
    async with pipeline_process(database_url) as it:
        await until(lambda: gauge(it.metrics, "hookledger_resident_memory_bytes") > 10 << 20)


async def test_the_database_is_counted_less_often_while_nothing_happens_and_nothing_is_pending(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = 0
    read = status.read

    async def counted(database: Database) -> InstallationStatus:
        nonlocal counts
        counts += 1
        return await read(database)

    monkeypatch.setattr(status, "read", counted)
    monkeypatch.setattr(gauges, "COUNT_SECONDS", 0.0)
    monkeypatch.setattr(gauges, "MIN_COUNT_SECONDS", 0.0)
    monkeypatch.setattr(gauges, "COUNT_PART", math.inf)
    async with pipeline_process(database_url, run=False) as it:
        upkeep = it.pipeline._upkeep

        async def counts_of_two_turns() -> int:
            before = counts
            for _ in range(2):
                await upkeep.gauges.run_once()
            return counts - before

        assert await counts_of_two_turns() == 2
        upkeep.quiet_time._heard_at -= quiet_time.QUIET_SECONDS
        assert await counts_of_two_turns() == 0
        upkeep.gauges._counted_at -= gauges.QUIET_COUNT_SECONDS
        assert await counts_of_two_turns() == 1
        upkeep.gauges.wakeup.set()  # a route was changed
        assert await counts_of_two_turns() == 1
        await it.publish()  # nobody makes the tick: the event is unread
        upkeep.gauges._counted_at -= gauges.QUIET_COUNT_SECONDS
        assert await counts_of_two_turns() == 2, "something is pending"
        upkeep.quiet_time.heard()
        assert await counts_of_two_turns() == 2
