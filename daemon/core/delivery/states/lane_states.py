"""The state of a route's lane, as a state machine.

    LIVE --PARK--------------------> PARKING    the queue is full, or something waited for too long
    LIVE, PARKING --BREAK----------> RETURNED   the breaker opened
    RETURNED --REREAD--------------> PARKING    nothing that was let go is under way or unwritten any more
    PARKING --EMPTIED--------------> LIVE       the tables have nothing left for the lane
    any --DROP---------------------> LIVE       the shard is another process's

LIVE: what the tailer decides is queued. PARKING: it is written down, and the lane is filled from the tables, oldest
first. RETURNED: parking too, and what had been taken up from the tables was let go, so its rows are read anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from daemon.core.delivery.states.phases import ImpossibleStep


class LaneState(Enum):
    """See the head of this file."""

    LIVE = "live"
    PARKING = "parking"
    RETURNED = "returned"


class LaneStep(Enum):
    """What happens to a lane."""

    PARK = "park"
    BREAK = "break"
    REREAD = "reread"
    EMPTIED = "emptied"
    DROP = "drop"


TRANSITIONS: Mapping[tuple[LaneState, LaneStep], LaneState] = {
    (LaneState.LIVE, LaneStep.PARK): LaneState.PARKING,
    (LaneState.LIVE, LaneStep.BREAK): LaneState.RETURNED,
    (LaneState.LIVE, LaneStep.DROP): LaneState.LIVE,
    (LaneState.PARKING, LaneStep.PARK): LaneState.PARKING,
    (LaneState.PARKING, LaneStep.BREAK): LaneState.RETURNED,
    (LaneState.PARKING, LaneStep.EMPTIED): LaneState.LIVE,
    (LaneState.PARKING, LaneStep.DROP): LaneState.LIVE,
    (LaneState.RETURNED, LaneStep.PARK): LaneState.RETURNED,
    (LaneState.RETURNED, LaneStep.BREAK): LaneState.RETURNED,
    (LaneState.RETURNED, LaneStep.REREAD): LaneState.PARKING,
    (LaneState.RETURNED, LaneStep.DROP): LaneState.LIVE,
}


def evolve(state: LaneState, step: LaneStep) -> LaneState:
    """The state after a step. Raises ImpossibleStep."""
    try:
        return TRANSITIONS[state, step]
    except KeyError:
        raise ImpossibleStep(f"a lane that is {state.value} cannot take the step {step.value}") from None
