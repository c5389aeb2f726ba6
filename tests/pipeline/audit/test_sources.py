"""An audit compares what was taken of a source with the events that are there."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from daemon import audit
from daemon.audit.faults import source_faults
from eventstore.sources import positions
from eventstore.sources.positions import MessageBatch
from tests.support.pipeline.process import PipelineProcess, pipeline_process
from tests.support.values.builders import new_event

KEY = "source shop, topic orders, partition 0"


async def take(it: PipelineProcess, *ids: str, filtered: int = 0) -> None:
    """Has messages of a partition become events, and some be passed over."""
    await positions.begin(it.database, "shop", {("orders", 0): 5})
    position = (await positions.read(it.database, "shop", ["orders"]))["orders", 0]
    begin = position.next_offset
    batch = MessageBatch(
        partition_id=position.id,
        begin=begin,
        end=begin + len(ids) + filtered,
        events=[new_event(id=name) for name in ids],
        offsets=[begin + place for place in range(len(ids))],
        filtered=filtered,
    )
    assert await positions.take(it.database, batch) is not None


async def test_what_was_taken_is_there(database_url: str) -> None:
    async with pipeline_process(database_url, run=False) as it:
        await take(it, "a", "b", filtered=2)
        await take(it, "b", "c")
        assert await source_faults.find(it.database) == []


async def test_an_event_that_is_gone_is_found(database_url: str) -> None:
    async with pipeline_process(database_url, run=False) as it:
        await take(it, "a", "b")
        async with it.database.transaction() as connection:
            await connection.execute("SET LOCAL session_replication_role = replica")  # past the trigger that forbids it
            await connection.execute("DELETE FROM hookledger.domain_event WHERE id = 'a'")
        report = await audit.audit(it.database, start=audit.BEGINNING, end=datetime(9999, 1, 1, tzinfo=UTC))
        found = [(each.table, each.key, each.detail) for each in report.findings]
        assert found == [
            ("source_partition", KEY, "2 of its messages became events, and 1 of these are there"),
        ]


@pytest.mark.parametrize("change", ["next_offset = next_offset + 1", "filtered = filtered + 1"])
async def test_offsets_that_nobody_accounted_for_are_found(database_url: str, change: str) -> None:
    async with pipeline_process(database_url, run=False) as it:
        await take(it, "a")
        await it.rows("ALTER TABLE hookledger.source_partition DROP CONSTRAINT source_partition_count_check")
        await it.rows(f"UPDATE hookledger.source_partition SET {change}")
        (found,) = await source_faults.find(it.database)
        assert (found.table, found.key) == ("source_partition", KEY)
        assert "accounted for" in found.detail


async def test_what_an_operator_had_taken_again_is_no_fault(database_url: str) -> None:
    async with pipeline_process(database_url, run=False) as it:
        await take(it, "a", "b")
        position = (await positions.read(it.database, "shop", ["orders"]))["orders", 0]
        await positions.move(it.database, position, offset=5)
        await take(it, "a", "c")
        assert await source_faults.find(it.database) == []
