"""Late outcomes: the holder of a row may replace it by the outcome until it is due, and changes nothing else."""

from __future__ import annotations

from datetime import timedelta

import asyncpg

from eventstore.leases import lease
from eventstore.postgres.connect import Database
from eventstore.progress import backlog, late_outcomes, recording
from eventstore.progress.late_outcomes import LateOutcome
from eventstore.progress.recording import Flush
from eventstore.progress.rows import RetryRow
from tests.support.rows.credentials import LOG_MACS, unsigned_outcomes
from tests.support.values.builders import ROUTE, attempt, parked, retry

LATER = timedelta(seconds=60)
NOW = timedelta(0)


async def left_behind(database: Database, *rows: RetryRow, owner: str = "me") -> None:
    """Inserts the rows that a process writes before it hands its shard over."""
    epochs = await lease.acquire(database, owner, [0])
    assert await recording.flush(database, owner, epochs, Flush(retries=list(rows)), number=1, macs=LOG_MACS) == {0}
    await lease.release(database, owner, epochs)


async def outcomes(sql: asyncpg.Connection) -> list[tuple[int, str]]:
    assert await unsigned_outcomes(sql) == []
    return [tuple(row) for row in await sql.fetch("SELECT seq, outcome FROM hookledger.attempt ORDER BY seq, number")]


async def test_a_late_outcome_replaces_the_row(database: Database, sql: asyncpg.Connection) -> None:
    await left_behind(database, retry(seq=1, after=LATER, is_held=True), retry(seq=2, after=LATER, is_held=True))
    assert await late_outcomes.write(database, "me", [LateOutcome(attempt(seq=1), 0, None)], macs=LOG_MACS) == {
        (ROUTE, 1)
    }
    assert await outcomes(sql) == [(1, "delivered")]
    assert await sql.fetchval("SELECT array_agg(seq) FROM hookledger.retry") == [2]


async def test_a_late_outcome_of_a_test_is_marked_as_one(database: Database, sql: asyncpg.Connection) -> None:
    await left_behind(database, *(retry(seq=seq, after=LATER, is_held=True) for seq in (1, 2)))
    rows = [attempt(seq=1), attempt(seq=2)._replace(is_test=True)]
    await late_outcomes.write(database, "me", [LateOutcome(row, 0, None) for row in rows], macs=LOG_MACS)
    stored = await sql.fetch("SELECT seq, is_test FROM hookledger.attempt ORDER BY seq")
    assert [tuple(row) for row in stored] == [(1, False), (2, True)]


async def test_a_failure_that_will_be_retried_is_handed_on_with_the_row(
    database: Database, sql: asyncpg.Connection
) -> None:
    await left_behind(database, retry(seq=1, failures=0, after=LATER, is_held=True))
    written = await late_outcomes.write(
        database, "me", [LateOutcome(attempt(seq=1, outcome="retrying"), 1, NOW)], macs=LOG_MACS
    )
    assert written == {(ROUTE, 1)}
    assert await outcomes(sql) == [(1, "retrying")]
    (row,) = await sql.fetch("SELECT failures, holder, due_at <= clock_timestamp() AS is_due FROM hookledger.retry")
    assert tuple(row) == (1, None, True)


async def test_repeated_because_an_answer_was_lost_it_writes_nothing_twice(
    database: Database, sql: asyncpg.Connection
) -> None:
    await left_behind(database, *(retry(seq=seq, after=LATER, is_held=True) for seq in (1, 2)))
    both = [LateOutcome(attempt(seq=1), 0, None), LateOutcome(attempt(seq=2, outcome="retrying"), 1, LATER)]
    assert await late_outcomes.write(database, "me", both, macs=LOG_MACS) == {(ROUTE, 1), (ROUTE, 2)}
    assert await late_outcomes.write(database, "me", both, macs=LOG_MACS) == set()
    assert await outcomes(sql) == [(1, "delivered"), (2, "retrying")]


async def test_a_row_that_is_due_or_another_s_or_nobody_s_or_gone_stays_as_it_is(
    database: Database, sql: asyncpg.Connection
) -> None:
    await left_behind(database, retry(seq=2, after=LATER, is_held=True), owner="another")
    await left_behind(database, retry(seq=1, after=NOW, is_held=True), retry(seq=3, after=LATER))
    before = await sql.fetch("SELECT * FROM hookledger.retry ORDER BY seq")
    for after in (None, LATER):
        late = [LateOutcome(attempt(seq=seq), 1, after) for seq in (1, 2, 3, 4)]
        assert await late_outcomes.write(database, "me", late, macs=LOG_MACS) == set()
    assert await outcomes(sql) == []
    assert await sql.fetch("SELECT * FROM hookledger.retry ORDER BY seq") == before


async def test_a_retry_written_anew_has_no_holder_any_more(database: Database, sql: asyncpg.Connection) -> None:
    epochs = await lease.acquire(database, "me", [0])
    for number, is_held in ((1, True), (2, False), (3, True)):
        await recording.flush(
            database,
            "me",
            epochs,
            Flush(retries=[retry(seq=1, after=LATER, is_held=is_held)]),
            number=number,
            macs=LOG_MACS,
        )
        assert await sql.fetchval("SELECT holder FROM hookledger.retry") == ("me" if is_held else None)


async def test_what_has_a_row_is_not_taken_up_from_the_packed_one(database: Database) -> None:
    epochs = await lease.acquire(database, "me", [0])
    await recording.flush(
        database, "me", epochs, Flush(parked=[parked(seq=seq) for seq in (1, 2, 3)]), number=1, macs=LOG_MACS
    )
    await recording.flush(
        database, "me", epochs, Flush(retries=[retry(seq=2, after=LATER, is_held=True)]), number=2, macs=LOG_MACS
    )
    packed = await backlog.oldest_packed(database, ROUTE, after=None)
    assert packed is not None
    assert [row.seq for row in packed.deliveries] == [1, 3]
