"""Random sequences of all that may happen to deliveries, against a small model: nothing lost, nothing twice, in order.

A run prints its `--seed`, with which the same sequences are drawn again; the machine's own timing is not. What the
sequences have found is a test of its own, beside the stage that was wrong.

The sequences are drawn by weights, not by hypothesis: its lists of alternatives have no weights, and most of them had
not one request that failed.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from structlog.testing import capture_logs

from tests.support.faults.report import seed_of
from tests.support.pipeline.model import world
from tests.support.pipeline.model_check import Mode
from tests.support.pipeline.model_steps import (
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

# Two to three seconds each.
SEQUENCES = 4
PARTS, LONG_PARTS = 4, 100
STEPS = (15, 40)
PAUSES_MS = (0, 5, 10, 20, 40, 80, 160, 320)
WEIGHTS = {Publish: 6, Answer: 5, Pause: 6, Join: 3, Leave: 1, Crash: 1, Order: 1, Disable: 1, Enable: 2}


def steps(dice: Random) -> Iterator[Step]:
    for _ in range(dice.randint(*STEPS)):
        route = dice.randrange(ROUTES)
        (kind,) = dice.choices(list(WEIGHTS), list(WEIGHTS.values()))
        if kind is Publish:
            yield Publish(dice.randint(1, 9))
        elif kind is Answer:
            yield Answer(route, dice.choice(list(Mode)))
        elif kind is Pause:
            yield Pause(dice.choice(PAUSES_MS))
        elif kind is Order:
            yield Order(route, is_ordered=dice.random() < 0.5)
        elif kind in (Disable, Enable):
            yield kind(route)
        elif kind in (Leave, Crash):
            yield kind(oldest=dice.random() < 0.5)
        else:
            yield Join()


async def run(database_url: str, dice: Random) -> None:
    """Runs one sequence, and checks what became of everything."""
    taken: list[Step] = []
    ordered = tuple(dice.random() < 0.5 for _ in range(ROUTES))
    with capture_logs() as logged:
        try:
            async with world(database_url) as it:
                await it.begin(ordered)
                for step in steps(dice):
                    taken.append(step)
                    await it.take(step)
                await it.settle()
                await it.check()
        except BaseException as failed:
            failed.add_note(f"ordered: {ordered}, steps:\n" + "\n".join(map(repr, taken)))
            raise
    mistakes = [line for line in logged if line["log_level"] in ("error", "critical")]
    assert not mistakes, (mistakes, taken)


async def sequences(database_url: str, request: pytest.FixtureRequest) -> None:
    """Several sequences on one database: what one has left behind would be sent in the next."""
    print(f"--seed {seed_of(request.config)}")
    dice = Random(f"{seed_of(request.config)}-{request.node.name}")
    for _ in range(SEQUENCES):
        await run(database_url, dice)


@pytest.mark.parametrize(
    "part", [*range(PARTS), *(pytest.param(n, marks=pytest.mark.long) for n in range(PARTS, LONG_PARTS))]
)
async def test_whatever_happens_every_delivery_that_is_due_is_made_once(
    database_url: str, request: pytest.FixtureRequest, part: int
) -> None:
    await sequences(database_url, request)
