"""A mistake of our own in one delivery: the process goes on, and the delivery is recorded or visibly tried again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from daemon.core.delivery.answer import Response
from daemon.core.delivery.retry import RetryPolicy
from daemon.core.webhook.request import RequestForm
from daemon.pipeline.recording.recorder import Recorder
from daemon.pipeline.sending import attempt, outcome
from tests.support.pipeline.process import PipelineProcess, pipeline_process
from tests.support.receivers.receiver import receiver, status
from tests.support.until import until

QUICK = RetryPolicy(first=timedelta(seconds=0.1), cap=timedelta(seconds=0.2), attempts=10)


class Mistake(Exception):
    pass


def fails_once(monkeypatch: pytest.MonkeyPatch, of: object, name: str, when: Callable[..., bool]) -> list[object]:
    """Makes a function raise the first time that its arguments are so. Returns the list of what it raised."""
    really, raised = getattr(of, name), list[object]()

    def instead(*arguments: Any, **more: Any) -> Any:
        if not raised and when(*arguments, **more):
            raised.append(name)
            raise Mistake
        return really(*arguments, **more)

    monkeypatch.setattr(of, name, instead)
    return raised


async def until_nothing_is_held(it: PipelineProcess) -> None:
    """Nothing of any delivery is left in memory, and the checkpoint is at the newest tick."""
    await it.until_accounted()
    pipeline = it.pipeline
    await until(lambda: not list(pipeline._lanes.in_flight) and not pipeline._recorder.backlog)
    await until(lambda: not pipeline._working_set._deliveries)
    assert pipeline._ledger.pairs == 0
    assert [lane.load for lane in pipeline._lanes] == [0] * len(list(pipeline._lanes))


def is_success(*arguments: Any, **_more: Any) -> bool:
    return any(isinstance(each, Response) for each in arguments)


async def test_an_outcome_that_cannot_be_recorded_is_shown_and_tried_again(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    raised = fails_once(monkeypatch, attempt, "row_of", is_success)
    async with receiver() as there, pipeline_process(database_url, retry=QUICK) as it:
        await it.route(there.url + "/")
        first, *others = await it.publish(count=5)
        await there.count(6)
        await until_nothing_is_held(it)
        outcomes = await it.outcomes()
    assert raised
    assert sorted(outcomes.values()) == [["delivered"]] * 4 + [["retrying", "delivered"]]
    assert outcomes.keys() == {first, *others}


async def test_a_failure_of_the_failures_own_record_still_leaves_a_retry(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = outcome.row_of
    mistakes = 0

    def instead(delivery: Any, *arguments: Any, **more: Any) -> Any:
        nonlocal mistakes
        if delivery.failures == 0 and delivery.event.data == b'{"n": 0}':
            mistakes += 1
            raise Mistake
        return really(delivery, *arguments, **more)

    monkeypatch.setattr(attempt, "row_of", instead)
    async with receiver() as there, pipeline_process(database_url, retry=QUICK) as it:
        await it.route(there.url + "/")
        broken, *others = await it.publish(count=3)
        await there.count(4)
        await until_nothing_is_held(it)
        outcomes = await it.outcomes()
        rows = await it.rows("SELECT number FROM hookledger.attempt WHERE event_id = $1", broken)
    assert mistakes == 2
    assert outcomes == {event: ["delivered"] for event in (broken, *others)}
    assert rows == [{"number": 2}], "the request that has no row has a number"


@pytest.mark.parametrize("is_ordered", [False, True])
async def test_a_recorder_that_refuses_a_delivery_does_not_lose_it(
    database_url: str, monkeypatch: pytest.MonkeyPatch, is_ordered: bool
) -> None:
    fails_once(monkeypatch, Recorder, "attempted", lambda *_arguments, **_more: True)
    async with receiver() as there, pipeline_process(database_url, retry=QUICK) as it:
        await it.route(there.url + "/", ordered=is_ordered)
        published = await it.publish(count=4)
        await there.count(5)
        await until_nothing_is_held(it)
        outcomes = await it.outcomes()
    assert outcomes.keys() == set(published)
    assert {words[-1] for words in outcomes.values()} == {"delivered"}


async def test_a_mistake_after_the_record_changes_nothing(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiver() as there, pipeline_process(database_url, retry=QUICK) as it:
        fails_once(monkeypatch, it.metrics, "attempted", lambda *_arguments, **_more: True)
        await it.route(there.url + "/")
        published = await it.publish(count=3)
        await there.count(3)
        await until_nothing_is_held(it)
        assert await it.outcomes() == {event: ["delivered"] for event in published}
    assert len(there.received) == 3


async def test_a_mistake_of_who_traces_attempts_sends_nothing_again(database_url: str) -> None:
    def trace(*_arguments: object) -> None:
        raise Mistake

    async with receiver() as there, pipeline_process(database_url, retry=QUICK) as it:
        it.pipeline._attempt._on_attempted = trace
        await it.route(there.url + "/")
        published = await it.publish(count=3)
        await there.count(3)
        await until_nothing_is_held(it)
        assert await it.outcomes() == {event: ["delivered"] for event in published}
    assert len(there.received) == 3


async def test_a_mistake_while_suppressing_changes_nothing(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    slow = RetryPolicy(first=timedelta(seconds=0.5), cap=timedelta(seconds=0.5), attempts=10)
    async with receiver() as there, pipeline_process(database_url, retry=slow) as it:
        there.answer["/"] = status(500)
        route = await it.route(there.url + "/")
        monkeypatch.setattr(it.pipeline._backlog.suppressor, "review", lambda _route: None)
        (event,) = await it.publish(count=1)
        await it.until_row("SELECT count(*) = 1 FROM hookledger.retry")
        raised = fails_once(monkeypatch, it.metrics, "attempted", lambda *_arguments, **_more: True)
        await it.disable(route)
        await until(lambda: raised)
        await until_nothing_is_held(it)
        assert await it.outcomes() == {event: ["retrying", "suppressed"]}


async def test_a_mistake_before_the_request_is_a_failure_of_its_own(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails_once(monkeypatch, RequestForm, "lines", lambda *_arguments, **_more: True)
    async with receiver() as there, pipeline_process(database_url, retry=QUICK) as it:
        await it.route(there.url + "/")
        published = await it.publish(count=3)
        await there.count(3)
        await until_nothing_is_held(it)
        outcomes = await it.outcomes()
        (row,) = await it.rows("SELECT error FROM hookledger.attempt WHERE outcome = 'retrying'")
    assert row == {"error": "internal_error"}
    assert outcomes.keys() == set(published)
    assert sorted(outcomes.values()) == [["delivered"]] * 2 + [["retrying", "delivered"]]
