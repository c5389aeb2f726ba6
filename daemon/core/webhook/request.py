"""The request of a webhook: its body, and the headers around it.

Pure: the same event, route, keys and second give the same bytes. So a request that went out can be built again for
whoever asks what was sent, and one that will go out can be shown beforehand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from daemon.core.delivery.answer import delivery_id
from daemon.core.routing.route import PayloadOptions
from daemon.core.webhook import payload, signing
from daemon.core.webhook.payload import PayloadSource
from daemon.core.webhook.signing import SigningKey

TEST_HEADER = "Hookledger-Test"


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOptions:
    """What is the same for every webhook of an installation."""

    signing_header: str
    standard_webhooks: bool
    user_agent: str
    max_body_bytes: int


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """What goes out."""

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
    dialect: RequestOptions,
) -> WebhookRequest:
    """The request at that second, signed by these keys, the newest first; `custom` are the route's own headers.

    Raises payload.RenderError.
    """
    return dressed(
        body(source, options, is_test=is_test, max_bytes=dialect.max_body_bytes),
        route_id=route_id,
        event_id=source.event_id,
        custom=custom,
        keys=keys,
        timestamp=timestamp,
        is_test=is_test,
        dialect=dialect,
    )


def body(source: PayloadSource, options: PayloadOptions, *, is_test: bool, max_bytes: int) -> bytes:
    """The body alone. Raises payload.RenderError.

    A filter that fails does not stop a test, since it does not decide about one either.
    """
    if is_test and options.filter is not None:
        options = replace(options, filter=None)
    return payload.render(source, options, max_bytes=max_bytes)


def dressed(
    body: bytes,
    *,
    route_id: UUID,
    event_id: str,
    custom: Mapping[str, str],
    keys: Sequence[SigningKey],
    timestamp: int,
    is_test: bool,
    dialect: RequestOptions,
) -> WebhookRequest:
    """The request around a body."""
    headers = {
        **custom,
        "Content-Type": "application/json",
        "User-Agent": dialect.user_agent,
        dialect.signing_header: signing.ordergroove_signature(body, timestamp=timestamp, keys=keys),
    }
    if dialect.standard_webhooks:
        message_id = delivery_id(route_id, event_id)
        headers["webhook-id"] = message_id
        headers["webhook-timestamp"] = str(timestamp)
        headers["webhook-signature"] = signing.standard_signature(
            body, message_id=message_id, timestamp=timestamp, keys=keys
        )
    if is_test:
        headers[TEST_HEADER] = "true"
    return WebhookRequest(body, headers)
