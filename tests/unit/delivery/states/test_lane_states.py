"""The states of a lane, compared with a copy of their table."""

from __future__ import annotations

import pytest

from daemon.core.delivery.states.lane_states import TRANSITIONS, LaneState, LaneStep, evolve
from daemon.core.delivery.states.phases import ImpossibleStep

# State → the state after PARK, BREAK, REREAD, EMPTIED, DROP; a dash if that step is impossible.
TABLE = """
live      parking   returned  -        -     live
parking   parking   returned  -        live  live
returned  returned  returned  parking  -     live
"""
STEPS = ("park", "break", "reread", "emptied", "drop")

CASES = [
    (row.split()[0], step, after)
    for row in TABLE.strip().splitlines()
    for step, after in zip(STEPS, row.split()[1:], strict=True)
]


def test_the_copy_has_every_state_and_every_step() -> None:
    assert {state for state, _, _ in CASES} == {state.value for state in LaneState}
    assert set(STEPS) == {step.value for step in LaneStep}
    assert len(TRANSITIONS) == sum(after != "-" for _, _, after in CASES)


@pytest.mark.parametrize(("state", "step", "after"), CASES)
def test_each_step_leads_where_the_table_says(state: str, step: str, after: str) -> None:
    if after == "-":
        with pytest.raises(ImpossibleStep, match=f"a lane that is {state} cannot take the step {step}"):
            evolve(LaneState(state), LaneStep(step))
    else:
        assert evolve(LaneState(state), LaneStep(step)) is LaneState(after)


def test_what_was_let_go_is_read_anew_before_the_lane_is_live() -> None:
    assert (LaneState.RETURNED, LaneStep.EMPTIED) not in TRANSITIONS
