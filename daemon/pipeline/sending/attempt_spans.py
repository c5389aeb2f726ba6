"""The span of an attempt: in the trace of its event, and linked to the request that published that."""

from __future__ import annotations

from datetime import UTC, datetime

from daemon.core.delivery.answer import Outcome
from daemon.core.events import trace_context
from daemon.pipeline.scheduling.delivery import Delivery
from daemon.telemetry.spans import FinishedSpan, SpanKind, Tracing
from eventstore.progress.rows import AttemptRow

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class AttemptSpans:
    """Call it with each attempt and its outcome. It is on the hot path: what leaves most deliveries out comes first."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    def __call__(self, delivery: Delivery, row: AttemptRow, seconds: float) -> None:
        context, ratio = delivery.event.context, self._tracing.sample_ratio
        if not trace_context.is_sampled(context, delivery_id=delivery.id, sample_ratio=ratio):
            return
        if not self._tracing.has_room():
            return
        own = trace_context.of_attempt(context, delivery_id=delivery.id, number=row.number, sample_ratio=ratio)
        publishing = trace_context.of(context)
        began = row.started_at - _EPOCH
        began_ns = ((began.days * 86_400 + began.seconds) * 1_000_000 + began.microseconds) * 1000
        attributes: dict[str, str | int] = {
            "hookledger.tenant": row.tenant,
            "hookledger.route.id": str(row.route_id),
            "hookledger.event.id": row.event_id,
            "hookledger.event.type": row.event_type,
            "hookledger.delivery.id": delivery.id,
            "hookledger.attempt": row.number,
            "hookledger.outcome": row.outcome,
        }
        if row.status_code is not None:
            attributes["http.response.status_code"] = row.status_code
        self._tracing.record(
            FinishedSpan(
                name="deliver",
                kind=SpanKind.CLIENT,
                context=own,
                parent=publishing,
                linked=publishing,
                began_ns=began_ns,
                ended_ns=began_ns + int(seconds * 1e9),
                attributes=attributes,
                error=None if row.outcome == Outcome.DELIVERED else row.error or row.outcome,
            )
        )
