"""An event judged anew: cheap filters here, heavy ones together by the evaluator, with the same decisions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

import pytest

from daemon.core.routing.decision import Decision
from daemon.core.routing.route import RouteConfig, evolve
from daemon.core.routing.timeline import Timeline
from daemon.core.webhook.expression import StepAllowance, TooHeavy
from daemon.core.webhook.payload import EventFilters, FilterResult, PayloadEvent
from daemon.expressions.evaluator import Evaluator
from daemon.expressions.judging import EventJudge, FilterPlaces
from daemon.telemetry.metrics import Metrics
from eventstore.postgres.errors import Saturated
from tests.support.values.lifecycles import NOON, config, created, filtered

CHEAP, STOPS = "type == 'order.create'", "type == 'order.cancel'"
HEAVY = [f"length(data.object.l[?@ > `{number}`]) > `0`" for number in range(3)]
PAYLOAD = PayloadEvent(
    event_id="evt_1",
    event_type="order.create",
    created=NOON,
    data=b'{"l": [%s]}' % b",".join([b"1"] * 500),
    context=None,
    snapshot=None,
)


@dataclass(frozen=True)
class Judged:
    """An event without its payload."""

    type: str = "order.create"
    event_time: datetime = NOON
    backfill: bool = False
    test_route: UUID | None = None


class CountingEvaluator(Evaluator):
    """Answers at once, or never, and notes what it is asked."""

    def __init__(self, *, answers: bool = True) -> None:
        super().__init__(Metrics())
        self.asked: list[list[str]] = []
        self.turns: list[str] = []
        self._answers = answers

    async def filter_results(self, tenant: str, event: PayloadEvent, filters: Sequence[str]) -> dict[str, FilterResult]:
        self.asked.append(list(filters))
        self.turns.append(tenant)
        if not self._answers:
            await asyncio.Event().wait()
        return {text: EventFilters(event).result(text) for text in filters}


class Reader:
    """Reads the payload, and counts how often."""

    def __init__(self, payload: PayloadEvent | None = PAYLOAD) -> None:
        self.reads = 0
        self._payload = payload

    async def __call__(self) -> PayloadEvent | None:
        self.reads += 1
        return self._payload


def places(evaluator: Evaluator, *, patience_seconds: float | None = None) -> FilterPlaces:
    return FilterPlaces(
        evaluator=evaluator,
        allowance=lambda: StepAllowance(steps=100, document_bytes=10_000),
        patience_seconds=patience_seconds,
    )


def timeline(of: RouteConfig) -> Timeline:
    return Timeline(evolve(None, created(route_id=uuid4(), config=of)))


async def decisions(judge: EventJudge, *filters: str) -> list[Decision]:
    return [(await judge.judge(timeline(filtered(text)))).decision for text in filters]


async def test_cheap_filters_are_evaluated_here_and_the_event_is_read_once() -> None:
    evaluator, read = CountingEvaluator(), Reader()
    judge = EventJudge(Judged(), "acme", read, places(evaluator))
    assert await decisions(judge, CHEAP, STOPS, CHEAP) == [Decision.DELIVER, Decision.FILTERED, Decision.DELIVER]
    assert (evaluator.asked, read.reads) == ([], 1)


@pytest.mark.parametrize("event", [Judged(type="item.change"), Judged(backfill=True), Judged(test_route=uuid4())])
async def test_an_event_is_not_read_unless_a_filter_is_asked(event: Judged) -> None:
    read = Reader()
    judge = EventJudge(event, "acme", read, places(CountingEvaluator()))
    (decision,) = await decisions(judge, CHEAP)
    assert decision is not Decision.DELIVER
    assert (await EventJudge(Judged(), "acme", read, None).judge(timeline(config()))).decision is Decision.DELIVER
    assert read.reads == 0


async def test_heavy_filters_are_evaluated_together_by_the_evaluator_and_once() -> None:
    evaluator = CountingEvaluator()
    judge = EventJudge(Judged(), "acme", Reader(), places(evaluator))
    await judge.prepare([timeline(filtered(text)) for text in (CHEAP, *HEAVY, HEAVY[0])])
    passes, stops = Decision.DELIVER, Decision.FILTERED
    assert await decisions(judge, CHEAP, *HEAVY) == [passes, passes, stops, stops]
    assert evaluator.asked == [HEAVY]


async def test_a_caller_that_is_not_answered_in_time_is_refused_and_evaluates_nothing_here() -> None:
    judge = EventJudge(Judged(), "acme", Reader(), places(CountingEvaluator(answers=False), patience_seconds=0.0))
    with pytest.raises(Saturated, match="too many heavy filters"):
        await decisions(judge, HEAVY[0])


async def test_a_request_does_not_wait_for_deliveries_of_the_tenant() -> None:
    evaluator = CountingEvaluator()
    for patience_seconds in (None, 1.0):
        judge = EventJudge(Judged(), "acme", Reader(), places(evaluator, patience_seconds=patience_seconds))
        await decisions(judge, HEAVY[0])
    assert evaluator.turns == ["acme", "acme asks"]


async def test_a_caller_that_shares_no_loop_evaluates_heavy_filters_too() -> None:
    judge = EventJudge(Judged(), "acme", Reader(), None)
    assert await decisions(judge, *HEAVY[:2]) == [Decision.DELIVER, Decision.FILTERED]
    with pytest.raises(TooHeavy):
        EventFilters(PAYLOAD, allowance=StepAllowance(steps=100, document_bytes=10_000)).result(HEAVY[0])


async def test_no_filter_lets_an_event_through_that_is_gone() -> None:
    judge = EventJudge(Judged(), "acme", Reader(None), places(CountingEvaluator()))
    assert await decisions(judge, CHEAP, STOPS, HEAVY[0]) == [Decision.FILTERED] * 3
