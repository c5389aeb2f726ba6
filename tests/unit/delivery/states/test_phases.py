"""The life of a delivery in memory, compared with a copy of its table."""

from __future__ import annotations

import pytest

from daemon.core.delivery.states.phases import TRANSITIONS, DeliveryPhase, DeliveryStep, ImpossibleStep, evolve

# Phase → the phase after START, SEND, POSTPONE, END, PARK, WITHDRAW, HAND_OVER; a dash if that step is impossible.
TABLE = """
waiting      started  -        -            -            parked  withdrawn    -
started      -        sending  -            ended        -       withdrawn    -
sending      -        -        started      ended        -       withdrawn    handed_over
ended        -        -        -            -            -       ended        -
parked       -        -        -            -            -       parked       -
withdrawn    -        -        withdrawn    withdrawn    -       withdrawn    -
handed_over  -        -        handed_over  handed_over  -       handed_over  -
"""
STEPS = ("start", "send", "postpone", "end", "park", "withdraw", "hand_over")

CASES = [
    (row.split()[0], step, after)
    for row in TABLE.strip().splitlines()
    for step, after in zip(STEPS, row.split()[1:], strict=True)
]


def test_the_copy_has_every_phase_and_every_step() -> None:
    assert {phase for phase, _, _ in CASES} == {phase.value for phase in DeliveryPhase}
    assert set(STEPS) == {step.value for step in DeliveryStep}
    assert len(TRANSITIONS) == sum(after != "-" for _, _, after in CASES)


@pytest.mark.parametrize(("phase", "step", "after"), CASES)
def test_each_step_leads_where_the_table_says(phase: str, step: str, after: str) -> None:
    if after == "-":
        with pytest.raises(ImpossibleStep, match=f"a delivery that is {phase} cannot {step}"):
            evolve(DeliveryPhase(phase), DeliveryStep(step))
    else:
        assert evolve(DeliveryPhase(phase), DeliveryStep(step)) is DeliveryPhase(after)


def test_what_nobody_here_works_on_any_more_stays_so() -> None:
    for phase in (DeliveryPhase.ENDED, DeliveryPhase.PARKED, DeliveryPhase.WITHDRAWN, DeliveryPhase.HANDED_OVER):
        assert {after for (before, _), after in TRANSITIONS.items() if before is phase} == {phase}
