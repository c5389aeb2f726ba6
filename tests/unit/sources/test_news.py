"""What operators are told of a source: refused messages at most once a minute with their number, a stop at once."""

from __future__ import annotations

from dataclasses import replace

import orjson

from daemon.operations import NOBODY, Audience
from daemon.pipeline.tunables import DEFAULTS
from daemon.sources.news import SourceNews
from eventstore.domain_events.events import NewEvent
from eventstore.sources.positions import SourcePosition

OPS = Audience(tenant="ops")


def refused(news: SourceNews, count: int, offset: int) -> None:
    news.refused(count, topic="orders", partition=3, offset=offset, reason=f"reason {offset}")


def test_what_is_refused_soon_after_is_told_later_in_one_event() -> None:
    told: list[NewEvent] = []
    news = SourceNews("shop", OPS, told.extend)
    news.tell_due()
    assert told == []
    refused(news, 2, 7)
    refused(news, 3, 11)
    news.tell_due()
    (event,) = told
    assert (event.tenant, event.type) == ("ops", "hookledger.messages_refused")
    data = orjson.loads(event.data)
    assert data["since"] <= data["until"]
    assert data["count"] == 5
    assert data["last"] == {"topic": "orders", "partition": 3, "offset": 11, "reason": "reason 11"}
    refused(news, 1, 12)
    news.tell_due()
    assert len(told) == 1


def test_after_the_pause_it_is_told_again_under_another_id() -> None:
    told: list[NewEvent] = []
    news = SourceNews("shop", OPS, told.extend, tunables=replace(DEFAULTS, operations_source_seconds=0))
    for offset in (7, 8):
        refused(news, 1, offset)
        news.tell_due()
    news.tell_due()
    first, second = told
    assert first.id != second.id
    assert orjson.loads(second.data)["count"] == 1


def test_a_partition_that_stopped_is_told_at_once_under_one_id_by_all_processes() -> None:
    told: list[NewEvent] = []
    position = SourcePosition(id=1, topic="orders", partition=3, next_offset=10)
    for _ in range(2):
        SourceNews("shop", OPS, told.extend).stopped(position, "it ends at 2")
    assert [event.id for event in told] == ["source_stopped:shop:orders:3:10"] * 2
    fault = {"source": "shop", "topic": "orders", "partition": 3, "offset": 10, "fault": "it ends at 2"}
    assert orjson.loads(told[0].data) == fault


def test_the_longest_names_have_an_id_that_the_log_takes() -> None:
    told: list[NewEvent] = []
    news = SourceNews("s" * 64, OPS, told.extend)
    topic, partition = "t" * 249, 2**31 - 1
    for offset in (2**63 - 2, 2**63 - 1, 2**63 - 2):
        news.stopped(SourcePosition(id=1, topic=topic, partition=partition, next_offset=offset), "it ends at 2")
    news.refused(1, topic=topic, partition=partition, offset=2**63 - 1, reason="r")
    news.tell_due()
    assert max(len(event.id) for event in told) <= 128
    first, second, third, _ = (event.id for event in told)
    assert first == third != second


def test_nobody_is_told_if_nobody_is_named() -> None:
    told: list[NewEvent] = []
    news = SourceNews("shop", NOBODY, told.extend)
    refused(news, 1, 7)
    news.tell_due()
    news.stopped(SourcePosition(id=1, topic="orders", partition=3, next_offset=10), "it ends at 2")
    assert told == []
