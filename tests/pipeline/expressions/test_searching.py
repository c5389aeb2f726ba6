"""Data of events looked into for a field: a little of it here, much of it in turns by the evaluator."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager

import pytest

from daemon.core.events import field_condition
from daemon.core.events.field_condition import FieldCondition
from daemon.core.webhook.expression import StepAllowance
from daemon.expressions import searching
from daemon.expressions.evaluator import Evaluator
from daemon.expressions.judging import FilterPlaces
from daemon.telemetry.metrics import Metrics
from eventstore.postgres.errors import Saturated

CONDITION = field_condition.parse("data.object.a = 1")
FITS, OTHER = b'{"a":1}', b'{"a":2}'
PAYLOADS = [FITS, OTHER, FITS + b" " * 300, FITS, OTHER, FITS + b" " * 5000]


class CountingEvaluator(Evaluator):
    """Answers at once, or never, and notes how many payloads of how many bytes each turn has."""

    def __init__(self, *, answers: bool = True) -> None:
        super().__init__(Metrics())
        self.turns: list[tuple[int, int]] = []
        self._answers = answers

    async def fitting(self, tenant: str, payloads: Sequence[bytes], condition: FieldCondition) -> tuple[bool, ...]:
        assert tenant == "acme asks"
        self.turns.append((len(payloads), sum(map(len, payloads))))
        if not self._answers:
            await asyncio.Event().wait()
        return tuple(map(condition.holds, payloads))


def places(evaluator: Evaluator, *, document_bytes: int, patience_seconds: float = 10.0) -> FilterPlaces:
    return FilterPlaces(
        evaluator=evaluator,
        allowance=lambda: StepAllowance(steps=1, document_bytes=document_bytes),
        patience_seconds=patience_seconds,
    )


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searching, "TURN_BYTES", 310)
    monkeypatch.setattr(searching, "MAX_DOCUMENT_BYTES", 1000)


@pytest.mark.parametrize(
    ("document_bytes", "turns"),
    [(100_000, []), (100, [(2, 14), (1, 307), (3, 14)])],
)
async def test_much_is_left_to_the_evaluator_by_turns(document_bytes: int, turns: list[tuple[int, int]]) -> None:
    evaluator = CountingEvaluator()
    at = places(evaluator, document_bytes=document_bytes)
    assert await searching.fitting(at, "acme", PAYLOADS, CONDITION) == [True, False, True, True, False, False]
    assert evaluator.turns == turns


async def test_all_turns_together_have_the_time_of_one_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller may hold a place that others wait for."""
    waits: list[None] = []
    waiting = FilterPlaces.waiting

    def counted(self: FilterPlaces) -> AbstractAsyncContextManager[None]:
        waits.append(None)
        return waiting(self)

    monkeypatch.setattr(FilterPlaces, "waiting", counted)
    evaluator = CountingEvaluator()
    await searching.fitting(places(evaluator, document_bytes=100), "acme", PAYLOADS, CONDITION)
    assert (len(evaluator.turns), len(waits)) == (3, 1)


async def test_a_caller_that_is_not_answered_in_time_is_refused() -> None:
    at = places(CountingEvaluator(answers=False), document_bytes=100, patience_seconds=0.0)
    with pytest.raises(Saturated):
        await searching.fitting(at, "acme", PAYLOADS, CONDITION)


async def test_a_caller_that_shares_no_loop_looks_by_itself() -> None:
    assert await searching.fitting(None, "acme", PAYLOADS[:2], CONDITION) == [True, False]
