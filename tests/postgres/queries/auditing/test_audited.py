"""The events of an audit, read in pages with the tick of each."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from eventstore.domain_events import ticks
from eventstore.domain_events.events import publish
from eventstore.postgres.connect import Database
from tests.support.audit.events import audited_events
from tests.support.values.builders import new_event


async def test_a_period_is_read_in_pages_by_seq(database: Database) -> None:
    for number in range(10):
        await publish(database, [new_event(id=f"{number}", tenant="ab"[number % 2])])
    await ticks.make(database)
    await publish(database, [new_event(id="unread", tenant="a")])
    start, end = datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC) + timedelta(hours=1)
    first = await audited_events(database, tenant="a", limit=3)
    rest = await audited_events(database, tenant="a", after=first[-1].seq)
    assert [event.id for event in first + rest] == ["0", "2", "4", "6", "8", "unread"]
    assert [event.tick for event in first + rest] == [1] * 5 + [None]
    assert len(await audited_events(database, period=(start, end))) == 11
    assert await audited_events(database, period=(start - timedelta(hours=2), start)) == []
    border = first[1].recorded_at
    assert "2" not in {event.id for event in await audited_events(database, period=(start, border))}
    assert (await audited_events(database, period=(border, end)))[0].id == "2"
