"""The health of receivers in the database: what waits is counted, and routes that fail are listed worst first."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from eventstore.leases import lease
from eventstore.postgres.connect import Database
from eventstore.progress import recording
from eventstore.progress.recording import Flush
from eventstore.queries.metrics import route_health, route_metrics, tally
from eventstore.queries.metrics.route_health import FailingCount, FailingPosition, HealthRow
from tests.support.rows.credentials import LOG_MACS
from tests.support.values.builders import ROUTE, attempt, parked, retry

START = datetime(2026, 11, 23, 13, tzinfo=UTC)


def row(route_id: UUID = ROUTE, **more: Any) -> HealthRow:
    made = HealthRow(
        route_id=route_id, tenant="acme", shard=3, epoch=1, state="down", since=START, run_since=START, ill_since=START,
        failures=3, successes=0, failed_at=START, failed_status=500, failed_error="http_500", failed_event="e1",
        failed_event_time=START, delivered_at=None, delivered_status=None, delivered_event=None, delivered_event_time=None,
    )  # fmt: skip
    return made._replace(**more)


async def test_a_row_is_read_as_it_was_written(database: Database, sql: asyncpg.Connection) -> None:
    await route_health.write(database, [row(probe_after=timedelta(seconds=12))])
    found = (await route_health.read(database, [ROUTE]))[ROUTE]
    assert found.row == row()
    assert found.probe_at is not None
    assert await sql.fetchval("SELECT $1 > clock_timestamp() + interval '1 s'", found.probe_at)
    assert await route_health.known(database, [ROUTE, uuid4()]) == [row()]


async def test_of_a_route_without_requests_nothing_is_known(database: Database) -> None:
    found = (await route_health.read(database, [ROUTE]))[ROUTE]
    assert (found.row, found.probe_at, found.waiting.number) == (None, None, 0)


async def test_an_earlier_owner_does_not_replace_what_a_later_one_wrote(database: Database) -> None:
    await route_health.write(database, [row(epoch=2)])
    await route_health.write(database, [row(epoch=1, state="ok")])
    assert await route_health.known(database, [ROUTE]) == [row(epoch=2)]
    await route_health.write(database, [row(epoch=2, state="failing")])
    assert await route_health.known(database, [ROUTE]) == [row(epoch=2, state="failing")]


async def test_what_waits_is_counted_with_when_the_first_retry_is_due(database: Database) -> None:
    epochs = await lease.acquire(database, "me", [3])
    batch = Flush(
        retries=[retry(shard=3, seq=1, after=timedelta(minutes=5)), retry(shard=3, seq=2, after=timedelta(hours=1))],
        parked=[parked(shard=3, seq=seq) for seq in (3, 4, 5)],
    )
    await recording.flush(database, "me", epochs, batch, number=1, macs=LOG_MACS)
    waiting = (await route_health.read(database, [ROUTE]))[ROUTE].waiting
    assert (waiting.number, waiting.parked, waiting.is_exact) == (5, 3, True)
    assert waiting.due_at is not None
    assert timedelta(minutes=4) < waiting.due_at - datetime.now(UTC) < timedelta(minutes=6)


async def test_what_was_taken_out_of_a_packed_row_waits_no_more(database: Database) -> None:
    """The row stays until the last of its deliveries is sent: one that failed has a row of its own meanwhile."""
    epochs = await lease.acquire(database, "me", [3])
    first = Flush(
        attempts=[attempt(shard=3, seq=6), attempt(shard=3, seq=20)],  # was never parked, nor is of these rows
        parked=[parked(shard=3, seq=seq) for seq in (5, 7, 8, 9)],
    )
    await recording.flush(database, "me", epochs, first, number=1, macs=LOG_MACS)
    await recording.flush(database, "me", epochs, Flush(parked=[parked(shard=3, seq=10)]), number=2, macs=LOG_MACS)

    async def waiting() -> tuple[int, int, int]:
        stored = (await route_health.read(database, [ROUTE]))[ROUTE].waiting
        return stored.number, stored.parked, (await route_metrics.read(database, ROUTE)).pending

    assert await waiting() == (5, 5, 5)
    sent = [attempt(shard=3, seq=5), attempt(shard=3, seq=7, outcome="retrying")]
    await recording.flush(
        database, "me", epochs, Flush(attempts=sent, retries=[retry(shard=3, seq=7)]), number=3, macs=LOG_MACS
    )
    assert await waiting() == (4, 3, 4)
    again = [attempt(shard=3, seq=7, number=2, outcome="retrying")]
    await recording.flush(
        database, "me", epochs, Flush(attempts=again, retries=[retry(shard=3, seq=7)]), number=4, macs=LOG_MACS
    )
    assert await waiting() == (4, 3, 4)
    in_flight = Flush(retries=[retry(shard=3, seq=8, is_held=True)])  # while its shard changes hands
    await recording.flush(database, "me", epochs, in_flight, number=5, macs=LOG_MACS)
    assert await waiting() == (4, 2, 4)


async def test_a_request_under_way_is_no_next_retry(database: Database) -> None:
    epochs = await lease.acquire(database, "me", [3])
    await recording.flush(
        database, "me", epochs, Flush(retries=[retry(shard=3, seq=1, is_held=True)]), number=1, macs=LOG_MACS
    )
    waiting = (await route_health.read(database, [ROUTE]))[ROUTE].waiting
    assert (waiting.number, waiting.due_at) == (1, None)


async def test_counting_ends_at_a_bound_and_says_so(database: Database, sql: asyncpg.Connection) -> None:
    await sql.execute(
        "INSERT INTO hookledger.retry (route_id, seq, recorded_at, event_time, tick, shard, failures, due_at, tenant)"
        " SELECT $1, n, now(), now(), 1, 3, 1, now(), 'acme' FROM generate_series(1, $2) n",
        ROUTE,
        route_health.COUNTED_ROWS + 50,
    )
    waiting = (await route_health.read(database, [ROUTE]))[ROUTE].waiting
    assert (waiting.number, waiting.is_exact) == (route_health.COUNTED_ROWS, False)


async def test_routes_that_fail_are_listed_worst_first_page_by_page(database: Database) -> None:
    ids = sorted(uuid4() for _ in range(5))
    later = START + timedelta(hours=1)
    rows = [
        row(ids[0], state="failing"),
        row(ids[1], since=later),
        row(ids[2]),
        row(ids[3], state="ok"),
        row(ids[4], state="failing", tenant="globex"),
    ]
    await route_health.write(database, rows)
    listed = [ids[2], ids[1], ids[0], ids[4]]
    first = await route_health.page(database, after=None, limit=2)
    assert [each.row.route_id for each in first if each.row] == listed[:2]
    last = first[-1].row
    assert last is not None
    after = FailingPosition(last.state, last.since, last.route_id)
    assert [
        each.row.route_id for each in await route_health.page(database, after=after, limit=9) if each.row
    ] == listed[2:]
    assert await route_health.counts(database, ["acme", "globex", "other"]) == {"acme": 3, "globex": 1}
    assert await route_health.counts(database, ["globex"]) == {"globex": 1}
    assert await route_health.total(database) == FailingCount(failing=4, down=2)


async def test_a_new_owner_reads_which_routes_of_its_shards_fail(database: Database) -> None:
    other, well = uuid4(), uuid4()
    await route_health.write(database, [row(), row(other, shard=4), row(well, state="ok")])
    assert await route_health.of_shards(database, [3]) == [row()]
    await route_health.forget(database, [ROUTE])
    assert await route_health.of_shards(database, [3, 4]) == [row(other, shard=4)]


async def test_what_was_known_of_a_receiver_long_ago_is_forgotten(database: Database) -> None:
    long_ago, now = datetime.now(UTC) - timedelta(days=40), datetime.now(UTC)
    other = uuid4()
    await route_health.write(database, [row(failed_at=long_ago), row(other, failed_at=long_ago, delivered_at=now)])
    await tally.forget(database)
    assert [each.route_id for each in await route_health.of_shards(database, [3])] == [other]
