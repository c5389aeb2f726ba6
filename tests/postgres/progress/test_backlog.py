"""The backlog: waiting deliveries, and the pairs that a crashed owner had accounted for."""

from collections.abc import Collection
from datetime import timedelta
from uuid import UUID

from eventstore import domain_events
from eventstore.leases import lease
from eventstore.postgres.connect import Database
from eventstore.progress import backlog, recording
from eventstore.progress.recording import Flush
from eventstore.progress.rows import AttemptRow, ParkedRow, RetryRow
from tests.support.rows.credentials import LOG_MACS
from tests.support.values.builders import NOON, ROUTE, attempt, new_event, parked, retry

OTHER = UUID(int=7)
HOUR = timedelta(hours=1)


async def written(database: Database, *flushes: Flush) -> None:
    epochs = await lease.acquire(database, "me", range(16))
    for number, batch in enumerate(flushes, 1):
        assert await recording.flush(database, "me", epochs, batch, number=number, macs=LOG_MACS) == set(range(16))


async def seqs_due(
    database: Database, shards: list[int], *, held: Collection[backlog.Pair] = (), limit: int = 10
) -> list[int]:
    return [waiting.seq for waiting in await backlog.due(database, shards, held=held, limit=limit)]


async def test_due_retries_come_oldest_first_without_those_in_hand(database: Database) -> None:
    rows = [retry(seq=seq, shard=seq % 2, after=-timedelta(minutes=seq)) for seq in range(1, 7)]
    await written(
        database,
        Flush(retries=[*rows, retry(seq=9, after=HOUR), retry(seq=3, route_id=OTHER, shard=1, after=-2 * HOUR)]),
    )
    assert await seqs_due(database, [0, 1]) == [3, 6, 5, 4, 3, 2, 1]
    assert await seqs_due(database, [0]) == [6, 4, 2]
    assert await seqs_due(database, [0, 1], held={(ROUTE, 6), (ROUTE, 3), (OTHER, 6)}) == [3, 5, 4, 2, 1]
    assert await seqs_due(database, [0, 1], limit=2) == [3, 6]
    assert await seqs_due(database, []) == []
    (first, *_) = await backlog.due(database, [0], held=[], limit=1)
    assert first == backlog.WaitingDelivery(
        route_id=ROUTE, seq=6, tick=1, shard=0, recorded_at=NOON, event_time=NOON, failures=1
    )


async def test_due_retries_say_how_large_their_events_are(database: Database) -> None:
    ids = ("small", "large", "whole")
    payloads = {"small": b"{}", "large": b"x" * 1000, "whole": b"{}"}
    events = [new_event(id=id, data=payloads[id]) for id in ids]
    events[2].context, events[2].snapshot = b"c" * 10, b"s" * 100
    await domain_events.publish(database, events)
    stored = [(await domain_events.find(database, id))[0] for id in ids]
    rows = [retry(seq=event.seq, recorded_at=event.recorded_at, after=-HOUR) for event in stored]
    await written(database, Flush(retries=[*rows, retry(seq=99, after=-HOUR)]))
    due = await backlog.due(database, [0], held=[], limit=10)
    sizes = {event.seq: event.size_bytes for event in stored}
    assert sorted(sizes.values()) == [502, 612, 1500]
    assert {row.seq: row.size_bytes for row in due} == sizes | {99: 0}
    first = await backlog.first_of_routes(database, [ROUTE], each=10, limit=10)
    assert {row.seq: row.size_bytes for row in first} == sizes | {99: 0}


async def test_of_ordered_routes_the_first_ones_come_first_and_wait_for_what_is_not_due(database: Database) -> None:
    late = UUID(int=8)
    await written(
        database,
        Flush(
            retries=[
                *(retry(seq=seq, after=-HOUR) for seq in (3, 1, 2, 4)),
                *(retry(seq=seq, route_id=OTHER, after=HOUR if seq == 6 else -HOUR) for seq in (5, 6, 7)),
                retry(seq=8, route_id=late, after=HOUR),
                retry(seq=9, route_id=late, after=-HOUR, failures=0),
            ]
        ),
    )
    routes = [ROUTE, OTHER, late]
    first = await backlog.first_of_routes(database, routes, each=3, limit=10)
    assert [(row.route_id, row.seq) for row in first] == [
        (ROUTE, 1), (OTHER, 5), (late, 9), (ROUTE, 2), (ROUTE, 3),
    ]  # fmt: skip
    assert await backlog.first_of_routes(database, routes, each=3, limit=4) == first[:4]
    assert await backlog.first_of_routes(database, [], each=3, limit=4) == []


async def test_the_next_retry_is_announced_in_seconds(database: Database) -> None:
    assert await backlog.waiting(database, [0]) == (None, True)
    await written(
        database,
        Flush(
            retries=[
                retry(seq=1, after=HOUR),
                retry(seq=2, after=2 * HOUR),
                retry(seq=3, after=-HOUR),
                retry(seq=4, shard=1, after=HOUR / 2),
            ]
        ),
    )
    seconds, is_empty = await backlog.waiting(database, [0])
    assert seconds is not None
    assert 3500 < seconds <= 3600
    assert not is_empty
    assert await backlog.waiting(database, [2]) == (None, True)


async def test_a_retry_that_is_due_already_is_not_announced_and_not_overlooked(database: Database) -> None:
    await written(database, Flush(retries=[retry(seq=1, after=-HOUR)]))
    assert await backlog.waiting(database, [0]) == (None, False)


async def test_routes_with_something_waiting_are_known_by_shard(database: Database) -> None:
    await written(
        database,
        Flush(
            retries=[retry(seq=1), retry(seq=2), retry(seq=1, shard=3, route_id=OTHER)],
            parked=[parked(seq=5), parked(seq=6, route_id=OTHER, shard=3)],
        ),
        Flush(parked=[parked(seq=7)]),
    )
    assert await backlog.parked_routes(database, range(16)) == {ROUTE: (0, 2, None), OTHER: (3, 1, None)}
    assert await backlog.parked_routes(database, [3]) == {OTHER: (3, 1, None)}
    assert await backlog.retrying_routes(database, [0]) == {ROUTE}


async def test_a_packed_row_leaves_out_what_was_done_before_a_crash(database: Database) -> None:
    await written(
        database,
        Flush(parked=[parked(seq=seq) for seq in range(1, 6)]),
        Flush(attempts=[attempt(seq=2), attempt(seq=4, outcome="retrying"), attempt(seq=1, route_id=OTHER)]),
    )
    packed = await backlog.oldest_packed(database, ROUTE, after=None)
    assert packed is not None
    assert [waiting.seq for waiting in packed.deliveries] == [1, 3, 5]
    assert await backlog.oldest_packed(database, OTHER, after=None) is None


async def test_packed_rows_of_an_older_epoch_come_first(database: Database) -> None:
    for epoch in (1, 2, 3):
        epochs = await lease.acquire(database, f"owner-{epoch}", [0], ttl=timedelta(seconds=-1))
        assert epochs == {0: epoch}
        for number in (9, 10):
            batch = Flush(parked=[parked(seq=epoch * 100 + number)])
            await recording.flush(database, f"owner-{epoch}", epochs, batch, number=number, macs=LOG_MACS)
    seen, after = [], None
    while (packed := await backlog.oldest_packed(database, ROUTE, after=after)) is not None:
        seen += [waiting.seq for waiting in packed.deliveries]
        after = packed.key
    assert seen == [109, 110, 209, 210, 309, 310]


async def test_what_has_an_outcome_a_retry_or_a_parked_row_is_accounted_for(database: Database) -> None:
    one = Flush(
        attempts=[attempt(seq=1, tick=5), attempt(seq=2, tick=6), attempt(seq=3, tick=6, shard=1)],
        retries=[retry(seq=4, tick=6), retry(seq=5, tick=5), retry(seq=2, tick=6)],
        parked=[parked(seq=6, tick=5), parked(seq=7, tick=6), parked(seq=8, tick=6, shard=1, route_id=OTHER)],
    )
    await written(database, one)
    # All pairs of a packed row count if its last tick does. Extra pairs of an older tick do no harm.
    assert await backlog.accounted(database, {0: 5}) == {0: {(ROUTE, seq) for seq in (2, 4, 6, 7)}}
    assert await backlog.accounted(database, {1: 5}) == {1: {(ROUTE, 3), (OTHER, 8)}}
    assert await backlog.accounted(database, {0: 6, 1: 6}) == {}
    everything = await backlog.accounted(database, {0: 0, 1: 0})
    assert {shard: len(pairs) for shard, pairs in everything.items()} == {0: 6, 1: 2}


async def test_a_shard_that_is_behind_has_no_more_read_of_the_others(database: Database) -> None:
    rows = Flush(
        attempts=[attempt(seq=seq, tick=seq, shard=shard) for seq in (3, 7) for shard in (0, 1)],
        retries=[
            retry(seq=10 * shard + seq, tick=seq, shard=shard, route_id=OTHER) for seq in (3, 7) for shard in (0, 1)
        ],
        parked=[parked(seq=20 + shard, tick=3, shard=shard) for shard in (0, 1)],
    )
    await written(database, rows)
    assert await backlog.accounted(database, {0: 2, 1: 6}) == {
        0: {(ROUTE, 3), (ROUTE, 7), (OTHER, 3), (OTHER, 7), (ROUTE, 20)},
        1: {(ROUTE, 7), (OTHER, 17)},
    }


def test_rows_have_the_width_of_their_statement() -> None:
    assert (len(AttemptRow._fields), len(RetryRow._fields), len(ParkedRow._fields)) == (20, 10, 7)
