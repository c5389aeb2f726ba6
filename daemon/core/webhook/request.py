"""The request of a webhook: its body, and the headers around it.

Pure: the same event, route, keys and second give the same bytes. So a request that was sent can be rebuilt later, and
a preview can show a request before it is sent.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from daemon.core.delivery.answer import delivery_id
from daemon.core.routing.route import PayloadOptions
from daemon.core.webhook import payload, signing
from daemon.core.webhook.expression import StepAllowance
from daemon.core.webhook.payload import PayloadEvent
from daemon.core.webhook.signing import SigningKey

TEST_HEADER = "Hookledger-Test"

_LINE_END = "\r\n"
_BREAKS = re.compile(r"[\r\n\0]")

# How many deliveries in a row led to this request. A receiver that publishes here what it gets makes a circle: events
# that came by more than MAX_HOPS are refused (daemon.web.ingest.publish). Routes cannot set a header of this name.
HOPS_HEADER = "Hookledger-Hops"
MAX_HOPS = 3


class UnsendableHeader(ValueError):
    """A header would end its line early: the rest of it would be another one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOptions:
    """The settings that all webhooks of an installation share.

    `trace_ratio` is the ratio in which deliveries are traced, if receivers are told of traces; None if they are not.
    """

    signing_header: str
    standard_webhooks: bool
    user_agent: str
    max_body_bytes: int
    trace_ratio: float | None = None


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """The body and the headers as they are sent."""

    body: bytes
    headers: dict[str, str]


def build(
    event: PayloadEvent,
    *,
    route_id: UUID,
    options: PayloadOptions,
    custom: Mapping[str, str],
    keys: Sequence[SigningKey],
    timestamp: int,
    is_test: bool,
    request_options: RequestOptions,
) -> WebhookRequest:
    """The request as sent at `timestamp` (Unix seconds), signed with `keys`, the newest key first.

    `custom` are the route's own headers. Raises payload.RenderError.
    """
    return with_headers(
        body(event, options, is_test=is_test, max_bytes=request_options.max_body_bytes),
        hops=event.hops,
        message_id=delivery_id(route_id, event.event_id, event.created),
        custom=custom,
        keys=keys,
        timestamp=timestamp,
        is_test=is_test,
        request_options=request_options,
    )


def body(
    event: PayloadEvent,
    options: PayloadOptions,
    *,
    is_test: bool,
    max_bytes: int,
    allowance: StepAllowance | None = None,
) -> bytes:
    """The body alone. Raises payload.RenderError, and TooHeavy beyond an allowance."""
    return payload.render(event, options_of(options, is_test=is_test), max_bytes=max_bytes, allowance=allowance)


def options_of(options: PayloadOptions, *, is_test: bool) -> PayloadOptions:
    """The options that a body is rendered with.

    A filter does not decide about a test event, so a filter that fails does not stop one.
    """
    return replace(options, filter=None) if is_test and options.filter is not None else options


def with_headers(
    body: bytes,
    *,
    hops: int,
    message_id: str,
    custom: Mapping[str, str],
    keys: Sequence[SigningKey],
    timestamp: int,
    is_test: bool,
    request_options: RequestOptions,
) -> WebhookRequest:
    """The request with this body of an event, its headers taken from the lines that are sent."""
    form = RequestForm(custom=custom, keys=keys, request_options=request_options)
    lines = form.lines(body, hops=hops, message_id=message_id, timestamp=timestamp, is_test=is_test)
    return WebhookRequest(body, dict(line.split(": ", 1) for line in lines.split(_LINE_END) if line))


class RequestForm:
    """What the requests of a route have in common for as long as its custom headers and valid keys stay.

    It is made once, and `lines` fills in what differs. That takes a quarter less time than to put a dict of headers
    together and to join it for each request; most of what is left are the two signatures.

    A request without Accept looks like an attack to rule sets of web application firewalls. A route may set its own.
    """

    __slots__ = ("_common", "_has_standard", "_keys", "_signing_header")

    def __init__(
        self, *, custom: Mapping[str, str], keys: Sequence[SigningKey], request_options: RequestOptions
    ) -> None:
        """Raises UnsendableHeader."""
        common = {
            **custom,
            **({} if "accept" in map(str.lower, custom) else {"Accept": "*/*"}),
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
            "User-Agent": request_options.user_agent,
        }
        self._common = header_lines(common)
        self._keys = tuple(keys)
        self._signing_header = request_options.signing_header
        self._has_standard = request_options.standard_webhooks and any(key.standard is not None for key in keys)

    def lines(self, body: bytes, *, hops: int, message_id: str, timestamp: int, is_test: bool) -> str:
        """The lines of all headers but Host and Content-Length: the custom ones, then ours, signed over `body`.

        `hops` is how many deliveries of ours in a row led to the event, `message_id` the id of the delivery.
        """
        lines = (
            f"{self._common}{HOPS_HEADER}: {hops + 1}\r\n"
            f"{self._signing_header}: {signing.ordergroove_signature(body, timestamp=timestamp, keys=self._keys)}\r\n"
        )
        if self._has_standard:
            signature = signing.standard_signature(body, message_id=message_id, timestamp=timestamp, keys=self._keys)
            lines += f"webhook-id: {message_id}\r\nwebhook-timestamp: {timestamp}\r\nwebhook-signature: {signature}\r\n"
        return f"{lines}{TEST_HEADER}: true\r\n" if is_test else lines


def header_lines(headers: Mapping[str, str]) -> str:
    """One line for each header. Raises UnsendableHeader."""
    if any(_BREAKS.search(text) for header in headers.items() for text in header):
        raise UnsendableHeader("a header contains the end of a line")
    return "".join([f"{name}: {value}{_LINE_END}" for name, value in headers.items()])
