"""One attempt, as one sentence: gate → render → sign → send → classify → record.

This code runs for every request of the product. So it awaits only the network, and it formats only what is sent, stored
or logged.

A mistake of ours in one delivery never ends the process. One `except Exception` encloses the whole attempt, its record
too: what failed is recorded as `internal_error`. If that fails as well, nothing is recorded and the delivery is tried
again. So whatever happens it leaves memory, and its next step is a row. A request that could not be made for want of
something of ours is no attempt: it is tried again from the gate on, and nothing is recorded. Nor is one that was not to
be sent any more when the connection for it was there, which may take seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from random import random
from typing import NamedTuple
from uuid import UUID

import structlog

from daemon.core.delivery import retry
from daemon.core.delivery.answer import Answer, ErrorName, Failure, Outcome, Response, Verdict, classify
from daemon.core.delivery.retry import RetryPolicy
from daemon.core.delivery.states.phases import DeliveryStep
from daemon.core.events import trace_context
from daemon.core.routing import windows
from daemon.core.routing.index import RouteIndex
from daemon.core.routing.route import PayloadOptions, Route
from daemon.core.webhook import payload, request
from daemon.core.webhook.expression import OverBudget, TooHeavy
from daemon.core.webhook.payload import FilterResult, PayloadEvent, RenderError
from daemon.core.webhook.request import RequestOptions, UnsendableHeader
from daemon.credentials.keys import Keychain
from daemon.expressions.evaluator import Evaluator
from daemon.expressions.stored_events import payload_event
from daemon.pipeline.http_client.egress_guard import Unsent, Withheld
from daemon.pipeline.http_client.sender import Sender
from daemon.pipeline.loops import Patience
from daemon.pipeline.recording.recorder import Recorder
from daemon.pipeline.scheduling.delivery import Delivery
from daemon.pipeline.sending.outcome import plain, row_of, succeeded
from daemon.pipeline.sending.request_forms import RequestForms, RouteForm
from daemon.pipeline.sending.send_gate import SendGate
from daemon.pipeline.tunables import DEFAULTS, Tunables
from daemon.telemetry.metrics import Metrics
from eventstore.progress.rows import AttemptRow

log = structlog.get_logger()

_SECRETS_WAIT_SECONDS = 0.5
_SEND = DeliveryStep.SEND

# Before a request that could not be made is tried again; the last one repeats. Others give files back all the time.
SHORTAGE_PAUSES_SECONDS = (0.05, 0.1, 0.25, 0.5, 1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptSettings(RequestOptions):
    """The part of the configuration that attempts use."""

    timeout_seconds: float
    retry: RetryPolicy


class _Rendered(NamedTuple):
    """A body, and the options that it was rendered with."""

    options: PayloadOptions
    body: bytes


# A request: what it was made with, its header lines and its body, and when it was made.
_Prepared = tuple[RouteForm, str, bytes, datetime]


class Attempt:
    """Makes one attempt: call it with a delivery.

    `send_gate` says whether a request may start. `on_gone` is called when a receiver answers 410, with the route as it
    was when the request was built. `on_heavy` is called with a delivery whose body takes long to render.
    """

    def __init__(  # noqa: PLR0913 - what an attempt needs, and what it is told to
        self,
        index: RouteIndex,
        keychain: Keychain,
        sender: Sender,
        recorder: Recorder,
        metrics: Metrics,
        settings: AttemptSettings,
        *,
        evaluator: Evaluator,
        send_gate: SendGate,
        on_gone: Callable[[Route], None],
        on_heavy: Callable[[Delivery], None],
        on_attempted: Callable[[Delivery, AttemptRow, float], None] | None = None,
        tunables: Tunables = DEFAULTS,
    ) -> None:
        self._index = index
        self._keychain = keychain
        self._patience = Patience("secrets", pause_seconds=_SECRETS_WAIT_SECONDS)
        self._forms = RequestForms(keychain, settings)
        self._sender = sender
        self._recorder = recorder
        self._metrics = metrics
        self._settings = settings
        self._evaluator = evaluator
        self._tunables = tunables
        self._send_gate = send_gate
        self._on_gone = on_gone
        self._on_heavy = on_heavy
        self._on_attempted = on_attempted
        self._lines = self._signed_lines if settings.trace_ratio is None else self._traced_lines

    async def __call__(self, delivery: Delivery) -> None:
        """Makes the attempt, if it is still to be made. While a shortage of ours prevents it, it tries again."""
        shortages = 0
        while True:
            started_at, started, failures = datetime.now(UTC), time.monotonic(), delivery.failures
            try:
                prepared = self._at_once(delivery, started_at) or await self._prepare(delivery, started_at, started)
                if prepared is None:
                    return
                form, lines, body, at = prepared
                if at is not started_at:
                    started_at, started = at, time.monotonic()
                delivery.advance(_SEND)
                delivery.started_at = delivery.sent_at = time.monotonic()
                may_send = partial(self._holds_still, delivery, form)
                answer = await self._sender.send(form.route.config.target_url, lines, body, may_send=may_send)
                if not isinstance(answer, Unsent):
                    self._answered(delivery, form, answer, started_at, time.monotonic() - started)
                    return
                delivery.advance(DeliveryStep.POSTPONE)
                delivery.sent_at = 0.0
                if isinstance(answer, Withheld):
                    continue
            except Exception:
                log.exception("delivery.crashed", route_id=str(delivery.route_id), event_id=delivery.event.id)
                delivery.failures = failures
                if not delivery.is_ended:
                    self._record_crash(delivery, started_at, time.monotonic() - started)
                return
            await asyncio.sleep(SHORTAGE_PAUSES_SECONDS[min(shortages, len(SHORTAGE_PAUSES_SECONDS) - 1)])
            shortages += 1

    def _holds_still(self, delivery: Delivery, form: RouteForm) -> bool:
        """True if a request may go out as it was made: its connection may have taken long, and the route have changed.

        What was handed over is its former owner's to finish, as far as that knows the route.
        """
        if not delivery.is_handed_over and (delivery.is_withdrawn or not self._send_gate.allows(delivery.shard)):
            return False
        return self._forms.known(self._route(delivery.route_id), datetime.now(UTC)) is form

    def _at_once(self, delivery: Delivery, now: datetime) -> _Prepared | None:
        """The request, if nothing is to be waited for and the event goes out as it was published, as nearly all do."""
        form = self._forms.known(self._route(delivery.route_id), now)
        if (
            form is not None
            and form.is_plain
            and self._send_gate.allows(delivery.shard)
            and not delivery.is_withdrawn
            and windows.is_sendable(form.route.windows, delivery.event_time)
        ):
            return self._plain(delivery, form, now)
        return None

    def _plain(self, delivery: Delivery, form: RouteForm, now: datetime) -> _Prepared:
        event = delivery.event
        body = payload.enclosed(event.id, event.type, delivery.event_time, event.data, event.context)
        return form, self._lines(delivery, form, body, now), body, now

    async def _prepare(self, delivery: Delivery, now: datetime, started: float) -> _Prepared | None:
        """The request to send now; None if there is none to send, and that is all there was to do."""
        try:
            return await self._request(delivery, now)
        except RenderError as error:
            if error.is_over_budget:
                self._metrics.render_over_budget.inc()
            failure = Failure(error=ErrorName.RENDER_ERROR, detail=plain(str(error)))
        except UnsendableHeader:
            failure = Failure(error=ErrorName.PROTOCOL_ERROR)
        self._record(delivery, self._route(delivery.route_id), failure, "", now, time.monotonic() - started)
        return None

    def _answered(
        self, delivery: Delivery, form: RouteForm, answer: Answer, started_at: datetime, seconds: float
    ) -> None:
        if delivery.failures == 0 and not delivery.is_test:
            self._metrics.delivered_after(started_at - delivery.event.recorded_at)
        self._record(delivery, form.route, answer, form.key_ids, started_at, seconds)

    def _record_crash(self, delivery: Delivery, started_at: datetime, seconds: float) -> None:
        """Records a delivery that failed by a mistake of ours. If it cannot be recorded, it is tried again."""
        failures, crash = delivery.failures, Failure(error=ErrorName.INTERNAL_ERROR)
        try:
            self._record(delivery, self._route(delivery.route_id), crash, "", started_at, seconds)
        except Exception:
            log.exception("delivery.unrecorded", route_id=str(delivery.route_id), event_id=delivery.event.id)
            delivery.failures = failures + 1
            if not delivery.is_ended:
                self._recorder.try_again(delivery, self._delay(delivery.failures) or self._settings.retry.cap)

    async def _request(self, delivery: Delivery, now: datetime) -> _Prepared | None:
        """The request to send now; None if there is none to send, and that is all there was to do.

        Returns only after a look at lease, projection and window that no wait has made old. Raises RenderError or
        UnsendableHeader.
        """
        rendered: _Rendered | None = None
        while True:
            form = self._forms.of(self._route(delivery.route_id), now)
            if form is None or not self._send_gate.allows(delivery.shard):
                form = await self._until_ready(delivery)
                if form is None:
                    return None
                now = datetime.now(UTC)
            route = form.route
            if delivery.is_withdrawn:
                return None
            if not windows.is_sendable(route.windows, delivery.event_time):
                self._suppress(delivery, route, now)
                return None
            if form.is_plain:
                return self._plain(delivery, form, now)
            event = payload_event(delivery.event, event_time=delivery.event_time)
            if rendered is None or rendered.options != route.config.payload:
                rendered = self._render_here(delivery, event, route)
            if rendered is not None:
                return form, self._lines(delivery, form, rendered.body, now), rendered.body, now
            self._on_heavy(delivery)
            rendered = await self._render_elsewhere(delivery, event, route)
            now = datetime.now(UTC)

    def _route(self, route_id: UUID) -> Route:
        timeline = self._index.timeline(route_id)
        if timeline is None:
            raise LookupError(f"route {route_id} is not in the projection")
        return timeline.current

    async def _until_ready(self, delivery: Delivery) -> RouteForm | None:
        """Waits until a request may start. Returns the form of the route; None if this process must not send."""
        while not delivery.is_withdrawn and self._send_gate.knows(delivery.shard):
            if not self._send_gate.allows(delivery.shard):
                await self._send_gate.changed()
                continue
            form = self._forms.of(self._route(delivery.route_id), datetime.now(UTC))
            if form is not None:
                return form
            await self._fetch_secrets(delivery.route_id)
        return None

    async def _fetch_secrets(self, route_id: UUID) -> None:
        """Fetches the secrets of the route's current version. They are cached afterwards.

        While PostgreSQL is down this waits: the receiver has not failed. Raises LookupError if a secret is missing.
        """
        version: int | None = 0
        while version is not None:
            version = await self._patience.until_answered(partial(self._load_secrets, route_id, loaded=version))

    async def _load_secrets(self, route_id: UUID, *, loaded: int) -> int | None:
        """The version of the route of which they were fetched, None if they are there. `loaded` is that of the last
        time.
        """
        route = self._route(route_id)
        if self._forms.of(route, datetime.now(UTC)) is not None:
            return None
        if route.version == loaded:
            raise LookupError(f"a secret of route {route_id} is missing in the database")
        await self._keychain.load(route)
        return route.version

    def _render_here(self, delivery: Delivery, event: PayloadEvent, route: Route) -> _Rendered | None:
        """The body, None if it is too heavy for the event loop. Raises RenderError."""
        options = route.config.payload
        try:
            body = request.body(
                event,
                _unasked(options, delivery),
                is_test=delivery.is_test,
                max_bytes=self._settings.max_body_bytes,
                allowance=self._tunables.loop_allowance(),
            )
        except TooHeavy:
            return None
        return _Rendered(options, body)

    async def _render_elsewhere(self, delivery: Delivery, event: PayloadEvent, route: Route) -> _Rendered:
        """The body, rendered by the evaluation process. Raises RenderError."""
        options = route.config.payload
        asked = request.options_of(_unasked(options, delivery), is_test=delivery.is_test)
        body = await self._evaluator.render(route.tenant, event, asked, max_bytes=self._settings.max_body_bytes)
        return _Rendered(options, body)

    def _signed_lines(self, delivery: Delivery, form: RouteForm, body: bytes, now: datetime) -> str:
        return form.request.lines(
            body,
            hops=delivery.event.hops or 0,
            message_id=delivery.id,
            timestamp=int(now.timestamp()),
            is_test=delivery.is_test,
        )

    def _traced_lines(self, delivery: Delivery, form: RouteForm, body: bytes, now: datetime) -> str:
        trace = trace_context.of_attempt(
            delivery.event.context,
            delivery_id=delivery.id,
            number=delivery.failures + 1,
            sample_ratio=self._settings.trace_ratio or 0.0,
        )
        return self._signed_lines(delivery, form, body, now) + request.header_lines(trace_context.headers(trace))

    def _suppress(self, delivery: Delivery, route: Route, now: datetime) -> None:
        row = row_of(delivery, route, Outcome.SUPPRESSED, None, "", now, 0.0, 0)
        self._recorder.attempted(delivery, row)
        if not delivery.is_test:
            self._metrics.attempted(Outcome.SUPPRESSED.value, None, 0.0)

    def _record(
        self, delivery: Delivery, route: Route, answer: Answer, key_ids: str, started_at: datetime, seconds: float
    ) -> None:
        delivery.sent_at = 0.0
        verdict, wait, number = classify(answer), None, delivery.failures + 1
        if verdict is Verdict.SUCCESS:
            outcome, delivery.succeeded = Outcome.DELIVERED, True
        else:
            outcome, wait = self._conclude(delivery, answer, verdict, started_at)
            delivery.succeeded = succeeded(answer)
        row = row_of(delivery, route, outcome, answer, key_ids, started_at, seconds, number)
        if outcome is not Outcome.DELIVERED:
            delivery.failures = number
        if wait is not None and not windows.is_sendable(self._route(route.id).windows, delivery.event_time):
            wait = timedelta(0)  # the window closed during the request: a retry now is suppressed at once
        self._recorder.attempted(delivery, row, wait)
        if not delivery.is_test:
            self._metrics.attempted(row.outcome, row.status_code, seconds)
        if verdict is Verdict.GONE and (delivery.is_handed_over or not delivery.is_withdrawn):
            self._on_gone(route)
        if self._on_attempted is not None:  # last: who only looks on must not keep anything from being recorded
            self._on_attempted(delivery, row, seconds)

    def _conclude(
        self, delivery: Delivery, answer: Answer, verdict: Verdict, now: datetime
    ) -> tuple[Outcome, timedelta | None]:
        """The outcome of a failure, and the delay until the retry; None if there is none."""
        if verdict is Verdict.GONE:
            return Outcome.FAILED, None
        at_least = None
        if isinstance(answer, Response) and answer.status in (429, 503):
            at_least = retry.retry_after(answer.header("retry-after"), now=now)
        wait = self._delay(delivery.failures + 1, at_least)
        return (Outcome.FAILED, None) if wait is None else (Outcome.RETRYING, wait)

    def _delay(self, failures: int, at_least: timedelta | None = None) -> timedelta | None:
        roll = random()  # noqa: S311 - spreads retries, hides nothing
        return retry.delay(self._settings.retry, failures=failures, roll=roll, at_least=at_least)


def _unasked(options: PayloadOptions, delivery: Delivery) -> PayloadOptions:
    """The options without a filter that the event is known to pass.

    Raises RenderError if it is known to take too many steps.
    """
    known = delivery.filter_result
    if known is None or options.filter != known[0]:
        return options
    match known[1]:
        case FilterResult.PASSES:
            return replace(options, filter=None)
        case FilterResult.OVER_BUDGET:
            raise RenderError(f"the expression {OverBudget()}", is_over_budget=True)
        case _:
            return options


def is_still_gone(attempted: Route, current: Route) -> bool:
    """True if a 410 still applies: the route has the same target and the same windows as when it was `attempted`."""
    return (
        current.is_enabled
        and current.config.target_url == attempted.config.target_url
        and current.windows == attempted.windows
    )
