"""The status of a delivery, from its recorded outcomes and its pending retry: one rule for lists and details."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from daemon.core.delivery.answer import Outcome


class DeliveryStatus(StrEnum):
    """PENDING, or the final outcome. The values are those of the API."""

    DELIVERED = "delivered"
    PENDING = "pending"
    FAILED = "failed"
    SUPPRESSED = "suppressed"
    EXPIRED = "expired"


class ListStatus(StrEnum):
    """What a list may be of: deliveries of a status, or RETRYING, those pending ones that failed at least once."""

    DELIVERED = DeliveryStatus.DELIVERED.value
    PENDING = DeliveryStatus.PENDING.value
    RETRYING = "retrying"
    FAILED = DeliveryStatus.FAILED.value
    SUPPRESSED = DeliveryStatus.SUPPRESSED.value
    EXPIRED = DeliveryStatus.EXPIRED.value

    def fits(self, status: DeliveryStatus, *, requests: int) -> bool:
        """True for a delivery of that status, for which so many requests were made."""
        if self is ListStatus.RETRYING:
            return status is DeliveryStatus.PENDING and requests > 0
        return self.value == status.value


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalOutcome:
    """The last outcome of a delivery that no retry was to follow; `number` counts the requests made by then."""

    outcome: Outcome
    number: int


def status_of(*, was_delivered: bool, end: FinalOutcome | None, retry_after: int | None) -> DeliveryStatus:
    """The status of a delivery.

    `end` is the last final outcome, if any. `retry_after` is the number of requests after which the row in `retry` was
    written, None if there is no row.

    A delivery that was delivered once stays delivered, whatever a manual retry does afterwards. A retry row written
    after the end is a manual retry; an older row is a remnant, such as from a crash.
    """
    if was_delivered:
        return DeliveryStatus.DELIVERED
    if end is None or end.outcome is Outcome.RETRYING:
        return DeliveryStatus.PENDING
    if retry_after is not None and retry_after >= end.number:
        return DeliveryStatus.PENDING
    return DeliveryStatus(end.outcome.value)
