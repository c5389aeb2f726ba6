"""One attempt, as one sentence: gate → render → sign → send → classify → record.

Everything here happens for each request the product makes, so nothing is awaited but the network, and nothing is
formatted that is not sent, stored or logged. Exactly one `except Exception` stands around it: one delivery's failure is
a failed delivery, never the end of the process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from random import random
from uuid import UUID

import structlog

from daemon.core.delivery import answer as core_delivery
from daemon.core.delivery import retry
from daemon.core.delivery.answer import Answer, ErrorName, Failure, Outcome, Response, Verdict, classify
from daemon.core.delivery.retry import RetryPolicy
from daemon.core.routing import windows
from daemon.core.routing.index import RouteIndex
from daemon.core.routing.route import Route
from daemon.core.webhook import payload, request
from daemon.core.webhook.request import RequestOptions, WebhookRequest
from daemon.core.webhook.signing import SigningKey
from daemon.keys import Keychain
from daemon.metrics import Metrics
from daemon.pipeline.recording.recorder import Recorder
from daemon.pipeline.scheduling.delivery import Delivery
from daemon.pipeline.sending.outcome import plain, row_of, succeeded
from daemon.pipeline.sending.send_gate import SendGate
from daemon.pipeline.sending.sender import Sender
from eventstore.postgres.errors import StoreUnavailable

log = structlog.get_logger()

# The keys to sign with, newest first, and the custom headers.
Secrets = tuple[tuple[SigningKey, ...], dict[str, str]]

_SECRETS_WAIT_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptSettings(RequestOptions):
    """What of the configuration an attempt needs."""

    timeout_seconds: float
    retry: RetryPolicy


class Attempt:
    """Call it with a delivery.

    `send_gate` says whether a request may start; `on_gone` hears of routes, as they were asked, whose receiver answered
    410.
    """

    def __init__(
        self,
        index: RouteIndex,
        keychain: Keychain,
        sender: Sender,
        recorder: Recorder,
        metrics: Metrics,
        settings: AttemptSettings,
        *,
        send_gate: SendGate,
        on_gone: Callable[[Route], None],
    ) -> None:
        self._index = index
        self._keychain = keychain
        self._sender = sender
        self._recorder = recorder
        self._metrics = metrics
        self._settings = settings
        self._send_gate = send_gate
        self._on_gone = on_gone

    async def __call__(self, delivery: Delivery) -> None:
        started_at, started = datetime.now(UTC), time.monotonic()
        try:
            route = self._route(delivery.route_id)
            secrets = self._secrets(route, started_at)
            if secrets is None or not self._send_gate.allows(delivery.shard):
                ready = await self._until_ready(delivery)
                if ready is None:
                    return
                route, secrets = ready
                started_at, started = datetime.now(UTC), time.monotonic()
            if delivery.is_withdrawn:
                return
            if not windows.is_sendable(route.windows, delivery.event_time):
                self._suppress(delivery, route, started_at)
                return
            outgoing = self._request(delivery, route, secrets, started_at)
            key_ids = ",".join(key.id for key in route.keys_at(started_at))
            self._observe_latency(delivery, started_at)
            delivery.started_at = delivery.sent_at = time.monotonic()
            answer = await self._sender.send(route.config.target_url, outgoing.headers, outgoing.body)
        except payload.RenderError as error:
            route, key_ids = self._route(delivery.route_id), ""
            answer = Failure(error=ErrorName.RENDER_ERROR, detail=plain(str(error)))
        except Exception:
            log.exception("delivery.crashed", route_id=str(delivery.route_id), event_id=delivery.event.id)
            route, key_ids = self._route(delivery.route_id), ""
            answer = Failure(error=ErrorName.INTERNAL_ERROR)
        self._record(delivery, route, answer, key_ids, started_at, time.monotonic() - started)

    def _route(self, route_id: UUID) -> Route:
        timeline = self._index.timeline(route_id)
        if timeline is None:
            raise LookupError(f"route {route_id} is not in the projection")
        return timeline.current

    def _secrets(self, route: Route, now: datetime) -> Secrets | None:
        """Keys and custom headers of a route; None if they must be fetched first."""
        keys, headers = self._keychain.keys_at_hand(route, now), self._keychain.headers_at_hand(route)
        return None if keys is None or headers is None else (keys, headers)

    async def _until_ready(self, delivery: Delivery) -> tuple[Route, Secrets] | None:
        """The route as it is when a request may start, and its secrets; None if this process will make none."""
        while not delivery.is_withdrawn and self._send_gate.knows(delivery.shard):
            if not self._send_gate.allows(delivery.shard):
                await self._send_gate.changed()
                continue
            route = self._route(delivery.route_id)
            secrets = self._secrets(route, datetime.now(UTC))
            if secrets is not None:
                return route, secrets
            await self._fetch_secrets(delivery.route_id)
        return None

    async def _fetch_secrets(self, route_id: UUID) -> tuple[Route, Secrets]:
        """Fetches keys or headers that were not used before, until those of the route as it is then are there.

        While PostgreSQL is away this waits, since nothing failed.
        """
        version = 0
        while True:
            route = self._route(route_id)
            secrets = self._secrets(route, datetime.now(UTC))
            if secrets is not None:
                return route, secrets
            if route.version == version:
                raise LookupError(f"a secret of route {route_id} is missing in the database")
            try:
                await self._keychain.load(route)
                version = route.version
            except StoreUnavailable:
                await asyncio.sleep(_SECRETS_WAIT_SECONDS)

    def _request(self, delivery: Delivery, route: Route, secrets: Secrets, now: datetime) -> WebhookRequest:
        event = delivery.event
        keys, custom = secrets
        source = payload.PayloadSource(
            event_id=event.id,
            event_type=event.type,
            created=delivery.event_time,
            data=event.data,
            context=event.context,
            snapshot=event.snapshot,
        )
        return request.build(
            source,
            route_id=route.id,
            options=route.config.payload,
            custom=custom,
            keys=keys,
            timestamp=int(now.timestamp()),
            is_test=delivery.is_test,
            dialect=self._settings,
        )

    def _suppress(self, delivery: Delivery, route: Route, now: datetime) -> None:
        row = row_of(delivery, route, Outcome.SUPPRESSED, None, "", now, 0.0, number=0)
        self._recorder.attempted(delivery, row)
        if not delivery.is_test:
            self._metrics.attempted(Outcome.SUPPRESSED.value, "none", 0.0)

    def _observe_latency(self, delivery: Delivery, now: datetime) -> None:
        if delivery.failures == 0 and not delivery.is_test:
            waited = (now - delivery.event.recorded_at).total_seconds()
            self._metrics.delivery_latency.observe(max(0.0, waited))

    def _record(
        self, delivery: Delivery, route: Route, answer: Answer, key_ids: str, started_at: datetime, seconds: float
    ) -> None:
        delivery.sent_at = 0.0
        outcome, wait = self._conclude(delivery, answer, started_at)
        row = row_of(delivery, route, outcome, answer, key_ids, started_at, seconds, number=delivery.failures + 1)
        delivery.succeeded = succeeded(answer)
        if outcome is not Outcome.DELIVERED:
            delivery.failures += 1
        if wait is not None and not windows.is_sendable(self._route(route.id).windows, delivery.event_time):
            wait = timedelta(0)  # its window closed while it was under way: have the gate say so now
        self._recorder.attempted(delivery, row, retry_after=wait)
        if not delivery.is_test:
            self._metrics.attempted(outcome.value, core_delivery.status_class(answer), seconds)
        if classify(answer) is Verdict.GONE and (delivery.is_parting or not delivery.is_withdrawn):
            self._on_gone(route)

    def _conclude(self, delivery: Delivery, answer: Answer, now: datetime) -> tuple[Outcome, timedelta | None]:
        """What the answer comes to, and after how long to try again, if at all."""
        match classify(answer):
            case Verdict.SUCCESS:
                return Outcome.DELIVERED, None
            case Verdict.GONE:
                return Outcome.FAILED, None
            case Verdict.FAILURE:
                asked = None
                if isinstance(answer, Response) and answer.status in (429, 503):
                    asked = retry.retry_after(answer.header("retry-after"), now=now)
                wait = retry.delay(
                    self._settings.retry,
                    failures=delivery.failures + 1,
                    roll=random(),  # noqa: S311 - spreads retries, hides nothing
                    asked=asked,
                )
                return (Outcome.FAILED, None) if wait is None else (Outcome.RETRYING, wait)


def is_still_gone(asked: Route, index: RouteIndex) -> bool:
    """True if a 410 for the route as it was `asked` still speaks of it: same target, and same window."""
    timeline = index.timeline(asked.id)
    if timeline is None:
        return False
    now = timeline.current
    return now.is_enabled and now.config.target_url == asked.config.target_url and now.windows == asked.windows
