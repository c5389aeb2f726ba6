"""The count of events that a route missed while it was disabled."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from eventstore import domain_events
from eventstore.postgres.connect import Database
from eventstore.queries.events import missed_events
from eventstore.queries.events import sample_events as tests_of_routes
from eventstore.queries.events.missed_events import MissedEvents
from tests.support.values.builders import ROUTE, new_event

NOW = datetime.now(UTC)
OFF, ON = NOW - timedelta(hours=2), NOW - timedelta(hours=1)
WITHIN = OFF + timedelta(minutes=1)


async def missed(database: Database, *patterns: str, until: datetime = ON) -> MissedEvents:
    return await missed_events.count(database, "acme", patterns, since=OFF, until=until)


async def test_it_counts_what_happened_from_the_first_moment_to_before_the_last(database: Database) -> None:
    times = [OFF - timedelta(microseconds=1), OFF, WITHIN, ON - timedelta(microseconds=1), ON]
    await domain_events.publish(database, [new_event(occurred_at=at) for at in times])
    assert await missed(database, "*") == MissedEvents(number=3, is_exact=True)


async def test_an_event_from_the_future_happened_when_it_was_recorded(database: Database) -> None:
    now = datetime.now(UTC)
    await domain_events.publish(database, [new_event(occurred_at=now + timedelta(days=1))])
    assert await missed(database, "*", until=now + timedelta(hours=1)) == MissedEvents(number=1, is_exact=True)
    assert await missed(database, "*") == MissedEvents(number=0, is_exact=True)


@pytest.mark.parametrize(
    ("patterns", "number"),
    [(["order.create"], 1), (["order.*"], 2), (["shop.open", "order.pay"], 2), (["*", "order.pay"], 4), (["or.*"], 0)],
)
async def test_it_counts_what_the_route_would_have_been_sent(
    database: Database, patterns: list[str], number: int
) -> None:
    types = ["order.create", "order.pay", "shop.open", "orders.pay"]
    await domain_events.publish(database, [new_event(type=type, occurred_at=WITHIN) for type in types])
    assert await missed(database, *patterns) == MissedEvents(number=number, is_exact=True)


async def test_it_leaves_out_what_no_route_would_have_been_sent(database: Database) -> None:
    await domain_events.publish(
        database, [new_event(occurred_at=WITHIN, backfill=True), new_event(tenant="other", occurred_at=WITHIN)]
    )
    await tests_of_routes.publish(database, ROUTE, [new_event()])
    assert await missed(database, "*", until=datetime.now(UTC) + timedelta(days=1)) == MissedEvents(
        number=0, is_exact=True
    )


async def test_it_counts_no_more_than_anybody_reads(database: Database) -> None:
    await domain_events.publish(database, [new_event(occurred_at=WITHIN) for _ in range(missed_events.MAX_COUNTED)])
    assert await missed(database, "order.*") == MissedEvents(number=1000, is_exact=True)
    await domain_events.publish(database, [new_event(occurred_at=WITHIN)])
    assert await missed(database, "order.*") == MissedEvents(number=1000, is_exact=False)


async def test_among_very_many_others_it_says_how_many_there_are_at_least(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(missed_events, "MAX_LOOKED_AT", 10)
    await domain_events.publish(database, [new_event(occurred_at=WITHIN, type="shop.open") for _ in range(10)])
    assert await missed(database, "order.*") == MissedEvents(number=0, is_exact=True)
    await domain_events.publish(database, [new_event(occurred_at=WITHIN, type="shop.open")])
    assert await missed(database, "order.*") == MissedEvents(number=0, is_exact=False)
