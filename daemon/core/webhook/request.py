"""The request of a webhook: its body, and the headers around it.

Pure: the same event, route, keys and second give the same bytes. So a request that was sent can be rebuilt later, and
a preview can show a request before it is sent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from daemon.core.delivery.answer import delivery_id
from daemon.core.routing.route import PayloadOptions
from daemon.core.webhook import payload, signing
from daemon.core.webhook.expression import StepAllowance
from daemon.core.webhook.payload import PayloadSource
from daemon.core.webhook.signing import SigningKey

TEST_HEADER = "Hookledger-Test"

# How many deliveries in a row led to this request. A receiver that publishes here what it gets makes a circle: events
# that came by more than MAX_HOPS are refused (daemon.web.ingest.publish). Routes cannot set a header of this name.
HOPS_HEADER = "Hookledger-Hops"
MAX_HOPS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOptions:
    """The settings that all webhooks of an installation share."""

    signing_header: str
    standard_webhooks: bool
    user_agent: str
    max_body_bytes: int


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """The body and the headers as they are sent."""

    body: bytes
    headers: dict[str, str]


def build(
    source: PayloadSource,
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
        body(source, options, is_test=is_test, max_bytes=request_options.max_body_bytes),
        hops=source.hops,
        message_id=delivery_id(route_id, source.event_id, source.created),
        custom=custom,
        keys=keys,
        timestamp=timestamp,
        is_test=is_test,
        request_options=request_options,
    )


def body(
    source: PayloadSource,
    options: PayloadOptions,
    *,
    is_test: bool,
    max_bytes: int,
    allowance: StepAllowance | None = None,
) -> bytes:
    """The body alone. Raises payload.RenderError, and TooHeavy beyond an allowance."""
    return payload.render(source, options_of(options, is_test=is_test), max_bytes=max_bytes, allowance=allowance)


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
    """The request with this body of an event: the custom headers, then ours, signed over `body`.

    `hops` is how many deliveries of ours in a row led to the event, `message_id` the id of the delivery.

    A request without Accept looks like an attack to rule sets of web application firewalls. A route may set its own.
    """
    headers = {
        **custom,
        **({} if "accept" in map(str.lower, custom) else {"Accept": "*/*"}),
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
        "User-Agent": request_options.user_agent,
        HOPS_HEADER: str(hops + 1),
        request_options.signing_header: signing.ordergroove_signature(body, timestamp=timestamp, keys=keys),
    }
    if request_options.standard_webhooks and any(key.standard is not None for key in keys):
        headers["webhook-id"] = message_id
        headers["webhook-timestamp"] = str(timestamp)
        headers["webhook-signature"] = signing.standard_signature(
            body, message_id=message_id, timestamp=timestamp, keys=keys
        )
    if is_test:
        headers[TEST_HEADER] = "true"
    return WebhookRequest(body, headers)
