"""What is published over HTTP: it makes its tick, and its answer counts as that of a poll of the same log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from daemon.core.gcra import Allowance
from daemon.pipeline.intake.ticks import publishing, ticker
from daemon.pipeline.intake.ticks.publishing import TickingPublisher
from daemon.pipeline.wakeup import Wakeup
from eventstore import domain_events
from eventstore.domain_events import polls, tail, ticks
from eventstore.domain_events.events import NewEvent
from eventstore.domain_events.polls import Poll, ReadUpto
from eventstore.domain_events.ticks import bits_of
from tests.pipeline.intake.ticks.test_ticker import ticker_of
from tests.support.pipeline.process import PipelineProcess, pipeline_process
from tests.support.receivers.receiver import receiver
from tests.support.until import until
from tests.support.values.builders import new_event

ALL = ReadUpto(0, bits_of(range(domain_events.SHARDS)))


class Publishing:
    """A publisher, its ticker, and what the reader of ticks was told."""

    def __init__(self, it: PipelineProcess) -> None:
        self.told: list[str] = []
        self.ticker, self.gate = ticker_of(it, self.told)
        self.log_watch = self.ticker._log_watch
        self.publisher = TickingPublisher(self.ticker, self.log_watch, lambda: ALL)
        self._database = it.database

    async def __call__(self, *events: NewEvent) -> list[bool]:
        self.ticker.wakeup.clear()
        return await self.publisher.publish(self._database, events or [new_event()], seconds=3)

    @property
    def is_poll_asked_for(self) -> bool:
        return self.ticker.wakeup.is_set


@asynccontextmanager
async def publishing_in(database_url: str) -> AsyncIterator[tuple[PipelineProcess, Publishing]]:
    """After a first poll: before it nothing is known of the log."""
    async with pipeline_process(database_url, run=False) as it:
        publish = Publishing(it)
        await publish.ticker.run_once()
        yield it, publish


async def test_a_tick_that_a_publisher_made_is_told_and_opens_the_gate(database_url: str) -> None:
    async with publishing_in(database_url) as (it, publish):
        publish.gate._known_until = 0.0
        assert await publish() == [True]
        assert publish.told == ["tick 1"]
        assert publish.gate.allows(3)
        assert not publish.is_poll_asked_for
        assert await ticks.newest(it.database) == 1


async def test_its_notification_rings_nobody_even_before_its_answer(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with publishing_in(database_url) as (_, publish):
        original = polls.publish

        async def heard_before(*arguments: object, **options: object) -> tuple[list[bool], Poll]:
            answer = await original(*arguments, **options)  # type: ignore[arg-type] # the original's arguments
            publish.ticker.heard("1 0 1 1 7:8:")
            assert publish.told == []
            return answer

        monkeypatch.setattr(polls, "publish", heard_before)
        await publish()
        assert publish.told == ["tick 1"]


async def test_a_poll_is_not_due_while_answers_of_publishes_come(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with publishing_in(database_url) as (_, publish):
        polled: list[None] = []
        poll = polls.poll

        async def counted(*arguments: object, **options: object) -> Poll:
            polled.append(None)
            return await poll(*arguments, **options)  # type: ignore[arg-type] # the original's arguments

        monkeypatch.setattr(polls, "poll", counted)
        monkeypatch.setattr(ticker, "POLL_SECONDS", 0.05)

        class Waiting(Wakeup):
            """Somebody publishes while it waits."""

            async def wait(self, seconds: float) -> bool:
                hurried = await super().wait(seconds)
                await publish()
                return hurried

        publish.ticker.wakeup = Waiting()
        await publish.ticker.run_once()
        assert (publish.told, polled) == (["tick 1"], [])
        publish.ticker.wakeup = Wakeup()
        await publish.ticker.run_once()
        assert len(polled) == 1


async def test_if_somebody_holds_up_ticks_a_poll_is_asked_for(database_url: str) -> None:
    async with publishing_in(database_url) as (it, publish):
        async with it.database.transaction() as connection:
            await connection.execute("LOCK TABLE hookledger.log_lock IN SHARE UPDATE EXCLUSIVE MODE")
            polled_at = publish.log_watch.polled_at
            assert await publish() == [True]
        assert publish.told == []
        assert publish.is_poll_asked_for
        assert publish.log_watch.polled_at == polled_at, "an answer without a tick does not show that ticks are made"
        await publish.ticker.run_once()
        assert publish.told == ["tick 1"]
        assert publish.log_watch.polled_at > polled_at


async def test_a_change_of_a_route_that_is_not_applied_yet_needs_a_poll(database_url: str) -> None:
    async with publishing_in(database_url) as (_, publish), pipeline_process(database_url, run=False) as other:
        await other.route("http://127.0.0.1:9/")
        publish.gate._known_until = 0.0
        await publish()
        assert publish.told == ["tick 1"]
        assert not publish.gate.allows(3)
        assert publish.is_poll_asked_for


async def test_where_ticks_follow_each_other_and_for_many_events_the_ticker_makes_them(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with publishing_in(database_url) as (it, publish):
        await publish(*[new_event() for _ in range(publishing.MOST_EVENTS + 1)])
        assert await ticks.newest(it.database) == 0
        assert publish.is_poll_asked_for
        monkeypatch.setattr(ticker, "HURRIED_TICKS", Allowance(burst=1, per_second=0.001))
        await publish()
        assert await ticks.newest(it.database) == 1
        await publish()
        assert await ticks.newest(it.database) == 1
        assert publish.is_poll_asked_for


async def test_before_anything_is_known_of_the_log_its_answer_is_left_to_a_poll(database_url: str) -> None:
    async with pipeline_process(database_url, run=False) as it:
        publish = Publishing(it)
        await publish()
        assert publish.told == []
        assert publish.is_poll_asked_for
        await publish.ticker.run_once()
        assert publish.told == ["tick 1"]


async def test_an_answer_from_another_log_is_not_told(database_url: str) -> None:
    """Ticks that were read are gone, and the one that was just made has the number of one of them."""
    async with publishing_in(database_url) as (it, publish):
        for _ in range(3):
            await publish()
        async with it.database.connection() as connection:
            await connection.execute("DELETE FROM hookledger.tick WHERE tick > 1")
        await publish()
        assert publish.told == ["tick 1", "tick 2", "tick 3"]
        assert publish.is_poll_asked_for
        await publish.ticker.run_once()
        assert publish.told == ["tick 1", "tick 2", "tick 3", "tick 2"]


async def test_an_answer_that_comes_after_the_log_was_begun_anew_is_not_told(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with publishing_in(database_url) as (it, publish):
        await publish()
        original = polls.publish

        async def begun_anew_meanwhile(*arguments: object, **options: object) -> tuple[list[bool], Poll]:
            answer = await original(*arguments, **options)  # type: ignore[arg-type] # the original's arguments
            async with it.database.connection() as connection:
                await connection.execute("DELETE FROM hookledger.tick")
            await publish.log_watch.poll()
            return answer

        monkeypatch.setattr(polls, "publish", begun_anew_meanwhile)
        await publish()
        assert publish.told == ["tick 1"]
        assert publish.is_poll_asked_for


async def test_an_older_answer_that_comes_later_changes_nothing(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with publishing_in(database_url) as (_, publish):
        original = polls.publish

        async def overtaken(*arguments: object, **options: object) -> tuple[list[bool], Poll]:
            answer = await original(*arguments, **options)  # type: ignore[arg-type] # the original's arguments
            monkeypatch.setattr(polls, "publish", original)
            await publish()
            return answer

        monkeypatch.setattr(polls, "publish", overtaken)
        await publish()
        assert publish.told == ["tick 2"]
        assert publish.ticker._log_watch._known.mark.tick == 2


async def test_an_event_that_comes_alone_is_delivered_without_another_question(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with receiver() as there, pipeline_process(database_url) as it:
        await it.route(there.url)
        await it.until_accounted()
        await until(lambda: len(it.pipeline.shards.held) == domain_events.SHARDS)
        asked: list[str] = []

        def never(*_arguments: object, **_options: object) -> None:
            asked.append("tail")
            raise AssertionError("the events of the tick came with it")

        monkeypatch.setattr(tail, "read_cut", never)
        for number in (1, 2, 3):
            await it.pipeline.publish(it.database, [new_event(tenant="acme", id=f"alone{number}")], seconds=3)
            await there.count(number)
        await it.until_accounted()
        assert asked == []
        assert await it.outcomes() == {f"alone{number}": ["delivered"] for number in (1, 2, 3)}
