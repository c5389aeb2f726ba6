"""The ticker: how often it polls, whom it notifies, and what a poll proves."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from daemon.core.gcra import Allowance
from daemon.pipeline.held_shards import HeldShards, Takeover
from daemon.pipeline.intake.ticks import ticker
from daemon.pipeline.intake.ticks.log_watch import LogWatch
from daemon.pipeline.intake.ticks.ticker import Ticker
from daemon.pipeline.known_log import KnownLog
from daemon.pipeline.sending.send_gate import SendGate
from daemon.telemetry.metrics import Metrics
from eventstore import domain_events
from eventstore.domain_events import polls, ticks
from eventstore.domain_events.events import SHARDS, StoredEvent
from eventstore.domain_events.glances import Glance
from eventstore.domain_events.polls import NOTHING_READ, Poll, ReadUpto
from eventstore.domain_events.ticks import Tick, bits_of
from eventstore.postgres.errors import StoreUnavailable
from tests.support.pipeline.process import PipelineProcess, pipeline_process
from tests.support.receivers.receiver import receiver
from tests.support.until import until
from tests.support.values.builders import new_event


@dataclass
class Reader:
    """Stands for the tailer: says what it has read, and notes what it is told."""

    calls: list[str]
    read_upto: ReadUpto = NOTHING_READ
    events: list[StoredEvent] | None = None

    def told(self, newest: Tick, events: Sequence[StoredEvent] | None = None, *, shards: int = 0) -> None:
        self.calls.append(f"tick {newest.tick}")
        self.events = None if events is None else list(events)

    def must_ask(self) -> None:
        self.calls.append("ask")


def ticker_of(it: PipelineProcess, calls: list[str]) -> tuple[Ticker, SendGate]:
    shards = HeldShards()
    shards.take({3: 1}, 1e12)
    shards.hold(Takeover(checkpoints={3: 0}), {3: 1})
    send_gate = SendGate(shards)
    log_watch = LogWatch(it.database, it.projection, shards, KnownLog(), Metrics(), owner="me")
    created = Ticker(log_watch, it.projection, send_gate, Reader(calls))
    created.wakeup.set()
    return created, send_gate


async def test_it_asks_less_often_when_nothing_is_new(database_url: str) -> None:
    async with pipeline_process(database_url, run=False) as it:
        polling, _ = ticker_of(it, [])
        assert polling.pause_seconds == ticker.POLL_SECONDS
        polling._made_at -= ticker.BUSY_SECONDS
        assert polling.pause_seconds == ticker.IDLE_POLL_SECONDS
        await polling.run_once()
        assert polling.pause_seconds == ticker.IDLE_POLL_SECONDS
        await it.publish()
        await polling.run_once()
        assert polling.pause_seconds == ticker.POLL_SECONDS


async def test_it_waits_after_a_publish_only_if_ticks_follow_each_other(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The allowance is of so few ticks that no machine is slow enough to be granted another one."""
    monkeypatch.setattr(ticker, "HURRIED_TICKS", Allowance(burst=3, per_second=0.001))
    async with pipeline_process(database_url, run=False) as it:
        polling, _ = ticker_of(it, [])
        waits = []
        for _ in range(3):
            await it.publish()
            waits.append(polling.spacing_seconds)
            polling.wakeup.set()
            await polling.run_once()
        assert waits == [0, 0, 0]
        assert polling.spacing_seconds > 0


async def test_it_tells_of_new_ticks_of_any_process(database_url: str) -> None:
    calls: list[str] = []
    async with pipeline_process(database_url, run=False) as it:
        polling, _ = ticker_of(it, calls)
        await polling.run_once()
        assert calls == []
        await it.publish()
        await polling.run_once()
        await it.publish()
        await ticks.make(it.database)
        await polling.run_once()
        await polling.run_once()
        assert calls == ["tick 1", "tick 2"]


async def test_the_notification_of_a_tick_that_is_known_rings_nobody(database_url: str) -> None:
    calls: list[str] = []
    async with pipeline_process(database_url, run=False) as it:
        polling, _ = ticker_of(it, calls)
        await it.publish()
        await polling.run_once()
        polling.heard("1 0 1 1 1:2:")
        polling.heard("1")
        assert calls == ["tick 1"]
        polling.heard("2 0 1 1 2:3:")
        assert calls == ["tick 1", "tick 2"]
        polling.heard("3")
        polling.heard("")
        assert calls == ["tick 1", "tick 2", "ask", "ask"]


@pytest.mark.parametrize(
    ("payload", "told"), [("1 0 1 1 1:2:", []), ("1", []), ("2 0 1 1 2:3:", ["tick 2"]), ("2", ["ask"])]
)
async def test_a_notification_during_a_poll_waits_for_its_answer(
    database_url: str, payload: str, told: list[str]
) -> None:
    calls: list[str] = []
    async with pipeline_process(database_url, run=False) as it:
        polling, _ = ticker_of(it, calls)
        await it.publish()
        poll = polling._log_watch.poll

        async def heard_meanwhile(read: ReadUpto = NOTHING_READ) -> Poll:
            answer = await poll(read)
            polling.heard(payload)
            assert calls == []
            return answer

        polling._log_watch.poll = heard_meanwhile  # type: ignore[method-assign] # the notification comes before the answer
        await polling.run_once()
        assert calls == ["tick 1", *told]


async def test_a_poll_that_fails_lets_the_notification_ring(database_url: str) -> None:
    calls: list[str] = []
    async with pipeline_process(database_url, run=False) as it:
        polling, _ = ticker_of(it, calls)

        async def failing(read: ReadUpto = NOTHING_READ) -> Poll:
            polling.heard("1")
            raise StoreUnavailable(f"away: {read}")

        polling._log_watch.poll = failing  # type: ignore[method-assign] # PostgreSQL is away
        with pytest.raises(StoreUnavailable):
            await polling.run_once()
        assert calls == ["ask"]


async def test_each_question_proves_that_the_projection_was_up_to_date_when_it_was_asked(database_url: str) -> None:
    async with pipeline_process(database_url, run=False) as it, pipeline_process(database_url, run=False) as other:
        polling, send_gate = ticker_of(it, [])
        await other.route("http://127.0.0.1:9/")
        assert not send_gate.allows(3)
        began = time.monotonic()
        await polling.run_once()
        assert it.projection.index.position == 1
        assert began < send_gate._known_until < time.monotonic() + 1


async def test_a_poll_brings_the_events_that_the_reader_has_not_read(database_url: str) -> None:
    async with pipeline_process(database_url, run=False) as it:
        polling, _ = ticker_of(it, [])
        reader = polling._reader
        assert isinstance(reader, Reader)
        reader.read_upto = ReadUpto(0, bits_of(range(SHARDS)))
        ids = await it.publish(count=3)
        await polling.run_once()
        assert [event.id for event in reader.events or ()] == ids


async def test_while_another_process_makes_ticks_it_polls_for_its_own_sake_only(database_url: str) -> None:
    async with pipeline_process(database_url, run=False) as it:
        polling, _ = ticker_of(it, [])
        await it.publish()
        await polling.run_once()
        answered_at = polling._answered_at
        assert polling._due_at(1.0) == answered_at + ticker.POLL_SECONDS
        polling.heard("1 0 1 1 1:2:")  # its own
        assert polling._due_at(1.0) == answered_at + ticker.POLL_SECONDS
        polling.heard("2 0 1 1 2:3:")
        assert answered_at + ticker.POLL_SECONDS < polling._due_at(1.0) <= answered_at + ticker.IDLE_POLL_SECONDS
        polling._looked_at += 10
        assert polling._due_at(1.0) == answered_at + ticker.IDLE_POLL_SECONDS


async def test_after_a_quiet_minute_a_glance_that_shows_nothing_new_stands_for_a_poll(database_url: str) -> None:
    async with pipeline_process(database_url, run=False) as it:
        polling, send_gate = ticker_of(it, [])
        await polling.run_once()
        polled = polling._log_watch._settled
        assert polled is not None
        assert polled.snapshot is not None
        assert polled.mark.timeline is not None
        same = Glance(polled.snapshot, polled.mark.timeline, polled.clock, 0)
        asked_at = time.monotonic()
        due_at = polling._due_at(1.0)
        assert not polling.glanced(same, asked_at)
        assert polling._due_at(1.0) == due_at, "the last minute was not quiet"
        polling._told_at -= ticker.QUIET_SECONDS
        send_gate._known_until = 0.0
        assert polling.glanced(same, asked_at)
        assert polling._due_at(1.0) == pytest.approx(asked_at + ticker.GLANCE_SECONDS, abs=0.1)
        assert polling._log_watch.polled_at >= asked_at
        assert send_gate.allows(3)
        assert not polling.wakeup.is_set


@pytest.mark.parametrize(("snapshot", "timeline"), [("1:1000000000:", 0), (None, 1)])
async def test_a_glance_that_shows_something_makes_it_poll(
    database_url: str, snapshot: str | None, timeline: int
) -> None:
    """Something was committed, or a standby was promoted."""
    async with pipeline_process(database_url, run=False) as it:
        polling, send_gate = ticker_of(it, [])
        await polling.run_once()
        polled = polling._log_watch._settled
        assert polled is not None
        assert polled.snapshot is not None
        assert polled.mark.timeline is not None
        polling._told_at -= ticker.QUIET_SECONDS
        send_gate._known_until = 0.0
        glance = Glance(snapshot or polled.snapshot, polled.mark.timeline + timeline, polled.clock, 0)
        assert not polling.glanced(glance, time.monotonic())
        assert polling.wakeup.is_set
        assert not send_gate.allows(3)


async def sees_others_write(polling: Ticker) -> None:
    """After a quiet minute a glance shows that something was committed."""
    polled = polling._log_watch._settled
    assert polled is not None
    assert polled.mark.timeline is not None
    polling._told_at -= ticker.QUIET_SECONDS
    assert not polling.glanced(Glance("1:1000000000:", polled.mark.timeline, polled.clock, 0), time.monotonic())


async def test_a_poll_that_a_glance_caused_for_nothing_stands_for_the_glance(database_url: str) -> None:
    """Others write to the database, and publish nothing: there are as many polls as glances, and not more."""
    async with pipeline_process(database_url, run=False) as it:
        polling, send_gate = ticker_of(it, [])
        await polling.run_once()
        for _ in range(2):
            await sees_others_write(polling)
            send_gate._known_until = 0.0
            began = time.monotonic()
            await polling.run_once()
            assert send_gate.allows(3)
            assert began + ticker.GLANCE_SECONDS < polling._due_at(1.0) <= time.monotonic() + ticker.GLANCE_SECONDS


async def test_after_a_poll_that_found_what_a_glance_saw_it_polls_as_usual(database_url: str) -> None:
    async with pipeline_process(database_url, run=False) as it:
        polling, _ = ticker_of(it, [])
        await polling.run_once()
        await it.publish()
        await sees_others_write(polling)
        await polling.run_once()
        assert polling._due_at(1.0) == polling._answered_at + ticker.POLL_SECONDS


async def test_after_a_poll_for_a_glance_that_failed_it_polls_as_usual(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pipeline_process(database_url, run=False) as it:
        polling, _ = ticker_of(it, [])
        await polling.run_once()
        polling._made_at -= ticker.BUSY_SECONDS
        await sees_others_write(polling)

        async def fail(_read: ReadUpto) -> Poll:
            raise StoreUnavailable("away")

        with monkeypatch.context() as patched:
            patched.setattr(polling._log_watch, "poll", fail)
            with pytest.raises(StoreUnavailable):
                await polling.run_once()
        assert polling._due_at(1.0) == polling._answered_at + ticker.IDLE_POLL_SECONDS
        polling.wakeup.set()
        await polling.run_once()
        assert polling._due_at(1.0) == polling._answered_at + ticker.IDLE_POLL_SECONDS


async def test_a_glance_proves_nothing_before_the_routes_are_as_new_as_the_poll(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pipeline_process(database_url, run=False) as it:
        polling, send_gate = ticker_of(it, [])

        async def fail(_pos: int) -> None:
            raise StoreUnavailable("away")

        monkeypatch.setattr(it.projection, "reach", fail)
        with pytest.raises(StoreUnavailable):
            await polling.run_once()
        polling._told_at -= ticker.QUIET_SECONDS
        poll = await polls.poll(it.database, known_tick=0, known_pos=0)
        assert poll.snapshot is not None
        assert poll.mark.timeline is not None
        polling.glanced(Glance(poll.snapshot, poll.mark.timeline, poll.clock, 0), time.monotonic())
        assert not send_gate.allows(3)
        assert polling.wakeup.is_set


async def test_an_event_that_came_by_sql_after_a_quiet_minute_is_delivered(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ticker, "QUIET_SECONDS", 0.0)
    async with receiver() as there, pipeline_process(database_url) as it:
        await it.route(there.url)
        await until(lambda: it.pipeline._lifelines._is_noted)
        for count in (1, 2, 3):
            since = it.pipeline._lifelines._answered_at
            await until(lambda since=since: it.pipeline._lifelines._answered_at > since)  # type: ignore[misc]
            await domain_events.publish(it.database, [new_event(id=f"by-sql-{count}")])
            await there.count(count)
