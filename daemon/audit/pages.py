"""The events of an audit in pages, each with its candidate routes and with what is recorded of them.

The index finds the candidates, and only their rows are read, in the snapshot in which the events were. So the cost of
an event grows with its matches, and a daemon that delivers meanwhile changes nothing. The next page is read while the
last one is judged.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from daemon.core.routing.index import RouteIndex
from daemon.core.routing.timeline import Timeline
from daemon.route_state import FoldedLog
from eventstore.domain_events.events import StoredEvent
from eventstore.postgres.connect import Database
from eventstore.postgres.snapshot import snapshot
from eventstore.queries.auditing import audited, log_marks
from eventstore.queries.auditing.audited import AuditedRecord
from eventstore.retention import retention
from eventstore.retention.retention import Horizon

# The bounds of a period of which none is given. The end is not now: after its clock went back, the database records
# events at a later time than that.
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)
END = datetime(9999, 1, 1, tzinfo=UTC)

PAGE_EVENTS = 2000
# An event may go to a thousand routes: so many pairs are in memory at a time, if not one event alone has more.
PAGE_PAIRS = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditScope:
    """The events recorded in [start, end), of one tenant if it is given."""

    start: datetime
    end: datetime
    tenant: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SeqRange:
    """The events with seq in (after, upto]."""

    after: int
    upto: int


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Events, each with the size of its payload and its candidates; what was recorded of them when they were read; the
    checkpoints of that moment; and a later horizon of retention.
    """

    events: list[StoredEvent]
    payload_bytes: list[int]
    candidates: list[tuple[Timeline, ...]]
    record: AuditedRecord
    checkpoints: dict[int, int]
    horizon: Horizon


async def everything(database: Database) -> SeqRange:
    """All events that there are now: what is published later is left out, though the end of a period may lie ahead."""
    after, newest = await audited.bounds(database)
    return SeqRange(after=after, upto=newest)


async def pages(
    database: Database, scope: AuditScope, folded: FoldedLog[RouteIndex], within: SeqRange
) -> AsyncIterator[AuditPage]:
    """The pages in order of seq."""
    after, newest = within.after, within.upto
    reading = asyncio.ensure_future(_next(database, scope, folded, after, newest))
    try:
        while (found := await reading) is not None:
            page, after = found
            reading = asyncio.ensure_future(_next(database, scope, folded, after, newest))
            yield page
    finally:
        reading.cancel()
        with suppress(asyncio.CancelledError):
            await reading


async def _next(
    database: Database, scope: AuditScope, folded: FoldedLog[RouteIndex], after: int, newest: int
) -> tuple[AuditPage, int] | None:
    """The next page that has events after a seq, and up to which seq it goes."""
    while after < newest:
        async with snapshot(database, seconds=audited.SECONDS) as connection:
            found = await audited.events(
                connection, scope.start, scope.end, tenant=scope.tenant, after=after, upto=newest, limit=PAGE_EVENTS
            )
            after = found.upto
            if not found.events:
                continue
            # With what changed up to this moment: an outcome may be the effect of a change.
            await folded.catch_up_within(connection)
            candidates = _candidates(folded, found.events)
            events = found.events[: len(candidates)]
            if len(events) < len(found.events):
                after = events[-1].seq
            routes = list({timeline.current.id for each in candidates for timeline in each})
            record = await audited.record(connection, routes, events)
            checkpoints = await log_marks.checkpoints(connection)
        # Last: otherwise what retention drops meanwhile would count as missing.
        horizon = await retention.horizon(database)
        return AuditPage(events, found.payload_bytes, candidates, record, checkpoints, horizon), after
    return None


def _candidates(folded: FoldedLog[RouteIndex], events: Sequence[StoredEvent]) -> list[tuple[Timeline, ...]]:
    """The candidates of as many of these events as a page may have, at least of one."""
    candidates: list[tuple[Timeline, ...]] = []
    pairs = 0
    for event in events:
        found = folded.index.candidates(event.tenant, event.type)
        pairs += len(found)
        if candidates and pairs > PAGE_PAIRS:
            break
        candidates.append(found)
    return candidates
