"""An event of the log, as filters see it and bodies are rendered from it."""

from __future__ import annotations

from datetime import datetime

from daemon.core.webhook.payload import PayloadEvent
from eventstore.domain_events.events import StoredEvent


def payload_event(event: StoredEvent, *, event_time: datetime | None = None) -> PayloadEvent:
    """The event. `event_time` is the one that its delivery was recorded with; None takes that of the row."""
    return PayloadEvent(
        event_id=event.id,
        event_type=event.type,
        created=event.event_time if event_time is None else event_time,
        data=event.data,
        context=event.context,
        snapshot=event.snapshot,
        hops=event.hops or 0,
    )
