"""A running process tells what it holds."""

from __future__ import annotations

import sys

import pytest

from daemon.metrics import Metrics
from eventstore.domain_events.events import SHARDS
from tests.support.pipeline_process import pipeline_process
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
