"""What goes wrong around a source: nothing is lost or taken twice, and each fault is told with the key to set."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import orjson
import pytest

from tests.support.kafka.broker import PASSWORD, USER, Broker
from tests.support.kafka.sources import SourceRuns
from tests.support.kafka.topics import Kafka, event_text
from tests.support.postgres.fault_proxy import fault_proxy
from tests.support.until import until

FAULT = "SELECT fault FROM hookledger.source_member WHERE fault IS NOT NULL"
NO_FAULT = "SELECT count(*) > 0 AND bool_and(fault IS NULL) FROM hookledger.source_member"
COUNTS = "SELECT first_offset, next_offset, events, refused, absent FROM hookledger.source_partition"


async def test_a_message_that_is_no_event_is_in_nobodys_way(kafka: Kafka, sources: SourceRuns) -> None:
    topic = await kafka.topic(max_message_bytes=str(4 << 20))
    large = event_text(9, context={"x": "y" * (2 << 20)})
    await kafka.send(topic, event_text(0), None, b"{", event_text(3, type=7), large, event_text(5), key=b"k")
    run = await sources.start(topic)
    await sources.until_taken({0: 6})
    assert [offset for _, _, offset, _ in await sources.taken()] == [0, 5]
    reasons = dict(await sources.refusals())
    assert list(reasons) == [1, 2, 3, 4]
    assert "a tombstone" in reasons[1]
    assert reasons[2].startswith("not valid JSON: ")
    assert reasons[3].startswith("type: must be object.action")
    assert f"the event has {len(large)} bytes, 262144 are allowed" in reasons[4]
    await until(lambda: sum(orjson.loads(told.data)["count"] for told in run.told) == 4)
    assert {told.type for told in run.told} == {"hookledger.messages_refused"}
    last = {"topic": topic, "partition": 0, "offset": 4, "reason": reasons[4]}
    assert orjson.loads(run.told[-1].data)["last"] == last


async def test_what_the_client_cannot_read_is_told_and_holds_up_its_partition_alone(
    kafka: Kafka, sources: SourceRuns, sql: asyncpg.Connection
) -> None:
    topic = await kafka.topic(partitions=2)
    for first in (0, 10):
        await kafka.send(topic, *(event_text(first + n) for n in range(5)))
        await kafka.send(topic, *(event_text(100 + first + n) for n in range(5)), partition=1)
        if first == 0:
            assert await kafka.send_unreadable(topic, event_text(5)) == 5
    run = await sources.start(topic)
    await sources.until_taken({0: 5, 1: 10})
    fault = await sources.until(FAULT)
    assert fault.startswith(f"the client of Kafka cannot read what lies in {topic} 0 at offset 5 (UnicodeDecodeError: ")
    assert fault.endswith(f"hookledger sources move shop --topic {topic} --partition 0 --to 6, or further")
    await kafka.send(topic, event_text(200), partition=1)
    await sources.until_taken({1: 11})
    assert await sources.positions() == {0: 5, 1: 11}
    await sql.execute(
        "UPDATE hookledger.source_partition SET first_offset = 6, next_offset = 6, events = 0 WHERE partition = 0"
    )
    await sources.until_taken({0: 11})
    await sources.until(NO_FAULT)
    assert len(await sources.taken()) == 21
    await run.stop()


async def test_an_id_that_a_transaction_holds_is_told_and_holds_up_its_partition_alone(
    kafka: Kafka, sources: SourceRuns, database_url: str
) -> None:
    topic = await kafka.topic(partitions=2)
    await kafka.send(topic, *(event_text(n) for n in range(5)))
    producer = await asyncpg.connect(database_url)
    try:
        await producer.execute("BEGIN; SELECT hookledger.publish('acme', 'order.create', '{}', 'e3')")
        run = await sources.start(topic)
        fault = await sources.until(FAULT)
        assert fault == (
            f"{topic} 0 waits from offset 0 on: a transaction that has not ended has published an event of the same "
            "tenant and id; end it; look for it in pg_stat_activity"
        )
        await kafka.send(topic, *(event_text(100 + n) for n in range(5)), partition=1)
        await sources.until_taken({1: 5})
        assert await sources.positions() == {0: 0, 1: 5}
        await producer.execute("ROLLBACK")
    finally:
        await producer.close()
    await sources.until_taken({0: 5})
    await sources.until(NO_FAULT)
    assert sorted(name for *_, name in await sources.taken()) == sorted(f"e{n}" for n in (*range(5), *range(100, 105)))
    await run.stop()


@pytest.mark.parametrize("codec", ["gzip", "lz4", "zstd"])
async def test_a_batch_that_is_too_large_unpacked_is_not_unpacked(
    kafka: Kafka, sources: SourceRuns, codec: str
) -> None:
    topic = await kafka.topic(partitions=2)
    await kafka.send(topic, event_text(0))
    assert await kafka.send_packed(topic, bytes(80 << 20), codec=codec) == [1]
    await sources.start(topic)
    assert "(BatchTooLarge: a compressed batch of messages has more than 71303168 bytes)" in await sources.until(FAULT)
    await kafka.send(topic, event_text(1), partition=1)
    await sources.until_taken({0: 1, 1: 1})


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
async def test_messages_are_taken_however_they_were_packed(kafka: Kafka, sources: SourceRuns, codec: str) -> None:
    topic = await kafka.topic()
    await kafka.send_packed(topic, *(event_text(n, context={"x": "y" * 1000}) for n in range(1000)), codec=codec)
    await sources.start(topic)
    await sources.until_taken({0: 1000})
    assert [name for *_, name in await sources.taken()] == [f"e{n}" for n in range(1000)]


async def test_messages_that_kafka_deleted_before_they_were_taken_are_told_as_a_gap(
    kafka: Kafka, sources: SourceRuns, sql: asyncpg.Connection
) -> None:
    topic = await kafka.topic()
    await kafka.send(topic, *(event_text(n) for n in range(10)))
    run = await sources.start(topic)
    await sources.until_taken({0: 10})
    await run.stop()
    await kafka.send(topic, *(event_text(n) for n in range(10, 20)))
    await kafka.delete_before(topic, 0, 15)
    await sources.start(topic)
    await sources.until_taken({0: 20})
    (row,) = await sql.fetch(COUNTS)
    assert tuple(row) == (0, 20, 15, 0, 5)
    ((offset, reason),) = await sources.refusals()
    assert offset == 10
    assert reason.startswith("Kafka deleted 5 messages before they were taken, offsets 10 to 14: raise the topic's")
    assert await sql.fetchval("SELECT upto FROM hookledger.source_refusal") == 15


async def test_a_partition_that_went_back_stops_until_it_is_moved(
    kafka: Kafka, sources: SourceRuns, sql: asyncpg.Connection
) -> None:
    topic = await kafka.topic()
    await kafka.send(topic, *(event_text(n) for n in range(10)))
    run = await sources.start(topic)
    await sources.until_taken({0: 10})
    await run.stop()
    await kafka.delete(topic)
    await kafka.topic(name=topic)
    await kafka.send(topic, event_text(100), event_text(101))
    run = await sources.start(topic)
    fault = await sources.until("SELECT fault FROM hookledger.source_partition")
    assert fault.startswith("the partition ends at 2, and was taken up to 10: it was made anew, or has lost messages.")
    assert fault.endswith(f"hookledger sources move shop --topic {topic} --partition 0 --to earliest")
    assert len(await sources.taken()) == 10
    assert [told.id for told in run.told] == [f"source_stopped:shop:{topic}:0:10"]
    await sql.execute(
        "UPDATE hookledger.source_partition SET first_offset = 0, next_offset = 0, events = 0, fault = NULL"
    )
    await sources.until_taken({0: 2})
    assert [name for *_, name in await sources.taken()][10:] == ["e100", "e101"]


async def test_a_topic_that_is_missing_is_told_and_taken_once_it_is_there(kafka: Kafka, sources: SourceRuns) -> None:
    topic = await kafka.topic()
    await kafka.send(topic, event_text(1))
    await sources.start(f"{topic},{topic}-more")
    await sources.until_taken({0: 1})
    fault = await sources.until(FAULT)
    assert fault == (f"there is no topic {topic}-more, or this user may not see it: correct sources.shop.topics")
    await kafka.topic(name=f"{topic}-more")
    await kafka.send(f"{topic}-more", event_text(2))
    await sources.until("SELECT count(*) = 2 FROM hookledger.domain_event")
    await sources.until(NO_FAULT)


OWNED = "SELECT count(*) = $1 FROM hookledger.source_partition WHERE owner IS NOT NULL"


async def test_a_topic_that_is_deleted_meanwhile_is_told_and_taken_once_it_is_there_again(
    kafka: Kafka, sources: SourceRuns
) -> None:
    topic, other = await kafka.topic(), await kafka.topic()
    await kafka.send(other, event_text(1))
    await sources.start(f"{topic},{other}")
    await sources.until("SELECT count(*) = 1 FROM hookledger.domain_event")
    await sources.until(OWNED, 2)  # nothing was taken of the topic: one that ends before what was taken stops
    await kafka.delete(topic)
    assert (await sources.until(FAULT)).startswith(f"there is no topic {topic}, or this user may not see it")
    await kafka.send(other, event_text(2))
    await sources.until("SELECT count(*) = 2 FROM hookledger.domain_event")
    await kafka.topic(name=topic)
    await kafka.send(topic, event_text(3), event_text(4))
    await sources.until("SELECT count(*) = 4 FROM hookledger.domain_event")
    await sources.until(NO_FAULT)


async def test_a_topic_that_is_made_anew_meanwhile_is_looked_at_at_once(kafka: Kafka, sources: SourceRuns) -> None:
    topic = await kafka.topic(partitions=2)
    await sources.start(topic)
    await sources.until(OWNED, 2)  # nothing was taken of it: one that ends before what was taken stops
    await kafka.delete(topic)
    await kafka.topic(name=topic)
    await kafka.send(topic, *(event_text(n) for n in range(20)))
    await sources.until("SELECT count(*) = 20 FROM hookledger.domain_event")


async def test_a_database_that_is_away_holds_messages_back_and_loses_none(
    kafka: Kafka, sources: SourceRuns, database_url: str
) -> None:
    topic = await kafka.topic(partitions=2)
    async with fault_proxy(database_url) as proxy:
        await sources.start(topic, through=proxy.url)
        for turn in range(3):
            first = turn * 200
            await kafka.send(topic, *(event_text(first + n) for n in range(100)))
            await sources.until_taken({0: first // 2 + 50})
            if turn == 1:
                proxy.lose_answers()
                await kafka.send(topic, *(event_text(first + 100 + n) for n in range(100)), partition=1)
                await until(lambda: proxy.lost_bytes > 0)
                proxy.cut()
            else:
                proxy.cut()
                await kafka.send(topic, *(event_text(first + 100 + n) for n in range(100)), partition=1)
            proxy.restore()
        await sources.until_taken({0: 300, 1: 300})
    taken = await sources.taken()
    assert sorted((partition, offset) for _, partition, offset, _ in taken) == [
        (partition, offset) for partition in range(2) for offset in range(300)
    ]


async def test_a_broker_that_does_not_answer_is_told_and_its_messages_are_taken_once_it_does(
    kafka: Kafka, sources: SourceRuns, shared_broker: Broker
) -> None:
    topic = await kafka.topic()
    await sources.start(topic)
    await kafka.send(topic, *(event_text(n) for n in range(10)))
    await sources.until_taken({0: 10})
    shared_broker.freeze()
    try:
        assert "correct sources.shop.brokers" in await sources.until(FAULT)
    finally:
        shared_broker.thaw()
    await kafka.send(topic, *(event_text(n) for n in range(10, 20)))
    await sources.until_taken({0: 20})
    await sources.until(NO_FAULT)
    assert len(await sources.taken()) == 20


async def test_a_stop_does_not_wait_for_brokers_that_are_silent(sources: SourceRuns) -> None:
    async def silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        connected.set()

    connected = asyncio.Event()
    async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        run = await sources.start("orders", brokers=",".join([address] * 5))
        await connected.wait()
        await run.stop()  # within 20 s: each broker would be asked for 10


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        ({"brokers": "127.0.0.1:9"}, "no broker of 127.0.0.1:9 can be reached"),
        ({"brokers": "name.invalid:9092"}, "no broker of name.invalid:9092 can be reached"),
        (
            {"sasl": "plain", "username": USER, "password": "wrong"},
            "refuses this user or password: correct sources.shop.",
        ),
        (
            {"sasl": "scram-sha-512", "username": USER, "password": "wrong"},
            "refuses this user or password: correct sources.shop.username or password",
        ),
        (
            {"sasl": "scram-sha-256", "username": USER, "password": PASSWORD},
            "does not take this way to sign in: correct sources.shop.sasl",
        ),
        ({"tls": "true"}, "is not trusted (unable to get local issuer certificate): correct sources.shop.ca_file"),
    ],
)
async def test_what_keeps_a_source_from_its_brokers_is_told_with_the_key(
    sources: SourceRuns, shared_broker: Broker, keys: dict[str, str], fault: str
) -> None:
    keys = {"brokers": shared_broker.secure_address} | keys
    if "sasl" in keys:
        keys |= {"tls": "true", "ca_file": str(shared_broker.ca_file)}
    await sources.start("orders", **keys)
    assert fault in await sources.until(FAULT, seconds=40)


@pytest.mark.parametrize("sasl", ["plain", "scram-sha-512"])
async def test_a_source_signs_in_over_tls(
    kafka: Kafka, sources: SourceRuns, shared_broker: Broker, tmp_path: Path, sasl: str
) -> None:
    topic = await kafka.topic()
    await kafka.send(topic, event_text(1))
    access = {"sasl": sasl, "username": USER, "password": PASSWORD, "ca_file": str(shared_broker.ca_file)}
    await sources.start(topic, brokers=shared_broker.secure_address, tls="true", **access)
    await sources.until_taken({0: 1})
