"""How a delivery stands, by what was recorded of it and what waits: one rule for lists, details and explanations."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from daemon.core.delivery.answer import Outcome


class DeliveryStatus(StrEnum):
    """What became of a delivery, or that it is still to be sent."""

    DELIVERED = "delivered"
    PENDING = "pending"
    FAILED = "failed"
    SUPPRESSED = "suppressed"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalOutcome:
    """A recorded outcome after which nothing was to follow, and the number of requests by then."""

    outcome: Outcome
    number: int


def status_of(*, was_delivered: bool, end: FinalOutcome | None, retry_after: int | None) -> DeliveryStatus:
    """How a delivery stands, by the last end if there is one, and by how many requests a row in `retry` follows.

    `retry_after` is None if there is no row.

    Delivered once is delivered for good: what is sent again by hand then changes nothing. A row behind an end was put
    there by hand as well; one before it is left over, as from a crash.
    """
    if was_delivered:
        return DeliveryStatus.DELIVERED
    if end is None or end.outcome is Outcome.RETRYING:
        return DeliveryStatus.PENDING
    if retry_after is not None and retry_after >= end.number:
        return DeliveryStatus.PENDING
    return DeliveryStatus(end.outcome.value)
