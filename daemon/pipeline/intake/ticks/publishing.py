"""Publishes what came over HTTP, with its tick: an event that comes alone is read here as soon as it is stored.

One statement stores the events, makes their tick in the same transaction, and brings what a poll brings
(eventstore/domain_events/polls.py). If ticks follow each other, or somebody holds up the lock that ticks take, the
events are stored alone, and the ticker makes the tick. It holds up no producer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from daemon.pipeline.intake.ticks.log_watch import LogWatch
from daemon.pipeline.intake.ticks.ticker import Ticker
from eventstore import domain_events
from eventstore.domain_events import polls
from eventstore.domain_events.events import NewEvent
from eventstore.domain_events.polls import ReadUpto
from eventstore.postgres.connect import Database

# A tick of more events than a poll brings is left to the ticker: then there is no event that comes alone.
MOST_EVENTS = 31


class TickingPublisher:
    """`publish` is `domain_events.publish`, and lets the ticker know."""

    def __init__(self, ticker: Ticker, log_watch: LogWatch, read_upto: Callable[[], ReadUpto]) -> None:
        self._ticker = ticker
        self._log_watch = log_watch
        self._read_upto = read_upto

    async def publish(
        self, database: Database, events: Sequence[NewEvent], *, seconds: float, lock_seconds: float | None = None
    ) -> list[bool]:
        if len(events) > MOST_EVENTS or self._ticker.spacing_seconds > 0:
            fresh = await domain_events.publish(database, events, seconds=seconds, lock_seconds=lock_seconds)
            self._ticker.wakeup.set()
            return fresh
        with self._ticker.asking():
            question, read = self._log_watch.question(), self._read_upto()
            fresh, poll = await polls.publish(
                database,
                events,
                known_tick=question.mark.tick,
                known_pos=question.end.position,
                read=read,
                seconds=seconds,
                lock_seconds=lock_seconds,
            )
            self._ticker.answered(question, read, poll)
        return fresh
