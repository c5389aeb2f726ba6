"""What the whole installation does, over all routes, agrees with the outcome log before and after it is added up."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from uuid import UUID

import asyncpg
import pytest

from eventstore.postgres.connect import Database
from eventstore.queries.metrics import rates, tally
from eventstore.queries.metrics.route_metrics import RECENT_PERIOD, Counts
from tests.support.rows.outcomes import note

OTHER = UUID("99999999-8888-7777-6666-555555555555")

CELLS_OF_THE_LOG = """
SELECT hookledger.request_cell(status_code, duration_ms) AS cell, count(*)
  FROM hookledger.attempt WHERE NOT is_test AND number > 0 GROUP BY 1
"""
PUBLISH = """
INSERT INTO hookledger.domain_event (tenant, id, type, data, recorded_at)
SELECT 'acme', $1 || n, 'order.create', '{}', clock_timestamp() - $3::interval FROM generate_series(1, $2::int) n
"""


async def test_of_a_new_installation_every_rate_is_nothing(database: Database) -> None:
    found = await rates.read(database)
    assert (found.events_per_second, found.ended, found.cells) == (0, Counts(), {})
    assert RECENT_PERIOD.total_seconds() <= found.seconds < 2 * RECENT_PERIOD.total_seconds()


async def test_what_ended_is_counted_over_all_routes_once_however_far_it_is_added_up(
    database: Database, sql: asyncpg.Connection
) -> None:
    await note(sql, "delivered", "retrying", "failed")
    await note(sql, "delivered", number=2, route_id=OTHER)
    expected = Counts(successful=2, successful_retries=1, failed=1)
    assert (await rates.read(database)).ended == expected
    await tally.add_up(database)
    assert (await rates.read(database)).ended == expected
    await note(sql, "expired", route_id=OTHER)
    found = await rates.read(database)
    assert found.ended == expected + Counts(expired=1)
    assert found.cells == Counter({row["cell"]: row["count"] for row in await sql.fetch(CELLS_OF_THE_LOG)})


async def test_what_is_longer_ago_does_not_count(database: Database, sql: asyncpg.Connection) -> None:
    await note(sql, "delivered")
    await tally.add_up(database)
    await sql.execute("UPDATE hookledger.route_recent SET period = period - 2 * $1::interval", RECENT_PERIOD)
    found = await rates.read(database)
    assert (found.ended, found.cells) == (Counts(), {})


async def test_events_of_the_last_minute_are_counted(database: Database, sql: asyncpg.Connection) -> None:
    await sql.execute(PUBLISH, "old-", 50, timedelta(minutes=2))
    await sql.execute(PUBLISH, "new-", 30, timedelta())
    assert (await rates.read(database)).events_per_second == 0.5


async def test_of_many_events_the_newest_tell_the_rate(
    database: Database, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates, "COUNTED_EVENTS", 100)
    await sql.execute(PUBLISH, "burst-", 200, timedelta())
    assert (await rates.read(database)).events_per_second == 100  # a batch is taken for one of a second
