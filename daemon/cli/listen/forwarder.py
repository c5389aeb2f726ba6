"""Posts events to a program on this machine, as webhooks would be posted: the same body, headers, signatures, sender.

Nothing of it is recorded anywhere. Only the egress policy differs from a daemon's: a developer may send to their own
machine and network.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Network, IPv6Network
from typing import Final
from uuid import UUID

from daemon.cli.listen.remote import FeedEvent
from daemon.core.delivery.answer import Answer, ErrorName, Failure, Verdict, classify, delivery_id
from daemon.core.routing.route import PayloadOptions
from daemon.core.texts import on_one_line
from daemon.core.webhook import request
from daemon.core.webhook.egress import EgressPolicy
from daemon.core.webhook.payload import EventFilters, RenderError
from daemon.core.webhook.request import RequestForm, RequestOptions
from daemon.core.webhook.signing import SigningKey
from daemon.pipeline.http_client.egress_guard import Unsent
from daemon.pipeline.http_client.sender import Sender

OWN_NETWORK: Final = EgressPolicy(
    allow_http=True,
    ports=None,
    allow_nets=(*EgressPolicy.dev().allow_nets, IPv4Network("0.0.0.0/0"), IPv6Network("::/0")),
)

RETRY_FIRST_SECONDS = 1.0
RETRY_MOST_SECONDS = 30.0
_SHORTAGE_SECONDS = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardTo:
    """Where events go, and how. `route_id` is an existing route's, or one of this session alone."""

    url: str
    route_id: UUID
    payload: PayloadOptions
    is_existing: bool
    retries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarded:
    """One request that was made. `will_retry` if another one follows."""

    at: datetime
    event_id: str
    event_type: str
    answer: Answer
    seconds: float
    will_retry: bool


class Forwarder:
    """Call it with an event. `on_answer` gets every request."""

    def __init__(
        self,
        to: ForwardTo,
        sender: Sender,
        *,
        key: SigningKey,
        options: RequestOptions,
        on_answer: Callable[[Forwarded], None],
    ) -> None:
        self._to = to
        self._sender = sender
        self._options = options
        self._form = RequestForm(custom={}, keys=[key], request_options=options)
        self._on_answer = on_answer

    async def __call__(self, event: FeedEvent) -> None:
        if not self._is_for_us(event):
            return
        pause_seconds = RETRY_FIRST_SECONDS
        for left in range(self._to.retries, -1, -1):
            at, began_at = datetime.now(UTC), time.monotonic()
            answer = await self._send(event, at)
            will_retry = bool(left) and classify(answer) is not Verdict.SUCCESS
            self._on_answer(
                Forwarded(
                    at=at,
                    event_id=event.payload_event.event_id,
                    event_type=event.payload_event.event_type,
                    answer=answer,
                    seconds=time.monotonic() - began_at,
                    will_retry=will_retry,
                )
            )
            if not will_retry:
                return
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, RETRY_MOST_SECONDS)

    def _is_for_us(self, event: FeedEvent) -> bool:
        """Whether a webhook would get it. A test event is for its route alone, and no filter is asked."""
        if event.backfill:
            return False
        if event.test_route is not None:
            return self._to.is_existing and event.test_route == self._to.route_id
        test = self._to.payload.filter
        return test is None or EventFilters(event.payload_event).passes(test)

    async def _send(self, event: FeedEvent, at: datetime) -> Answer:
        is_test = event.test_route is not None
        try:
            body = request.body(
                event.payload_event, self._to.payload, is_test=is_test, max_bytes=self._options.max_body_bytes
            )
        except RenderError as error:
            return Failure(error=ErrorName.RENDER_ERROR, detail=on_one_line(str(error)))
        lines = self._form.lines(
            body,
            hops=event.payload_event.hops,
            message_id=delivery_id(self._to.route_id, event.payload_event.event_id, event.payload_event.created),
            timestamp=int(at.timestamp()),
            is_test=is_test,
        )
        while True:
            answer = await self._sender.send(self._to.url, lines, body)
            if not isinstance(answer, Unsent):
                return answer
            await asyncio.sleep(_SHORTAGE_SECONDS)
