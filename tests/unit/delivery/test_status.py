"""How a delivery stands: one rule, by table."""

from __future__ import annotations

import pytest

from daemon.core.delivery.answer import Outcome
from daemon.core.delivery.status import End, Standing, standing

DELIVERED, PENDING, FAILED = Standing.DELIVERED, Standing.PENDING, Standing.FAILED


@pytest.mark.parametrize(
    ("was_delivered", "end", "retry_after", "expected"),
    [
        # Nothing was recorded, or nothing final: it is still to be sent, wherever it waits.
        (False, None, None, PENDING),
        (False, None, 0, PENDING),
        (False, None, 3, PENDING),
        (False, End(outcome=Outcome.RETRYING, number=2), None, PENDING),
        # The last end says it.
        (False, End(outcome=Outcome.FAILED, number=3), None, FAILED),
        (False, End(outcome=Outcome.SUPPRESSED, number=0), None, Standing.SUPPRESSED),
        (False, End(outcome=Outcome.EXPIRED, number=0), None, Standing.EXPIRED),
        # Asked for again after its end; a row from before it is left over.
        (False, End(outcome=Outcome.FAILED, number=3), 3, PENDING),
        (False, End(outcome=Outcome.FAILED, number=3), 4, PENDING),
        (False, End(outcome=Outcome.FAILED, number=3), 2, FAILED),
        # Delivered once is delivered, whatever came after.
        (True, End(outcome=Outcome.DELIVERED, number=1), None, DELIVERED),
        (True, End(outcome=Outcome.DELIVERED, number=1), 1, DELIVERED),
        (True, End(outcome=Outcome.FAILED, number=2), None, DELIVERED),
        (True, End(outcome=Outcome.SUPPRESSED, number=0), None, DELIVERED),
    ],
)
def test_a_delivery_stands_as_the_table_says(
    was_delivered: bool, end: End | None, retry_after: int | None, expected: Standing
) -> None:
    assert standing(was_delivered=was_delivered, end=end, retry_after=retry_after) is expected
