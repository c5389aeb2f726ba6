"""Queries over the outcome log."""

from datetime import timedelta
from uuid import UUID

import pytest

from eventstore.leases import lease
from eventstore.postgres.connect import Database
from eventstore.progress import recording
from eventstore.progress.recording import Flush
from eventstore.queries.deliveries import attempts
from tests.support.rows.credentials import LOG_MACS
from tests.support.values.builders import ROUTE, attempt, parked, retry

OTHER = UUID(int=7)


async def test_attempts_come_in_the_order_of_recording(database: Database) -> None:
    epochs = await lease.acquire(database, "me", range(16))
    batches = [
        Flush(
            attempts=[
                attempt(seq=1, number=1, outcome="retrying", status_code=None)._replace(error="timeout"),
                attempt(seq=2),
            ]
        ),
        Flush(attempts=[attempt(seq=1, number=2), attempt(seq=1, route_id=OTHER), attempt(seq=3)]),
    ]
    for number, batch in enumerate(batches, 1):
        await recording.flush(database, "me", epochs, batch, number=number, macs=LOG_MACS)
    found = await attempts.attempts(database, [ROUTE], first=1, last=2)
    assert sorted((row.seq, row.number) for row in found) == [(1, 1), (1, 2), (2, 1)]
    one = [row for row in found if row.seq == 1]
    assert [
        (row.number, row.outcome, row.status_code, row.error, row.route_version, row.duration_ms, row.key_ids)
        for row in one
    ] == [
        (1, "retrying", None, "timeout", 3, 12, "k1"),
        (2, "delivered", 200, None, 3, 12, "k1"),
    ]
    assert one[0].at < one[1].at
    assert len(await attempts.attempts(database, [ROUTE, OTHER], first=1, last=3)) == 5
    assert await attempts.attempts(database, [], first=1, last=3) == []


async def test_of_a_delivery_that_was_sent_very_often_the_newest_attempts_are_read_and_the_one_that_delivered(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delivery that was sent again 20,000 times had all its answers read at once: 1.3 GB for one page."""
    monkeypatch.setattr(attempts, "MAX_ATTEMPTS", 3)
    epochs = await lease.acquire(database, "me", range(16))
    outcomes = ("retrying", "delivered", "retrying", "retrying", "failed", "delivered")
    rows = [attempt(seq=1, number=number, outcome=outcome) for number, outcome in enumerate(outcomes, 1)]
    other = [attempt(seq=1, number=number, outcome="retrying", route_id=OTHER) for number in range(1, 6)]
    await recording.flush(database, "me", epochs, Flush(attempts=rows + other), number=1, macs=LOG_MACS)

    found = await attempts.attempts(database, [ROUTE, OTHER], first=1, last=1)
    exchanges = await attempts.exchanges(database, ROUTE, 1, event_time=attempt().event_time)

    assert [row.number for row in found if row.route_id == ROUTE] == [2, 4, 5, 6]
    assert [row.number for row in found if row.route_id == OTHER] == [3, 4, 5]
    assert [row.number for row in exchanges] == [4, 5, 6]


async def test_pending_deliveries_tell_where_they_wait(database: Database) -> None:
    epochs = await lease.acquire(database, "me", [0])
    batch = Flush(
        retries=[retry(seq=1, failures=4, after=timedelta(hours=1)), retry(seq=9)],
        parked=[parked(seq=seq) for seq in (2, 3, 10)] + [parked(seq=2, route_id=OTHER)],
    )
    await recording.flush(database, "me", epochs, batch, number=1, macs=LOG_MACS)
    found = {}
    for seq in (1, 2, 4):
        waiting = await attempts.waiting(database, [ROUTE, OTHER], seq=seq, event_time=parked().event_time)
        found[seq] = sorted((row.state, row.route_id == ROUTE, row.failures, row.due_at is None) for row in waiting)
    assert found == {
        1: [("retrying", True, 4, False)],
        2: [("parked", False, 0, True), ("parked", True, 0, True)],
        4: [],
    }
