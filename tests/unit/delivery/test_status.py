"""The status of a delivery, as a table."""

from __future__ import annotations

import pytest

from daemon.core.delivery.answer import Outcome
from daemon.core.delivery.status import DeliveryStatus, FinalOutcome, status_of

DELIVERED, PENDING, FAILED = DeliveryStatus.DELIVERED, DeliveryStatus.PENDING, DeliveryStatus.FAILED


@pytest.mark.parametrize(
    ("was_delivered", "end", "retry_after", "expected"),
    [
        # No final outcome: it is still to be sent, wherever it waits.
        (False, None, None, PENDING),
        (False, None, 0, PENDING),
        (False, None, 3, PENDING),
        (False, FinalOutcome(outcome=Outcome.RETRYING, number=2), None, PENDING),
        # The last final outcome decides.
        (False, FinalOutcome(outcome=Outcome.FAILED, number=3), None, FAILED),
        (False, FinalOutcome(outcome=Outcome.SUPPRESSED, number=0), None, DeliveryStatus.SUPPRESSED),
        (False, FinalOutcome(outcome=Outcome.EXPIRED, number=0), None, DeliveryStatus.EXPIRED),
        # A retry row from after the end is a manual retry; an older one is a remnant.
        (False, FinalOutcome(outcome=Outcome.FAILED, number=3), 3, PENDING),
        (False, FinalOutcome(outcome=Outcome.FAILED, number=3), 4, PENDING),
        (False, FinalOutcome(outcome=Outcome.FAILED, number=3), 2, FAILED),
        # Delivered once stays delivered.
        (True, FinalOutcome(outcome=Outcome.DELIVERED, number=1), None, DELIVERED),
        (True, FinalOutcome(outcome=Outcome.DELIVERED, number=1), 1, DELIVERED),
        (True, FinalOutcome(outcome=Outcome.FAILED, number=2), None, DELIVERED),
        (True, FinalOutcome(outcome=Outcome.SUPPRESSED, number=0), None, DELIVERED),
    ],
)
def test_a_delivery_has_the_status_of_the_table(
    was_delivered: bool, end: FinalOutcome | None, retry_after: int | None, expected: DeliveryStatus
) -> None:
    assert status_of(was_delivered=was_delivered, end=end, retry_after=retry_after) is expected
