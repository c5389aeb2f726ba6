"""Random sequences of all that may happen to deliveries, against a small model: nothing lost, nothing twice, in order.

A run prints its `--seed`, with which the same sequences are drawn again. What the sequences have found is a test of its
own, beside the stage that was wrong.
"""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from tests.support.delivery_model import world
from tests.support.delivery_model_check import Mode
from tests.support.delivery_model_steps import (
    ROUTES,
    Answer,
    Crash,
    Disable,
    Enable,
    Join,
    Leave,
    Order,
    Pause,
    Publish,
    Step,
)
from tests.support.fault_report import seed_of

# Two seconds each, on a machine that has other work too.
EXAMPLES = 14

_ROUTE = st.integers(0, ROUTES - 1)
_STEP: st.SearchStrategy[Step] = st.one_of(
    st.builds(Publish, st.integers(1, 9)),
    st.builds(Publish, st.integers(1, 9)),
    st.builds(Publish, st.integers(1, 9)),
    st.builds(Answer, _ROUTE, st.sampled_from(Mode)),
    st.builds(Answer, _ROUTE, st.sampled_from(Mode)),
    st.builds(Order, _ROUTE, st.booleans()),
    st.builds(Disable, _ROUTE),
    st.builds(Enable, _ROUTE),
    st.builds(Join),
    st.builds(Leave, st.booleans()),
    st.builds(Crash, st.booleans()),
    st.builds(Pause, st.sampled_from([0, 5, 20, 60, 150, 300])),
    st.builds(Pause, st.sampled_from([0, 5, 20, 60, 150, 300])),
)
_ORDERED = st.tuples(*[st.booleans()] * ROUTES)
_SEQUENCES = st.lists(_STEP, min_size=6, max_size=18)


async def run(database_url: str, ordered: tuple[bool, ...], steps: list[Step]) -> None:
    with capture_logs() as logged:
        async with world(database_url) as it:
            await it.begin(ordered)
            for step in steps:
                await it.take(step)
            await it.settle()
            await it.check()
    mistakes = [line for line in logged if line["log_level"] in ("error", "critical")]
    assert not mistakes, mistakes


def sequences(database_url: str, request: pytest.FixtureRequest, *, part: int) -> None:
    chosen = seed_of(request.config)
    print(f"--seed {chosen}")

    @seed(f"{chosen}-{part}")
    @settings(
        max_examples=EXAMPLES,
        phases=[Phase.generate],  # a shorter sequence has other times, and may not fail
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(_ORDERED, _SEQUENCES)
    def sequence(ordered: tuple[bool, ...], steps: list[Step]) -> None:
        asyncio.run(run(database_url, ordered, steps))

    sequence()


def test_whatever_happens_every_delivery_that_is_due_is_made_once(
    database_url: str, request: pytest.FixtureRequest
) -> None:
    sequences(database_url, request, part=0)


@pytest.mark.long
@pytest.mark.parametrize("part", range(1, 31))
def test_whatever_happens_for_long_every_delivery_that_is_due_is_made_once(
    database_url: str, request: pytest.FixtureRequest, part: int
) -> None:
    sequences(database_url, request, part=part)
