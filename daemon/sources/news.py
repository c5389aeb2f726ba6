"""What operators are told of a source as operational events, held back so that a storm of refusals makes no storm.

At most one event a minute tells of messages that became no event, with their number and the last one. That a partition
stopped is told at once, and once, whichever process notices it. What is not told yet when the process ends is not told:
the list of refused messages has it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from daemon import operations
from daemon.operations import Audience, RefusedMessages
from daemon.pipeline.tunables import DEFAULTS, Tunables
from eventstore.domain_events.events import NewEvent
from eventstore.sources.positions import SourcePosition

Tell = Callable[[Sequence[NewEvent]], None]


class SourceNews:
    """`refused` takes notes, and `tell_due` tells what may be told now. `stopped` tells."""

    def __init__(self, source: str, audience: Audience, tell: Tell, *, tunables: Tunables = DEFAULTS) -> None:
        self._source = source
        self._audience = audience
        self._tell = tell
        self._pause_seconds = tunables.operations_source_seconds
        self._refused: RefusedMessages | None = None
        self._told_at = float("-inf")

    def refused(self, count: int, *, topic: str, partition: int, offset: int, reason: str) -> None:
        """Hears of messages that became no event, and of the last one of them."""
        now, before = datetime.now(UTC), self._refused
        self._refused = RefusedMessages(
            count=count if before is None else before.count + count,
            since=now if before is None else before.since,
            until=now,
            topic=topic,
            partition=partition,
            offset=offset,
            reason=reason,
        )

    def tell_due(self) -> None:
        """Tells of what was refused, unless that was told less than a minute ago."""
        now = time.monotonic()
        if self._refused is not None and now - self._told_at >= self._pause_seconds:
            self._tell(operations.messages_refused(self._audience, self._source, self._refused))
            self._refused, self._told_at = None, now

    def stopped(self, position: SourcePosition, fault: str) -> None:
        """Tells that a partition is not taken any further."""
        told = operations.source_stopped(
            self._audience,
            self._source,
            topic=position.topic,
            partition=position.partition,
            offset=position.next_offset,
            fault=fault,
        )
        self._tell(told)
