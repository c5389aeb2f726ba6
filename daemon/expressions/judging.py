"""Decides an event for routes again, by the two logs: for lists, explanations, replays and audits.

Filters get an allowance here, as in the live decision: what takes more is evaluated by the process for that, so that
the event loop is left to others. The result is the same (daemon.core.webhook.expression).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol
from uuid import UUID

from daemon.core.routing.decision import FilterTest, Judgement, judge
from daemon.core.routing.timeline import Timeline
from daemon.core.webhook.expression import StepAllowance, TooHeavy
from daemon.core.webhook.payload import EventFilters, FilterResult, PayloadEvent
from daemon.expressions.evaluator import Evaluator
from eventstore.postgres.errors import Saturated


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


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterPlaces:
    """Where filters are evaluated: here within `allowance`, a new one for each event, and beyond it by the evaluator.

    A request has `patience_seconds` and a turn of its own: it waits for other requests of the tenant, and not for its
    deliveries. None waits.
    """

    evaluator: Evaluator
    allowance: Callable[[], StepAllowance]
    patience_seconds: float | None = None

    async def results(self, tenant: str, event: PayloadEvent, filters: Sequence[str]) -> dict[str, FilterResult]:
        """What heavy filters make of an event. Raises Saturated."""
        async with self.waiting():
            return await self.evaluator.filter_results(self.turn(tenant), event, filters)

    def turn(self, tenant: str) -> str:
        """In whose turn the evaluator does what is asked for a tenant."""
        return tenant if self.patience_seconds is None else f"{tenant} asks"

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Waits for the evaluator in the block. Raises Saturated if that takes longer than there is patience."""
        try:
            async with asyncio.timeout(self.patience_seconds):
                yield
        except TimeoutError:
            hint = "try again in a moment, and ask for less at once"
            raise Saturated("too many heavy filters and transforms are being evaluated", hint=hint) from None


class EventJudge:
    """Judges one event for any number of routes of its tenant; each filter is evaluated once.

    `read` returns the event with its payload, None if it is not kept any more: then no filter lets it through. It is
    called when the first filter asks. Without `places` all is evaluated here, for a caller without an event loop to
    share.
    """

    def __init__(
        self,
        event: JudgedEvent,
        tenant: str,
        read: Callable[[], Awaitable[PayloadEvent | None]],
        places: FilterPlaces | None,
    ) -> None:
        self._event = event
        self._tenant = tenant
        self._read = read
        self._places = places
        self._results: dict[str, FilterResult] = {}
        self._payload: PayloadEvent | None = None
        self._filters: EventFilters | None = None

    async def judge(self, timeline: Timeline) -> Judgement:
        """The decision for one route, with its grounds. Raises what `read` raises, and Saturated."""
        await self.prepare([timeline])
        return _judged(timeline, self._event, self.passes)

    async def prepare(self, timelines: Iterable[Timeline]) -> None:
        """Evaluates the filters of these routes, the heavy ones together. Raises like `judge`."""
        asked = dict.fromkeys(asked_filter(timeline, self._event) for timeline in timelines)
        left = [text for text in asked if text is not None and text not in self._results]
        if not left:
            return
        if self._filters is None:
            self._payload = await self._read()
            if self._payload is None:
                self._results |= dict.fromkeys(left, FilterResult.STOPS)
                return
            allowance = None if self._places is None else self._places.allowance()
            self._filters = EventFilters(self._payload, allowance=allowance)
        for place, text in enumerate(left):
            if place:
                await asyncio.sleep(0)  # there may be a thousand
            try:
                self._results[text] = self._filters.result(text)
            except TooHeavy:
                if self._places is None or self._payload is None:
                    raise
                self._results |= await self._places.results(self._tenant, self._payload, left[place:])
                return

    def passes(self, text: str) -> bool:
        """What a filter said that was evaluated by `prepare`."""
        return self._results[text].lets_through


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
