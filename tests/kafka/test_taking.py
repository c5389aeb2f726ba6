"""Messages of a real broker become events, each once, in the order of their partition."""

from __future__ import annotations

import asyncpg
import pytest

from tests.support.kafka.sources import SourceRun, SourceRuns
from tests.support.kafka.topics import Kafka, event_text

COUNTS = "SELECT events, repeated, refused, filtered, absent FROM hookledger.source_partition ORDER BY partition"


async def test_messages_become_events_in_their_order_and_each_knows_which_it_was(
    kafka: Kafka, sources: SourceRuns
) -> None:
    topic = await kafka.topic(partitions=2)
    run = await sources.start(topic)
    await kafka.send(topic, *(event_text(n) for n in range(50)))
    await kafka.send(topic, *(event_text(n) for n in range(100, 110)), partition=1)
    await sources.until_taken({0: 50, 1: 10})
    taken = await sources.taken()
    for partition, first, number in ((0, 0, 50), (1, 100, 10)):
        assert [each for each in taken if each[1] == partition] == [
            (topic, partition, offset, f"e{first + offset}") for offset in range(number)
        ]
    assert run.hurried
    await run.stop()
    assert await kafka.committed("hookledger.shop", topic, 0) == 50


async def test_two_processes_share_partitions_and_each_message_is_taken_once_through_crashes(
    kafka: Kafka, sources: SourceRuns, sql: asyncpg.Connection
) -> None:
    topic = await kafka.topic(partitions=4)
    sent = 0
    runs: list[SourceRun] = [await sources.start(topic)]
    for turn in range(4):
        for partition in range(4):
            await kafka.send(topic, *(event_text(sent + n) for n in range(400)), partition=partition)
            sent += 400
        if turn == 1:
            await runs.pop(0).crash()
        runs.append(await sources.start(topic))
    await sources.until_taken(dict.fromkeys(range(4), 1600))
    for partition in range(4):
        messages = [(each.offset, each.value) for each in await kafka.read(topic, partition)]
        events = await sql.fetch(
            "SELECT e.source_offset, e.id FROM hookledger.domain_event e JOIN hookledger.source_partition p "
            "ON p.id = e.source_partition WHERE p.partition = $1 ORDER BY e.seq",
            partition,
        )
        assert [offset for offset, _ in messages] == [row["source_offset"] for row in events]
        assert all(f'"{row["id"]}"'.encode() in value for (_, value), row in zip(messages, events, strict=True))


async def test_a_source_goes_on_where_the_log_is_and_not_where_its_group_is(
    kafka: Kafka, sources: SourceRuns, sql: asyncpg.Connection
) -> None:
    topic = await kafka.topic()
    await kafka.send(topic, *(event_text(n) for n in range(10)))
    run = await sources.start(topic)
    await sources.until_taken({0: 10})
    await run.stop()
    # A standby that was promoted had not received the last messages: neither their events nor the position.
    await sql.execute("UPDATE hookledger.source_partition SET next_offset = 4, events = 4")
    await sources.start(topic)
    await sources.until_taken({0: 10})
    (row,) = await sql.fetch(COUNTS)
    assert tuple(row) == (4, 6, 0, 0, 0)


async def test_a_position_that_moves_elsewhere_is_followed(
    kafka: Kafka, sources: SourceRuns, sql: asyncpg.Connection
) -> None:
    topic = await kafka.topic()
    await sources.start(topic)
    await kafka.send(topic, *(event_text(n) for n in range(5)))
    await sources.until_taken({0: 5})
    await sql.execute("UPDATE hookledger.source_partition SET next_offset = 2, events = 2")
    await kafka.send(topic, event_text(5))
    await sources.until_taken({0: 6})
    assert [offset for _, _, offset, _ in await sources.taken()] == [0, 1, 2, 3, 4, 5]


async def test_a_new_source_may_begin_at_the_end_and_a_new_partition_begins_at_its_first_message(
    kafka: Kafka, sources: SourceRuns
) -> None:
    topic = await kafka.topic()
    await kafka.send(topic, event_text(1), event_text(2))
    run = await sources.start(topic, begin="latest")
    await sources.until_taken({0: 2})
    await run.stop()
    await kafka.send(topic, event_text(3))
    await kafka.grow(topic, partitions=2)
    await kafka.send(topic, event_text(4), partition=1)
    await sources.start(topic, begin="latest")
    await sources.until_taken({0: 3, 1: 1})
    assert sorted(name for *_, name in await sources.taken()) == ["e3", "e4"]


async def test_offsets_without_a_message_are_counted_as_absent(
    kafka: Kafka, sources: SourceRuns, sql: asyncpg.Connection
) -> None:
    topic = await kafka.topic()
    await kafka.send(topic, event_text(1))
    await kafka.send_aborted(topic, event_text(2), event_text(3))
    await kafka.send(topic, event_text(4))
    await kafka.send_aborted(topic, event_text(5))
    await sources.start(topic)
    await sources.until_taken({0: 7})  # of the last ones only the position of the consumer tells
    (row,) = await sql.fetch(COUNTS)
    assert tuple(row) == (2, 0, 0, 0, 5)


async def test_an_event_without_id_and_time_has_those_of_its_message(
    kafka: Kafka, sources: SourceRuns, sql: asyncpg.Connection
) -> None:
    topic = await kafka.topic()
    await kafka.send(topic, b'{"tenant": "acme", "type": "order.create", "data": {}}')
    run = await sources.start(topic)
    await sources.until_taken({0: 1})
    await run.stop()
    (message,) = await kafka.read(topic, 0)
    (first,) = await sql.fetch("SELECT id, occurred_at FROM hookledger.domain_event")
    assert first["occurred_at"].timestamp() == pytest.approx(message.timestamp / 1000)
    await sql.execute("UPDATE hookledger.source_partition SET next_offset = 0, events = 0")
    await sources.start(topic)
    await sources.until_taken({0: 1})
    assert await sql.fetchval("SELECT count(*) FROM hookledger.domain_event") == 1, "it has the same id again"


async def test_expressions_make_events_and_a_filter_passes_over_messages(
    kafka: Kafka, sources: SourceRuns, sql: asyncpg.Connection
) -> None:
    topic = await kafka.topic()
    heavy = b'{"op": "c", "kind": "create", "lines": [%s]}' % b",".join(b'{"n": %d}' % n for n in range(4000))
    await kafka.send(topic, b'{"op": "c", "kind": "create"}', b'{"op": "d"}', heavy, b'{"op": "c"}', key=b"acme")
    run = await sources.start(
        topic,
        format="mapped",
        filter="value.op == 'c'",
        tenant="key",
        type="join('.', ['order', value.kind])",
        data="{lines: value.lines[?n > `3990`].n, at: offset}",
    )
    await sources.until_taken({0: 4})
    rows = await sql.fetch("SELECT tenant, type, data FROM hookledger.domain_event ORDER BY seq")
    assert [tuple(row) for row in rows] == [
        ("acme", "order.create", b'{"lines":null,"at":0}'),
        ("acme", "order.create", b'{"lines":[3991,3992,3993,3994,3995,3996,3997,3998,3999],"at":2}'),
    ]
    ((offset, reason),) = await sources.refusals()
    assert (offset, reason.startswith("sources.shop.type: the expression failed: In function join()")) == (3, True)
    assert run.metrics.registry.get_sample_value("hookledger_expression_seconds_count") == 1, "evaluated apart"


async def test_cloud_events_of_two_sources_with_one_id_are_told_apart(
    kafka: Kafka, sources: SourceRuns, sql: asyncpg.Connection
) -> None:
    topic = await kafka.topic()
    text = b'{"specversion": "1.0", "id": "1", "source": "%s", "type": "a.b", "tenant": "acme", "data": {}}'
    await kafka.send(topic, text % b"/x")
    await kafka.send(
        topic, b'{"a": 1.10}', headers=[("ce_specversion", b"1.0"), ("ce_id", b"2"), ("ce_source", b"/x"),
                                        ("ce_type", b"a.b"), ("ce_tenant", b"acme"), ("content-type", b"application/json")],
    )  # fmt: skip
    await sources.start(topic, format="cloudevents")
    await sources.until_taken({0: 2})
    await kafka.send(topic, text % b"/x", text % b"/y")
    await sources.until_taken({0: 4})
    (row,) = await sql.fetch(COUNTS)
    assert tuple(row) == (2, 1, 1, 0, 0)
    ((offset, reason),) = await sources.refusals()
    assert (offset, reason.startswith("id: was used within 24 hours by another source, /x")) == (3, True)
