"""Judges an event for routes again, by the two logs: for whoever reads what was decided, or finds it out anew.

Filters get an allowance here, as in the live decision: what takes more is evaluated by the process for that, so that
the event loop is left to others. The result is the same (daemon.core.webhook.expression).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Protocol
from uuid import UUID

from daemon.core.routing.decision import FilterTest, Judgement, judge
from daemon.core.routing.timeline import Timeline
from daemon.core.webhook.expression import StepAllowance, TooHeavy
from daemon.core.webhook.payload import EventFilters, PayloadEvent
from daemon.expressions.evaluator import Evaluator


class JudgedEvent(Protocol):
    """What of an event decides, but for its filters."""

    @property
    def type(self) -> str: ...
    @property
    def event_time(self) -> datetime: ...
    @property
    def backfill(self) -> bool: ...
    @property
    def test_route(self) -> UUID | None: ...


class EventJudge:
    """Judges one event for any number of routes of its tenant; each filter is evaluated once.

    `read` returns the event with its payload, None if it is not kept any more: then no filter lets it through. It is
    called when the first filter asks.
    """

    def __init__(
        self,
        event: JudgedEvent,
        tenant: str,
        read: Callable[[], Awaitable[PayloadEvent | None]],
        evaluator: Evaluator,
        allowance: StepAllowance,
    ) -> None:
        self._event = event
        self._tenant = tenant
        self._read = read
        self._evaluator = evaluator
        self._allowance = allowance
        self._payload: PayloadEvent | None = None
        self._filters: EventFilters | None = None

    async def judge(self, timeline: Timeline) -> Judgement:
        """The decision for one route, with its grounds. Raises what `read` raises."""
        text = asked_filter(timeline, self._event)
        if text is None:
            return _judged(timeline, self._event, _accept)
        if self._filters is None:
            self._payload = await self._read()
            if self._payload is not None:
                self._filters = EventFilters(self._payload, allowance=self._allowance)
        filters, payload = self._filters, self._payload
        if filters is None or payload is None:
            return _judged(timeline, self._event, _refuse)
        try:
            return _judged(timeline, self._event, filters.passes)
        except TooHeavy:
            filters.results |= await self._evaluator.filter_results(self._tenant, payload, [text])
            return _judged(timeline, self._event, filters.passes)


def asked_filter(timeline: Timeline, event: JudgedEvent) -> str | None:
    """The filter that decides whether an event is due to a route, None if none is asked."""
    asked: list[str] = []

    def note(expression: str) -> bool:
        asked.append(expression)
        return True

    _judged(timeline, event, note)
    return asked[0] if asked else None


def _judged(timeline: Timeline, event: JudgedEvent, passes: FilterTest) -> Judgement:
    return judge(
        timeline,
        event_type=event.type,
        at=event.event_time,
        backfill=event.backfill,
        passes=passes,
        test_route=event.test_route,
    )


def _accept(_expression: str) -> bool:
    return True


def _refuse(_expression: str) -> bool:
    return False
