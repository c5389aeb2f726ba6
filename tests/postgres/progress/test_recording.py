"""The fenced write: all of a batch for the shards that the process holds, nothing for the others, nothing twice."""

import asyncio
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from eventstore import domain_events
from eventstore.domain_events import polls
from eventstore.domain_events.ticks import LogMark
from eventstore.leases import lease
from eventstore.leases.process import heartbeat
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import StoreUnavailable, ValueRefused
from eventstore.progress import backlog, recording
from eventstore.progress.recording import Flush
from eventstore.progress.rows import ATTEMPT_COLUMNS, AttemptRow, ParkedKey, SettledRow
from tests.support.postgres.fault_proxy import fault_proxy
from tests.support.postgres.queries import Connect, until_waiting
from tests.support.rows.credentials import LOG_MACS, unsigned_outcomes
from tests.support.values.builders import NOON, ROUTE, TENANTS, attempt, new_event, parked, process, retry

GONE = timedelta(seconds=-1)
TABLES = ("attempt", "retry", "parked")


@dataclass
class Owner:
    """A process that holds shards."""

    database: Database
    name: str = "me"
    epochs: dict[int, int] = field(default_factory=dict)
    number: int = 0

    async def take(self, *shards: int, ttl: timedelta = lease.TTL) -> "Owner":
        self.epochs |= await lease.acquire(self.database, self.name, shards, ttl=ttl)
        return self

    async def flush(self, batch: Flush, *, number: int | None = None) -> set[int]:
        self.number += 1
        return await recording.flush(
            self.database, self.name, self.epochs, batch, number=number or self.number, macs=LOG_MACS
        )

    async def suppress(
        self,
        closed_at: datetime,
        *,
        route_id: UUID = ROUTE,
        in_flight: tuple[int, ...] = (),
        mark: LogMark | None = None,
    ) -> int:
        ((shard, epoch),) = self.epochs.items()
        suppressed = await recording.suppress(
            self.database,
            self.name,
            shard=shard,
            epoch=epoch,
            route_id=route_id,
            closed_at=closed_at,
            in_flight=in_flight,
            route_version=4,
            mark=mark or LogMark(),
            macs=LOG_MACS,
        )
        assert suppressed.removed >= (suppressed.noted > 0)
        return suppressed.noted


def everything(shard: int, *, seq: int = 1, tick: int = 1) -> Flush:
    return Flush(
        attempts=[attempt(shard=shard, seq=seq, tick=tick)],
        retries=[retry(shard=shard, seq=seq + 1, tick=tick)],
        parked=[parked(shard=shard, seq=seq + 2, tick=tick)],
        checkpoints={shard: tick},
    )


async def counts(sql: asyncpg.Connection) -> tuple[int, ...]:
    return tuple([await sql.fetchval(f"SELECT count(*) FROM hookledger.{table}") for table in TABLES])


async def test_a_flush_writes_all_its_parts(database: Database, sql: asyncpg.Connection) -> None:
    me = await Owner(database).take(3)
    rows = [attempt(shard=3, seq=seq, number=seq) for seq in range(1, 6)]
    rows.append(
        attempt(shard=3, seq=6, outcome="retrying", status_code=None)._replace(
            error="timeout", response_head="HTTP/1.1", response_body=b"\0\xff", key_ids=None, is_test=True
        )
    )
    batch = Flush(
        attempts=rows,
        retries=[retry(shard=3, seq=6, failures=2, after=timedelta(minutes=1))],
        parked=[parked(shard=3, seq=7, tick=2), parked(shard=3, seq=8, tick=2)],
        checkpoints={3: 2},
    )
    assert await me.flush(batch) == {3}
    stored = await sql.fetch(f"SELECT {', '.join(AttemptRow._fields)} FROM hookledger.attempt ORDER BY seq")
    assert [AttemptRow(*row.values()) for row in stored] == rows
    assert await unsigned_outcomes(sql) == []
    assert tuple((await sql.fetch("SELECT * FROM hookledger.attempt LIMIT 1"))[0].keys()) == ATTEMPT_COLUMNS
    (row,) = await sql.fetch("SELECT *, due_at - clock_timestamp() AS due FROM hookledger.retry")
    assert timedelta(seconds=50) < row["due"] <= timedelta(minutes=1)
    assert (row["seq"], row["failures"], row["recorded_at"], row["event_time"]) == (6, 2, NOON, NOON)
    (row,) = await sql.fetch("SELECT * FROM hookledger.parked")
    assert (row["shard"], row["epoch"], row["flush"], row["last_tick"], row["seqs"], row["ticks"]) == (
        3,
        1,
        1,
        2,
        [7, 8],
        [2, 2],
    )
    assert await backlog.checkpoints(database, [3, 4]) == {3: 2, 4: 0}


async def test_an_empty_flush_answers_what_is_held(database: Database, sql: asyncpg.Connection) -> None:
    me = await Owner(database).take(1, 2)
    assert await me.flush(Flush()) == {1, 2}
    assert await Owner(database).flush(Flush()) == set()
    assert await counts(sql) == (0, 0, 0)


@pytest.mark.parametrize("wrong", ["owner", "epoch", "taken over", "never held"])
async def test_who_does_not_hold_the_lease_writes_nothing_of_any_part(
    database: Database, sql: asyncpg.Connection, wrong: str
) -> None:
    me = await Owner(database).take(0, ttl=GONE)
    assert await me.flush(everything(0)) == {0}
    before = await counts(sql)
    match wrong:
        case "owner":
            me.name = "another"
        case "epoch":
            me.epochs[0] += 1
        case "taken over":
            await Owner(database, "another").take(0)
        case _:
            me.epochs = {1: 0}
    batch = everything(0, seq=10, tick=9)
    batch.settled = [SettledRow(0, ROUTE, 2)]
    batch.drained = [ParkedKey(0, 1, 1, ROUTE)]
    assert await me.flush(batch) == set()
    assert await counts(sql) == before
    assert await backlog.checkpoints(database, [0]) == {0: 1}


async def test_leases_of_shards_without_rows_are_not_locked(
    database: Database, sql: asyncpg.Connection, connect: Connect
) -> None:
    me = await Owner(database).take(0, 1)
    other = await connect()
    await other.execute("BEGIN; SELECT FROM hookledger.lease WHERE shard = 1 FOR UPDATE")
    assert await me.flush(everything(0)) == {0, 1}
    await other.execute("COMMIT")
    assert await counts(sql) == (1, 1, 1)


async def test_an_expired_lease_that_nobody_took_still_writes(database: Database, sql: asyncpg.Connection) -> None:
    me = await Owner(database).take(0, ttl=GONE)
    assert await me.flush(everything(0)) == {0}
    assert await counts(sql) == (1, 1, 1)


async def test_of_partly_lost_shards_the_rest_is_written(database: Database, sql: asyncpg.Connection) -> None:
    me = await Owner(database).take(0, 1, 2, ttl=GONE)
    await Owner(database, "another").take(1)
    batch = Flush()
    for shard in range(3):
        part = everything(shard, seq=shard * 10 + 1)
        batch.attempts += part.attempts
        batch.retries += part.retries
        batch.parked += part.parked
        batch.checkpoints |= part.checkpoints
    assert await me.flush(batch) == {0, 2}
    for table in TABLES:
        rows = await sql.fetch(f"SELECT shard FROM hookledger.{table} ORDER BY shard")
        assert [row["shard"] for row in rows] == [0, 2], table
    assert await backlog.checkpoints(database, [0, 1, 2]) == {0: 1, 1: 0, 2: 1}


async def test_a_batch_written_again_changes_nothing_and_says_what_is_held(
    database: Database, sql: asyncpg.Connection
) -> None:
    me = await Owner(database).take(0, 1)
    batch = everything(0)
    assert await me.flush(batch, number=1) == {0, 1}
    assert await me.flush(batch, number=1) == {0, 1}
    assert await counts(sql) == (1, 1, 1)
    assert await me.flush(everything(0, seq=10), number=2) == {0, 1}
    assert await me.flush(batch, number=1) == {0, 1}
    assert await counts(sql) == (2, 2, 2)


async def test_a_new_epoch_numbers_its_flushes_afresh(database: Database, sql: asyncpg.Connection) -> None:
    me = await Owner(database).take(0, ttl=GONE)
    await me.flush(everything(0), number=50)
    you = await Owner(database, "you").take(0)
    assert await you.flush(everything(0, seq=10), number=1) == {0}
    assert await counts(sql) == (2, 2, 2)


async def test_a_flush_whose_answer_was_lost_is_repeated_without_harm(
    database: Database, database_url: str, sql: asyncpg.Connection
) -> None:
    me = await Owner(database).take(0)
    async with fault_proxy(database_url) as proxy:
        far = Database(proxy.url, pool_size=1)
        await far.open()
        assert await recording.flush(far, me.name, me.epochs, Flush(), number=1, macs=LOG_MACS) == {0}
        proxy.lose_answers()
        with pytest.raises(StoreUnavailable):
            await recording.flush(far, me.name, me.epochs, everything(0), number=2, seconds=1, macs=LOG_MACS)
        assert proxy.lost_bytes > 0
        proxy.restore()
        proxy.cut()
        proxy.restore()
        assert await counts(sql) == (1, 1, 1), "the first one was committed"
        assert await recording.flush(far, me.name, me.epochs, everything(0), number=2, macs=LOG_MACS) == {0}
        await far.close()
    assert await counts(sql) == (1, 1, 1)


async def test_two_runs_of_the_same_flush_at_once_write_once(
    database: Database, sql: asyncpg.Connection, connect: Connect
) -> None:
    """The first run hangs in the server without its client while the second one is sent."""
    me = await Owner(database).take(0, 1)
    blocker = await connect()
    await blocker.execute("BEGIN; SELECT FROM hookledger.lease WHERE shard = 0 FOR UPDATE")
    runs = [asyncio.create_task(me.flush(everything(0), number=7)) for _ in range(3)]
    await until_waiting(sql, count=3)
    await blocker.execute(
        "UPDATE hookledger.lease SET expires_at = expires_at + interval '1 second' WHERE shard = 0; COMMIT"
    )
    assert await asyncio.gather(*runs) == [{0, 1}] * 3
    assert await counts(sql) == (1, 1, 1)


async def test_a_retry_is_moved_by_the_next_one_and_goes_when_settled(
    database: Database, sql: asyncpg.Connection
) -> None:
    me = await Owner(database).take(0)
    await me.flush(Flush(retries=[retry(seq=1, failures=1), retry(seq=2, failures=1)]))
    await me.flush(Flush(retries=[retry(seq=1, failures=2, after=timedelta(hours=1))]))
    rows = await sql.fetch(
        "SELECT seq, failures, due_at > now() + interval '30 minutes' AS later FROM hookledger.retry ORDER BY seq"
    )
    assert [tuple(row.values()) for row in rows] == [(1, 2, True), (2, 1, False)]
    await me.flush(Flush(settled=[SettledRow(0, ROUTE, 1), SettledRow(0, ROUTE, 77)]))
    assert [row["seq"] for row in await sql.fetch("SELECT seq FROM hookledger.retry")] == [2]


async def test_parked_deliveries_are_packed_by_route_in_order_of_seq(database: Database) -> None:
    me = await Owner(database).take(0, 5)
    other = uuid4()
    at = [NOON + timedelta(seconds=second) for second in range(10)]
    rows = [parked(seq=seq, tick=seq // 2, recorded_at=at[seq], event_time=at[seq - 1]) for seq in (5, 1, 9, 3)]
    rows += [parked(seq=4, route_id=other, shard=5)]
    await me.flush(Flush(parked=rows))
    await me.flush(Flush(parked=[parked(seq=2)]))
    first = await backlog.oldest_packed(database, ROUTE, after=None)
    assert first is not None
    assert [(d.seq, d.tick, d.recorded_at, d.event_time, d.shard, d.failures) for d in first.deliveries] == [
        (seq, seq // 2, at[seq], at[seq - 1], 0, 0) for seq in (1, 3, 5, 9)
    ]
    second = await backlog.oldest_packed(database, ROUTE, after=first.key)
    assert second is not None
    assert [d.seq for d in second.deliveries] == [2]
    assert await backlog.oldest_packed(database, ROUTE, after=second.key) is None
    assert await backlog.parked_routes(database, [0, 5]) == {ROUTE: (0, 5, None), other: (5, 1, None)}
    await me.flush(Flush(drained=[first.key]))
    assert await backlog.oldest_packed(database, ROUTE, after=None) == second


async def test_a_checkpoint_never_goes_back(database: Database) -> None:
    me = await Owner(database).take(0)
    for tick, expected in ((5, 5), (3, 5), (5, 5), (6, 6)):
        await me.flush(Flush(checkpoints={0: tick}))
        assert await backlog.checkpoints(database, [0]) == {0: expected}


async def test_a_takeover_waits_for_a_flush_that_is_under_way(
    database: Database, sql: asyncpg.Connection, connect: Connect
) -> None:
    """A flush locks the lease row until its end, so the successor sees all of it."""
    me = await Owner(database).take(0, ttl=GONE)
    flusher = await connect()
    await flusher.execute("BEGIN")
    assert await flusher.fetch(
        recording._FLUSH, *recording._arguments(everything(0), me.name, {0: 1}, 1, LOG_MACS, None)
    )
    assert (await Owner(database, "you").take(0)).epochs == {}, "skipped while locked"
    await flusher.execute("COMMIT")
    you = await Owner(database, "you").take(0)
    assert you.epochs == {0: 2}
    assert await backlog.accounted(database, {0: 0}) == {0: {(ROUTE, 1), (ROUTE, 2), (ROUTE, 3)}}
    assert await me.flush(everything(0, seq=10)) == set()
    assert await counts(sql) == (1, 1, 1)


async def test_a_flush_that_waited_for_a_takeover_writes_nothing(
    database: Database, sql: asyncpg.Connection, connect: Connect
) -> None:
    me = await Owner(database).take(0, 1, ttl=GONE)
    taker = await connect()
    await taker.execute("BEGIN; UPDATE hookledger.lease SET owner = 'you', epoch = epoch + 1 WHERE shard = 0")
    batch = everything(0)
    batch.attempts.append(attempt(shard=1, seq=50))
    flushing = asyncio.create_task(me.flush(batch))
    await until_waiting(sql)
    await taker.execute("COMMIT")
    assert await flushing == {1}
    assert await counts(sql) == (1, 0, 0)
    assert await sql.fetchval("SELECT seq FROM hookledger.attempt") == 50


async def test_a_flush_that_waited_for_a_renewal_writes_all(
    database: Database, sql: asyncpg.Connection, connect: Connect
) -> None:
    me = await Owner(database).take(0)
    renewer = await connect()
    await renewer.execute("BEGIN; UPDATE hookledger.lease SET expires_at = 'infinity' WHERE shard = 0")
    flushing = asyncio.create_task(me.flush(everything(0)))
    await until_waiting(sql)
    await renewer.execute("COMMIT")
    assert await flushing == {0}
    assert await counts(sql) == (1, 1, 1)


async def test_flushes_and_renewals_at_once_do_not_deadlock(database: Database, sql: asyncpg.Connection) -> None:
    me = await Owner(database).take(*range(16))
    backwards = dict(sorted(me.epochs.items(), reverse=True))

    async def flush_often() -> None:
        for number in range(1, 31):
            batch = Flush(
                attempts=[attempt(shard=shard, seq=number) for shard in range(16)],
                checkpoints=dict.fromkeys(range(15, -1, -1), number),
            )
            assert await me.flush(batch, number=number) == set(range(16))

    async def renew_often(epochs: dict[int, int]) -> None:
        for _ in range(30):
            assert (await heartbeat(database, process(me.name), epochs)).held == set(range(16))

    await asyncio.gather(flush_often(), renew_often(me.epochs), renew_often(backwards))
    assert await sql.fetchval("SELECT count(*) FROM hookledger.attempt") == 480


async def test_an_outcome_that_does_not_exist_is_refused_with_the_whole_batch(
    database: Database, sql: asyncpg.Connection
) -> None:
    me = await Owner(database).take(0)
    batch = everything(0)
    batch.attempts.append(attempt(outcome="perhaps"))
    with pytest.raises(ValueRefused, match="attempt_outcome_check"):
        await me.flush(batch)
    assert await counts(sql) == (0, 0, 0)


# --- suppression


async def waiting_events(database: Database, count: int) -> list[tuple[int, datetime]]:
    await domain_events.publish(database, [new_event(id=f"s{number}", tenant=TENANTS[0]) for number in range(count)])
    found = [(await domain_events.find(database, f"s{number}"))[0] for number in range(count)]
    return [(event.seq, event.recorded_at) for event in found]


async def test_a_closed_window_suppresses_what_waits_from_before(database: Database, sql: asyncpg.Connection) -> None:
    me = await Owner(database).take(0)
    events = await waiting_events(database, 6)
    closed_at = NOON + timedelta(minutes=1)
    before, after = NOON, closed_at
    rows = [
        retry(seq=seq, recorded_at=at, event_time=before if place < 2 else after, tick=7)
        for place, (seq, at) in enumerate(events[:3])
    ]
    packed = [parked(seq=seq, recorded_at=at, event_time=before, tick=8) for seq, at in events[3:5]]
    mixed = [parked(seq=events[5][0], recorded_at=events[5][1], event_time=after)]
    await me.flush(Flush(retries=rows, parked=packed))
    await me.flush(Flush(parked=mixed))
    assert await me.suppress(closed_at) == 4
    assert await me.suppress(closed_at) == 0
    assert await unsigned_outcomes(sql) == []
    noted = await sql.fetch(
        "SELECT seq, tick, number, outcome, route_version, event_id, event_type, tenant FROM hookledger.attempt ORDER BY seq"
    )
    assert [tuple(row.values()) for row in noted] == [
        (events[place][0], tick, 0, "suppressed", 4, f"s{place}", "order.create", TENANTS[0])
        for place, tick in ((0, 7), (1, 7), (3, 8), (4, 8))
    ]
    assert [row["seq"] for row in await sql.fetch("SELECT seq FROM hookledger.retry")] == [events[2][0]]
    assert [row["seqs"] for row in await sql.fetch("SELECT seqs FROM hookledger.parked")] == [[events[5][0]]]


async def test_what_is_in_flight_or_of_another_route_is_not_suppressed(
    database: Database, sql: asyncpg.Connection
) -> None:
    me = await Owner(database).take(0)
    (one, at), (two, _), (three, _), (four, _) = await waiting_events(database, 4)
    other = uuid4()
    await me.flush(
        Flush(
            retries=[retry(seq=one, recorded_at=at), retry(seq=two, recorded_at=at, route_id=other)],
            parked=[parked(seq=three, recorded_at=at), parked(seq=four, recorded_at=at)],
        )
    )
    assert await me.suppress(NOON + timedelta(1), in_flight=(one, four)) == 0
    assert await counts(sql) == (0, 2, 1)


async def test_a_suppression_ends_after_a_thousand_deliveries_and_the_packed_row_that_they_end_in(
    database: Database, sql: asyncpg.Connection
) -> None:
    """All that is written for the shard, and all that is moved into memory, waits for a batch."""
    me = await Owner(database).take(0)
    for first in (1, 701, 1401):
        await me.flush(Flush(parked=[parked(seq=seq) for seq in range(first, first + 700)]))
    left = []
    for _ in range(3):
        await me.suppress(NOON + timedelta(1))
        left.append(await sql.fetchval("SELECT count(*) FROM hookledger.parked"))
    assert left == [1, 0, 0]


async def test_who_lost_the_lease_suppresses_nothing(database: Database, sql: asyncpg.Connection) -> None:
    me = await Owner(database).take(0, ttl=GONE)
    ((seq, at),) = await waiting_events(database, 1)
    await me.flush(Flush(retries=[retry(seq=seq, recorded_at=at)]))
    await Owner(database, "you").take(0)
    assert await me.suppress(NOON + timedelta(1)) == 0
    assert await counts(sql) == (0, 1, 0)


async def test_nothing_is_written_to_a_log_that_is_not_the_one_that_was_read(
    database: Database, sql: asyncpg.Connection
) -> None:
    await domain_events.publish(database, [new_event()])
    read = (await polls.poll(database, known_tick=0, known_pos=0)).mark
    assert (read.timeline, read.tick) == (1, 1)
    owner = await Owner(database).take(3)
    for other in (read._replace(timeline=2), read._replace(tick=2), read._replace(snap="1:1:")):
        assert await owner.flush(replace(everything(3), read=other)) == set()
    assert await counts(sql) == (0, 0, 0)
    assert await owner.flush(replace(everything(3), read=read)) == {3}
    assert await counts(sql) == (1, 1, 1)


async def test_nothing_is_suppressed_in_a_log_that_is_not_the_one_that_was_read(
    database: Database, sql: asyncpg.Connection
) -> None:
    me = await Owner(database).take(0)
    ((seq, at),) = await waiting_events(database, 1)
    read = (await polls.poll(database, known_tick=0, known_pos=0)).mark
    await me.flush(Flush(retries=[retry(seq=seq, recorded_at=at)]))
    for other in (read._replace(timeline=2), read._replace(tick=2), read._replace(snap="1:1:")):
        assert await me.suppress(NOON + timedelta(1), mark=other) == 0
    assert await counts(sql) == (0, 1, 0)
    assert await me.suppress(NOON + timedelta(1), mark=read) == 1
