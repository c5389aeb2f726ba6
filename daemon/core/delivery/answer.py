"""The answer to a request, its meaning and the names of failures; and how the id of a delivery is computed.

Pure. The sender returns a `Response` if the receiver answered in HTTP, else a `Failure`. `classify` turns either into a
`Verdict`. From the verdict and the retry schedule, daemon.pipeline.sending.attempt derives the `Outcome` to record.

A merchant sees no other errors than these names. Texts of the operating system and IP addresses are never shown: they
would let a merchant explore the operator's network.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from functools import lru_cache
from uuid import UUID

from daemon.core.delivery.tls_fault import TLS_FAULTS

# A hex digit → the digit with the two bits of RFC 9562 before its own last two.
_VARIANT = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}


class ErrorName(StrEnum):
    """Why a request got no usable answer. These names are recorded and shown to merchants."""

    DNS_ERROR = "dns_error"
    CONNECT_REFUSED = "connect_refused"
    CONNECT_TIMEOUT = "connect_timeout"
    CONNECTION_RESET = "connection_reset"
    TLS_ERROR = "tls_error"
    TIMEOUT = "timeout"
    EGRESS_DENIED = "egress_denied"
    PROXY_ERROR = "proxy_error"
    PROTOCOL_ERROR = "protocol_error"
    RESPONSE_TOO_LARGE = "response_too_large"
    RENDER_ERROR = "render_error"
    INTERNAL_ERROR = "internal_error"


@dataclass(slots=True)
class Response:
    """The receiver's answer. The sender cuts off a long `body`; `headers` are decoded as latin-1.

    Neither frozen nor keyword-only: one is made for every request, and would cost three times as much to make, or two.
    """

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """The first value of the header `name`, which is given in lower case, or None."""
        return next((value for key, value in self.headers if key.lower() == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """No answer, or none in HTTP. `detail` is shown to the merchant: only RENDER_ERROR may have one of its own.

    TLS_ERROR may have that of a `TlsFault`.
    """

    error: ErrorName
    detail: str = ""

    def __post_init__(self) -> None:
        is_told = self.error is ErrorName.TLS_ERROR and self.detail in TLS_FAULTS
        if self.detail and not is_told and self.error is not ErrorName.RENDER_ERROR:
            raise ValueError(f"{self.error} takes no detail: its cause is not for merchants")


Answer = Response | Failure


class Verdict(StrEnum):
    """What an answer means for the delivery."""

    SUCCESS = "success"
    FAILURE = "failure"
    GONE = "gone"


class Outcome(StrEnum):
    """The recorded outcome of an attempt. All but RETRYING are final."""

    DELIVERED = "delivered"
    RETRYING = "retrying"
    FAILED = "failed"
    SUPPRESSED = "suppressed"
    EXPIRED = "expired"


def classify(answer: Answer) -> Verdict:
    """2xx is a success, 410 means that the receiver is gone for good, and all else is a failure, redirects included."""
    if isinstance(answer, Response):
        if 200 <= answer.status < 300:
            return Verdict.SUCCESS
        if answer.status == 410:
            return Verdict.GONE
    return Verdict.FAILURE


def status_class(status: int | None) -> str:
    """The metric label of a status: `1xx` to `5xx`, `other` for any other one, `none` without a response."""
    if status is None:
        return "none"
    return f"{status // 100}xx" if 100 <= status < 600 else "other"


def error_name(answer: Answer) -> str | None:
    """The recorded error: an `ErrorName` with its detail after `: `, or `http_<status>`; None for a success."""
    if isinstance(answer, Failure):
        return f"{answer.error.value}: {answer.detail}" if answer.detail else answer.error.value
    return None if classify(answer) is Verdict.SUCCESS else f"http_{answer.status}"


def delivery_id(route_id: UUID, event_id: str, event_time: datetime) -> str:
    """UUIDv5 of route id, event id and the UTC day of the event, which never changes, so that receivers can recognise a
    repeat (RFC 9562, 5.5).

    The day, because an event id may be used again after 24 hours: then it is another event, which a receiver must not
    take for a repeat. It is part of what happened and no position of the log: an event that is published again after a
    failover has the same id, unless it claims no time and midnight has passed in between.

    The same value as `uuid.uuid5` of the route id and the other two on a line each, at less than half its cost: this
    runs once per delivery.
    """
    at = event_time if event_time.tzinfo is UTC else event_time.astimezone(UTC)  # which takes a microsecond
    name = f"{event_id}\n{_written_day(at.date())}"  # no event id has a line end
    text = hashlib.sha1(route_id.bytes + name.encode(), usedforsecurity=False).hexdigest()
    return f"{text[:8]}-{text[8:12]}-5{text[13:16]}-{_VARIANT[text[16]]}{text[17:20]}-{text[20:32]}"


@lru_cache(64)
def _written_day(day: date) -> str:
    return day.isoformat()


def delivery_key(delivery_id: str) -> int:
    """The first four bytes of a delivery id as a signed integer, the index of the outcome log. Not unique."""
    first = int(delivery_id[:8], 16)
    return first if first < 1 << 31 else first - (1 << 32)
