"""`hookledger sources …` and `run` as an operator uses them, on a real broker."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import pytest

from tests.support.kafka.sources import SourceRuns
from tests.support.kafka.topics import Kafka, event_text
from tests.support.processes.cli import CommandLine
from tests.support.processes.running import running


class Operator:
    """A command line whose configuration has the source `shop`."""

    def __init__(self, home: Path, database_url: str, kafka: Kafka, topic: str) -> None:
        self._home, self._database_url = home, database_url
        self._base = {"BROKERS": kafka.address, "TOPICS": topic}

    def command_line(self, **keys: str) -> CommandLine:
        values = self._base | {key.upper(): text for key, text in keys.items()}
        return CommandLine(
            self._home,
            self._database_url,
            **{f"HOOKLEDGER_SOURCES__SHOP__{key}": text for key, text in values.items()},
        )


@pytest.fixture
async def topic(kafka: Kafka) -> str:
    return await kafka.topic()


@pytest.fixture
def operator(tmp_path: Path, database_url: str, kafka: Kafka, topic: str) -> Operator:
    return Operator(tmp_path, database_url, kafka, topic)


MAPPED = {
    "format": "mapped",
    "tenant": "value.shop",
    "type": "value.kind",
    "data": "value",
    "filter": "value.op != 'd'",
}


async def test_check_shows_what_the_last_messages_would_become_and_takes_none(
    kafka: Kafka, operator: Operator, topic: str, sql: asyncpg.Connection
) -> None:
    await kafka.send(
        topic, b"old", b'{"shop": "acme", "kind": "order.create"}', b'{"op": "d"}', b'{"shop": 7, "kind": "x"}'
    )
    ended = operator.command_line(**MAPPED)("sources", "check", "shop", "--last", "3", "--json", code=1)
    assert [(each["offset"], each["tenant"], each["type"], each["not_because"]) for each in ended.json] == [
        (1, "acme", "order.create", None),
        (2, None, None, "passed over by the filter"),
        (3, None, None, "sources.shop.type: must be object.action in lower case (a-z, 0-9, _), like order.create, of at most 128 characters"),
    ]  # fmt: skip
    assert "order.create" in operator.command_line(**MAPPED)("sources", "check", "shop", "--last", "3", code=1).out
    assert await sql.fetchval("SELECT count(*) FROM hookledger.source_partition") == 0


async def test_check_says_which_message_cannot_be_read(kafka: Kafka, operator: Operator, topic: str) -> None:
    await kafka.send(topic, event_text(0))
    await kafka.send_unreadable(topic, event_text(1))
    (told,) = operator.command_line()("sources", "check", "shop", code=1).err.splitlines()
    assert f"cannot read what lies in {topic} 0 at offset 1 (UnicodeDecodeError: " in told


async def test_check_says_what_keeps_it_from_the_messages(operator: Operator) -> None:
    line = operator.command_line(brokers="127.0.0.1:9")
    (told,) = line("sources", "check", "shop", code=1).err.splitlines()
    assert "correct sources.shop.brokers" in told
    unknown = line("sources", "check", "shp", code=1).err
    assert "there is no source shp" in unknown
    assert "the configuration has shop" in unknown
    other = operator.command_line(topics="no-such-topic")
    assert "there is no topic no-such-topic" in other("sources", "check", "shop", code=1).err


async def test_refused_messages_are_taken_again_once_the_mapping_is_mended(
    kafka: Kafka, sources: SourceRuns, operator: Operator, topic: str, sql: asyncpg.Connection
) -> None:
    keys = MAPPED | {"type": "value.typ"}
    await kafka.send(topic, b'{"shop": "acme", "kind": "order.create"}', b'{"op": "d"}', b'{"shop": "b c"}', b"{")
    run = await sources.start(topic, **keys)
    await sources.until_taken({0: 4})
    await run.stop()
    ended = operator.command_line(**MAPPED)("sources", "retry", "shop", "--json", code=1)
    assert ended.json == {"event": 1, "repeated": 0, "filtered": 0, "refused": 2, "gone": 0}
    assert [row["type"] for row in await sql.fetch("SELECT type FROM hookledger.domain_event")] == ["order.create"]
    reasons = dict(await sources.refusals())
    assert list(reasons) == [2, 3]
    assert "sources.shop.tenant: must be 1 to 128 printable ASCII characters" in reasons[2]
    (row,) = await sql.fetch("SELECT events, refused, filtered FROM hookledger.source_partition")
    assert tuple(row) == (1, 2, 1)


async def test_what_stands_in_the_place_of_a_refused_message_in_a_topic_made_anew_is_not_taken_for_it(
    kafka: Kafka, sources: SourceRuns, operator: Operator, topic: str
) -> None:
    await kafka.send(topic, b"{")
    run = await sources.start(topic)
    await sources.until_taken({0: 1})
    await run.stop()
    refused = await sources.refusals()
    await kafka.delete(topic)
    await kafka.topic(name=topic)
    await kafka.send(topic, event_text(1))
    ended = operator.command_line()("sources", "retry", "shop", "--json", code=1)
    assert ended.json == {"event": 0, "repeated": 0, "filtered": 0, "refused": 0, "gone": 1}
    assert await sources.taken() == []
    assert await sources.refusals() == refused


async def test_a_cloud_event_whose_id_another_source_has_used_is_refused_again(
    kafka: Kafka, sources: SourceRuns, operator: Operator, topic: str
) -> None:
    text = b'{"specversion": "1.0", "id": "1", "source": "%s", "type": "a.b", "tenant": "acme", "data": {}}'
    await kafka.send(topic, text % b"/x", text % b"/y")
    run = await sources.start(topic, format="cloudevents")
    await sources.until_taken({0: 2})
    await run.stop()
    (refused,) = await sources.refusals()
    ended = operator.command_line(format="cloudevents")("sources", "retry", "shop", "--json", code=1)
    assert ended.json == {"event": 0, "repeated": 0, "filtered": 0, "refused": 1, "gone": 0}
    assert await sources.refusals() == [refused]


async def test_a_source_that_is_no_longer_configured_can_be_taken_out_of_the_status(
    kafka: Kafka, sources: SourceRuns, operator: Operator, topic: str
) -> None:
    await kafka.send(topic, event_text(1), b"{")
    run = await sources.start(topic, name="old")
    await sources.until_taken({0: 2})
    await sources.until("SELECT count(*) = 1 FROM hookledger.source_partition WHERE owner IS NOT NULL")
    line = operator.command_line()
    assert f"old is still taken by {run.owner}" in line("sources", "forget", "old", code=1).err
    assert "shop is in the configuration" in line("sources", "forget", "shop", code=1).err
    await run.stop()
    assert [each["source"] for each in line("sources", "list", "--json").json["partitions"]] == ["old"]
    assert line("sources", "forget", "old").out.startswith("old, 1 partition, is out of the status")
    assert line("sources", "list", "--json").json["partitions"] == []
    assert "nothing was ever taken of a source older" in line("sources", "forget", "older", code=1).err
    await kafka.send(topic, event_text(2))
    await sources.start(topic, name="old")
    await sources.until_taken({0: 3})
    assert [name for *_, name in await sources.taken()] == ["e1", "e2"]


async def test_a_source_is_moved_and_a_daemon_goes_on_from_there(
    kafka: Kafka, operator: Operator, topic: str, sources: SourceRuns
) -> None:
    line = operator.command_line()
    await kafka.send(topic, *(event_text(n) for n in range(5)))
    assert line("sources", "move", "shop", "--topic", topic, "--to", "3").out == f"{topic} 0 goes on from 3\n"
    async with running(line) as daemon:
        await sources.until_taken({0: 5})
        listed = line("sources", "list", "--json").json
        assert (listed["partitions"][0]["events"], listed["partitions"][0]["first_offset"]) == (2, 3)
        said = f"it was message 4 of {topic}, partition 0, of the source shop"
        assert said in line("explain", "e4", "--tenant", "acme").out
        line("sources", "move", "shop", "--topic", topic, "--to", "earliest")
        await sources.until("SELECT count(*) = 5 FROM hookledger.domain_event")
        assert await daemon.stop() == 0
    assert "an offset from 0 to 5" in line("sources", "move", "shop", "--topic", topic, "--to", "9", code=2).err
    assert f"has the topics {topic}" in line("sources", "move", "shop", "--topic", "x", "--to", "9", code=2).err
