"""The counts of a route's deliveries agree with the outcome log, whenever they are read and whatever wrote the log."""

import asyncio
from collections import Counter
from datetime import UTC, datetime, timedelta
from random import Random
from uuid import UUID, uuid4

import asyncpg
import pytest

from daemon.core.delivery.request_cells import cell_of
from eventstore.leases import lease
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import ValueRefused
from eventstore.progress import recording
from eventstore.progress.recording import Flush
from eventstore.queries.metrics import route_metrics, tally
from eventstore.queries.metrics.route_metrics import Counts
from tests.support.postgres.queries import Connect
from tests.support.rows.credentials import LOG_MACS
from tests.support.rows.outcomes import INSERT, note
from tests.support.values.builders import ROUTE, attempt, parked, retry

OTHER = UUID("99999999-8888-7777-6666-555555555555")
TALLIES = "SELECT count(*) FROM hookledger.route_tally"

# A second definition of the counts, directly over the outcome log.
OF_THE_LOG = """
SELECT count(*) FILTER (WHERE outcome = 'delivered') AS successful,
       count(*) FILTER (WHERE outcome = 'delivered' AND number > 1) AS successful_retries,
       count(*) FILTER (WHERE outcome = 'failed') AS failed,
       count(*) FILTER (WHERE outcome = 'suppressed') AS suppressed,
       count(*) FILTER (WHERE outcome = 'expired') AS expired
  FROM hookledger.attempt WHERE route_id = $1 AND NOT is_test
"""

CELLS_OF_THE_LOG = """
SELECT hookledger.request_cell(status_code, duration_ms) AS cell, count(*)
  FROM hookledger.attempt WHERE route_id = $1 AND NOT is_test AND number > 0 GROUP BY 1
"""


async def total(database: Database, route_id: UUID = ROUTE) -> Counts:
    return sum((await route_metrics.read(database, route_id)).periods.values(), Counts())


async def cells(database: Database, route_id: UUID = ROUTE) -> dict[int, int]:
    found = (await route_metrics.read(database, route_id)).cells.values()
    return dict(sum((Counter(each) for each in found), Counter[int]()))


async def failing(database: Database, seconds: float = 0) -> dict[UUID, float]:
    """Route → seconds from its first failure to its last one."""
    await tally.add_up(database)
    found = await tally.failing(database, for_at_least=timedelta(seconds=seconds))
    return {each.route_id: (each.last_at - each.since).total_seconds() for each in found}


async def test_each_end_of_a_delivery_is_counted_before_and_after_it_is_added_up(
    database: Database, sql: asyncpg.Connection
) -> None:
    await note(sql, "delivered", "delivered", "retrying", "failed", "suppressed", "expired")
    await note(sql, "delivered", number=2)
    await note(sql, "failed", "failed", route_id=OTHER)
    expected = Counts(successful=3, successful_retries=1, failed=1, suppressed=1, expired=1)
    assert await total(database) == expected
    assert await tally.add_up(database) == 3
    assert await total(database) == expected
    await note(sql, "delivered", number=3)
    assert await total(database) == expected + Counts(successful=1, successful_retries=1)
    assert await tally.add_up(database) == 1
    assert await tally.add_up(database) == 0
    assert await total(database) == expected + Counts(successful=1, successful_retries=1)
    assert await total(database, OTHER) == Counts(failed=2)
    assert await total(database, uuid4()) == Counts()


async def test_a_flush_counts_what_it_writes_once_and_what_it_may_not_write_never(
    database: Database, sql: asyncpg.Connection
) -> None:
    epochs = await lease.acquire(database, "me", [3])
    batch = Flush(attempts=[attempt(shard=3, seq=1), attempt(shard=4, seq=2), attempt(shard=3, seq=3, number=2)])
    for _ in range(2):  # the answer was lost
        assert await recording.flush(database, "me", epochs | {4: 1}, batch, number=1, macs=LOG_MACS) == {3}
    assert await total(database) == Counts(successful=2, successful_retries=1)
    assert await sql.fetchval(TALLIES) == 1


async def test_a_flush_without_outcomes_leaves_nothing_to_add_up(database: Database, sql: asyncpg.Connection) -> None:
    epochs = await lease.acquire(database, "me", [3])
    await recording.flush(database, "me", epochs, Flush(checkpoints={3: 1}), number=1, macs=LOG_MACS)
    await note(sql, "delivered", is_test=True)
    assert await sql.fetchval(TALLIES) == 0


async def test_test_deliveries_are_left_out(database: Database, sql: asyncpg.Connection) -> None:
    await note(sql, "failed", "delivered", is_test=True)
    await note(sql, "delivered")
    await tally.add_up(database)
    assert await total(database) == Counts(successful=1)


async def test_what_is_committed_late_is_counted_when_it_is(
    database: Database, sql: asyncpg.Connection, connect: Connect
) -> None:
    slow = await connect()
    late = slow.transaction()
    await late.start()
    await note(slow, "delivered")
    await note(sql, "failed")
    await tally.add_up(database)
    assert await total(database) == Counts(failed=1)
    await late.commit()
    assert await total(database) == Counts(successful=1, failed=1)
    await tally.add_up(database)
    assert await total(database) == Counts(successful=1, failed=1)


async def test_a_backlog_is_added_up_part_by_part_and_what_was_added_stays(
    database: Database, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one transaction 72,000 rows took 22 s of 30, and after it had failed there were more."""
    monkeypatch.setattr(tally, "MOST_ROWS", 2)
    for outcome in ("failed", "failed", "delivered", "failed", "failed"):
        await note(sql, outcome)
    assert await tally.add_up(database) == 5
    assert await total(database) == Counts(successful=1, failed=4)
    assert set(await failing(database)) == {ROUTE}
    for _ in range(4):
        await note(sql, "delivered")
    await sql.execute(
        "UPDATE hookledger.route_tally SET requests = '{2147483647}' WHERE id = (SELECT max(id) FROM hookledger.route_tally)"
    )
    with pytest.raises(ValueRefused):  # no sum has so many requests
        await tally.add_up(database)
    assert await sql.fetchval(TALLIES) == 2
    assert await total(database) == Counts(successful=5, failed=4)


async def test_what_is_rolled_back_was_never_counted(database: Database, sql: asyncpg.Connection) -> None:
    aborted = sql.transaction()
    await aborted.start()
    await note(sql, "delivered")
    await aborted.rollback()
    await tally.add_up(database)
    assert await total(database) == Counts()


async def test_two_processes_do_not_add_up_the_same(database: Database, sql: asyncpg.Connection) -> None:
    held = sql.transaction()
    await held.start()
    await sql.execute(tally._ADD_UP_LOCK)
    assert await tally.add_up(database) is None
    await held.rollback()
    assert await tally.add_up(database) == 0


@pytest.mark.parametrize("seed", range(3))
async def test_the_figures_are_those_of_the_log_while_others_write_and_add_up(
    database: Database, sql: asyncpg.Connection, connect: Connect, seed: int
) -> None:
    random = Random(seed)
    routes = [uuid4() for _ in range(4)]
    now = datetime.now(UTC)
    # Clocks that were put back or forward: today and tomorrow have partitions.
    times = [now + timedelta(minutes=random.randint(-300, 300)) for _ in range(8)]
    outcomes = ("delivered", "retrying", "failed", "suppressed", "expired")

    async def write(connection: asyncpg.Connection) -> None:
        for _ in range(25):
            size = random.randint(1, 9)
            await connection.execute(
                INSERT,
                random.choices(routes, k=size),
                random.choices(outcomes, k=size),
                random.choices((0, 1, 2), k=size),
                random.choices(times, k=size),
                [None] * size,
                random.choices((False, False, True), k=size),
            )

    async def add_up() -> None:
        while not written.is_set():
            await tally.add_up(database)

    written = asyncio.Event()
    writers = [await connect() for _ in range(3)]
    async with asyncio.TaskGroup() as group:
        adders = [group.create_task(add_up()) for _ in range(2)]
        await asyncio.gather(*(write(connection) for connection in writers))
        written.set()
        await asyncio.gather(*adders)
    for _ in range(2):
        for route_id in routes:
            (row,) = await sql.fetch(OF_THE_LOG, route_id)
            assert await total(database, route_id) == Counts(**row)
            of_the_log = await sql.fetch(CELLS_OF_THE_LOG, route_id)
            assert await cells(database, route_id) == {row["cell"]: row["count"] for row in of_the_log}
        await tally.add_up(database)
    assert await sql.fetchval(TALLIES) == 0


async def test_an_end_belongs_to_the_utc_hour_in_which_it_was_recorded(
    database: Database, sql: asyncpg.Connection
) -> None:
    await sql.execute("SET timezone = 'Asia/Kolkata'")  # half an hour beside
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for minutes in (0, 59, 60, 61):
        await note(sql, "delivered", at=today + timedelta(minutes=minutes))
    for _ in range(2):
        metrics = await route_metrics.read(database, ROUTE)
        assert {hour: counts.successful for hour, counts in metrics.periods.items()} == {
            today: 2,
            today + timedelta(hours=1): 2,
        }
        await tally.add_up(database)


async def test_thirty_days_are_shown_and_nothing_older_is_kept(database: Database, sql: asyncpg.Connection) -> None:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    shown, old, oldest = (today - timedelta(days=days) for days in (28, 30, 33))  # whatever midnight does meanwhile
    for day in (shown, old, oldest):
        await sql.execute("SELECT hookledger.ensure_partitions($1, $1)", day.date())
        await note(sql, "delivered", at=day)
    await tally.add_up(database)
    assert set((await route_metrics.read(database, ROUTE)).periods) == {shown}
    assert await tally.forget(database) == 1
    assert await sql.fetchval("SELECT count(*) FROM hookledger.route_metric") == 2


async def test_what_waits_is_pending(database: Database) -> None:
    epochs = await lease.acquire(database, "me", [3])
    batch = Flush(
        retries=[retry(shard=3, seq=1), retry(shard=3, seq=2, route_id=OTHER)],
        parked=[parked(shard=3, seq=3), parked(shard=3, seq=4)],
    )
    await recording.flush(database, "me", epochs, batch, number=1, macs=LOG_MACS)
    assert (await route_metrics.read(database, ROUTE)).pending == 3
    assert (await route_metrics.read(database, OTHER)).pending == 1
    assert (await route_metrics.read(database, uuid4())).pending == 0


async def test_a_route_fails_from_its_first_failure_to_its_last(database: Database, sql: asyncpg.Connection) -> None:
    start = datetime.now(UTC).replace(hour=12)
    await note(sql, "retrying", at=start)
    await note(sql, "suppressed", "expired", at=start + timedelta(seconds=50))
    await note(sql, "failed", at=start + timedelta(seconds=30))
    assert await failing(database) == {ROUTE: 30}
    await note(sql, "retrying", at=start + timedelta(seconds=40))
    await note(sql, "retrying", at=start + timedelta(seconds=40), route_id=OTHER)
    assert await failing(database) == {ROUTE: 40, OTHER: 0}
    assert await failing(database, seconds=40) == {ROUTE: 40}
    assert await failing(database, seconds=41) == {}


@pytest.mark.parametrize("is_added_up_between", [False, True])
async def test_a_success_begins_anew(database: Database, sql: asyncpg.Connection, is_added_up_between: bool) -> None:
    start = datetime.now(UTC).replace(hour=12)
    for second, outcome in enumerate(("retrying", "failed", "delivered", "retrying", "retrying", "retrying")):
        await note(sql, outcome, at=start + timedelta(seconds=second))
        if is_added_up_between:
            await tally.add_up(database)
    assert await failing(database) == {ROUTE: 2}
    await note(sql, "delivered", at=start)
    assert await failing(database) == {}


async def test_a_success_in_the_same_statement_counts_for_more_than_a_failure(
    database: Database, sql: asyncpg.Connection
) -> None:
    await note(sql, "failed", "delivered", "failed")
    assert await failing(database) == {}


async def test_tests_of_a_route_say_nothing_about_it(database: Database, sql: asyncpg.Connection) -> None:
    await note(sql, "failed", is_test=True)
    assert await failing(database) == {}
    await note(sql, "failed")
    await note(sql, "delivered", is_test=True)
    assert await failing(database) == {ROUTE: 0}


async def test_the_log_says_how_a_route_failed(database: Database, sql: asyncpg.Connection) -> None:
    start = datetime.now(UTC).replace(hour=12)
    errors = [None, "timeout", "proxy_error", "http_5xx"]
    for second, error in enumerate(errors):
        await note(sql, "retrying", at=start + timedelta(seconds=second), error=error)
    found = await tally.failures(
        database, ROUTE, since=start + timedelta(seconds=1), excluding=["proxy_error", "internal_error"]
    )
    assert found is not None
    assert (found.count, found.first_at, found.last_at) == (
        2,
        start + timedelta(seconds=1),
        start + timedelta(seconds=3),
    )
    await note(sql, "delivered", at=start + timedelta(seconds=9), number=2)
    assert await tally.failures(database, ROUTE, since=start) is None
    assert await tally.failures(database, OTHER, since=start) is None


def test_the_counts_of_hours_can_be_added() -> None:
    one = Counts(successful=1, successful_retries=2, failed=3, suppressed=4, expired=5)
    assert one + one == Counts(successful=2, successful_retries=4, failed=6, suppressed=8, expired=10)


async def test_requests_are_counted_by_answer_and_duration_as_python_counts_them(
    database: Database, sql: asyncpg.Connection
) -> None:
    statuses, durations = (None, 101, 200, 302, 404, 410, 500, 599, 799), (0, 1, 2, 3, 45, 362, 5793, 65536, 900_000)
    expected = [cell_of(status, duration) for status in statuses for duration in durations]
    found = await sql.fetch(
        "SELECT hookledger.request_cell(s, d) AS cell FROM unnest($1::smallint[]) WITH ORDINALITY AS a (s, i),"
        " unnest($2::integer[]) WITH ORDINALITY AS b (d, j) ORDER BY i, j",
        statuses,
        durations,
    )
    assert [row["cell"] for row in found] == expected


async def test_retries_are_requests_and_what_ended_without_one_is_none(
    database: Database, sql: asyncpg.Connection
) -> None:
    await note(sql, "retrying", "failed", "delivered")
    await note(sql, "suppressed", "expired", number=0)
    await note(sql, "retrying", is_test=True)
    for _ in range(2):
        assert sum((await cells(database)).values()) == 3
        await tally.add_up(database)
    await note(sql, "delivered")
    assert sum((await cells(database)).values()) == 4
    await tally.add_up(database)
    assert sum((await cells(database)).values()) == 4


async def test_the_last_hour_is_told_by_five_minutes(database: Database, sql: asyncpg.Connection) -> None:
    now = await sql.fetchval("SELECT date_bin('5 minutes', clock_timestamp(), 'epoch')")
    for minutes in (0, 0, 5, 30, 55, 60, 120):
        await note(sql, "delivered", at=now - timedelta(minutes=minutes))
    await note(sql, "retrying", at=now)
    for _ in range(2):
        found = await route_metrics.read_last_hour(database, ROUTE)
        told = {(now - period) // timedelta(minutes=1): counts.successful for period, counts in found.periods.items()}
        assert told in ({0: 2, 5: 1, 30: 1, 55: 1}, {0: 2, 5: 1, 30: 1})  # five minutes may have passed
        assert sum(found.cells[now].values()) == 3
        await tally.add_up(database)


async def test_the_hours_before_this_one_are_read_and_no_older_ones(
    database: Database, sql: asyncpg.Connection
) -> None:
    this_hour = await sql.fetchval("SELECT date_trunc('hour', clock_timestamp(), 'UTC')")
    for hours in (0, 1, 2, 3):
        await note(sql, "delivered", at=this_hour - timedelta(hours=hours))
    await tally.add_up(database)
    assert len((await route_metrics.read_hours(database, ROUTE, hours=3)).periods) in (2, 3)


async def test_periods_of_five_minutes_are_forgotten_after_two_hours(
    database: Database, sql: asyncpg.Connection
) -> None:
    now = datetime.now(UTC)
    for minutes in (0, 100, 130, 200):
        await note(sql, "delivered", at=now - timedelta(minutes=minutes))
    await tally.add_up(database)
    await tally.forget(database)
    assert await sql.fetchval("SELECT count(*) FROM hookledger.route_recent") == 2


async def test_what_an_older_version_counted_is_added_without_its_requests(
    database: Database, sql: asyncpg.Connection
) -> None:
    await note(sql, "delivered", "delivered")
    await sql.execute("UPDATE hookledger.route_tally SET cells = '{}', requests = '{}'")
    for _ in range(2):
        assert await total(database) == Counts(successful=2)
        assert await cells(database) == {}
        await tally.add_up(database)
