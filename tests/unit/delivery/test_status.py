"""How a delivery stands: one rule, by table."""

from __future__ import annotations

import pytest

from daemon.core.delivery.answer import Outcome
from daemon.core.delivery.status import DeliveryStatus, FinalOutcome, status_of

DELIVERED, PENDING, FAILED = DeliveryStatus.DELIVERED, DeliveryStatus.PENDING, DeliveryStatus.FAILED


@pytest.mark.parametrize(
    ("was_delivered", "end", "retry_after", "expected"),
    [
        # Nothing was recorded, or nothing final: it is still to be sent, wherever it waits.
        (False, None, None, PENDING),
        (False, None, 0, PENDING),
        (False, None, 3, PENDING),
        (False, FinalOutcome(outcome=Outcome.RETRYING, number=2), None, PENDING),
        # The last end says it.
        (False, FinalOutcome(outcome=Outcome.FAILED, number=3), None, FAILED),
        (False, FinalOutcome(outcome=Outcome.SUPPRESSED, number=0), None, DeliveryStatus.SUPPRESSED),
        (False, FinalOutcome(outcome=Outcome.EXPIRED, number=0), None, DeliveryStatus.EXPIRED),
        # Asked for again after its end; a row from before it is left over.
        (False, FinalOutcome(outcome=Outcome.FAILED, number=3), 3, PENDING),
        (False, FinalOutcome(outcome=Outcome.FAILED, number=3), 4, PENDING),
        (False, FinalOutcome(outcome=Outcome.FAILED, number=3), 2, FAILED),
        # Delivered once is delivered, whatever came after.
        (True, FinalOutcome(outcome=Outcome.DELIVERED, number=1), None, DELIVERED),
        (True, FinalOutcome(outcome=Outcome.DELIVERED, number=1), 1, DELIVERED),
        (True, FinalOutcome(outcome=Outcome.FAILED, number=2), None, DELIVERED),
        (True, FinalOutcome(outcome=Outcome.SUPPRESSED, number=0), None, DELIVERED),
    ],
)
def test_a_delivery_stands_as_the_table_says(
    was_delivered: bool, end: FinalOutcome | None, retry_after: int | None, expected: DeliveryStatus
) -> None:
    assert status_of(was_delivered=was_delivered, end=end, retry_after=retry_after) is expected
