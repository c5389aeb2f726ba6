"""The fenced statement that records the progress of deliveries (`_FLUSH`), and the suppression of a closed window.

There is no job queue: a row per delivery would cost 660 to 3,080 bytes of write-ahead log and two dead tuples; a cursor
and an outcome log cost 105 to 265 bytes and none. Outcomes, retries, parked rows and checkpoints are written in one
statement, so that no crash can fall between them. The statement first locks the lease rows of the shards it writes for.
A shard whose owner or epoch has changed is left out of every part of it: this is the fence. Nothing at all is written
to a log that is not the one that was read: what a promoted standby never received cannot be progress there.

The lease row also has the number of the last flush under its epoch. A flush is repeated when its answer was lost, which
may have happened after the commit. A flush with a number that is not above the stored one writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from eventstore.domain_events.ticks import LogMark
from eventstore.postgres.connect import DEADLINE_SECONDS, Database
from eventstore.progress.log_macs import LogMacs
from eventstore.progress.rows import (
    INSERT_OUTCOMES,
    RECORDED,
    AttemptRow,
    CheckpointRow,
    Parameters,
    ParkedKey,
    ParkedRow,
    RangeRow,
    RetryRow,
    SettledRow,
    columns,
    outcome_without_request,
)
from eventstore.progress.steady_time import CLOCK_TIME


class Suppressed(NamedTuple):
    """How many outcomes were written, and how many rows were removed. A packed row may contain many deliveries, and
    some that were sent before.
    """

    noted: int
    removed: int


@dataclass(slots=True, kw_only=True)
class Flush:
    """What one flush writes. `settled` are (shard, route, seq) of rows to delete from `retry`, `drained` are packed
    rows to delete from `parked`, `checkpoints` maps a shard to its new checkpoint. `read` is the log that all this is
    about: nothing is written to another one.
    """

    attempts: list[AttemptRow] = field(default_factory=list)
    retries: list[RetryRow] = field(default_factory=list)
    settled: list[SettledRow] = field(default_factory=list)
    parked: list[ParkedRow] = field(default_factory=list)
    drained: list[ParkedKey] = field(default_factory=list)
    ranges: list[RangeRow] = field(default_factory=list)
    read: LogMark = field(default_factory=LogMark)
    checkpoints: dict[int, int] = field(default_factory=dict)

    @property
    def shards(self) -> set[int]:
        """The shards for which the batch has something to write."""
        parts = (self.attempts, self.retries, self.settled, self.parked, self.drained, self.ranges)
        return set(self.checkpoints).union(*({row.shard for row in part} for part in parts))


def _statement() -> str:
    """The flush. Its parameters are those of `_arguments`, in the same order."""
    parameters = Parameters()
    owner, shards, epochs, number, touched, timeline, tick, snap, now = (parameters.one() for _ in range(9))
    attempts = f"unnest({parameters.one()}::hookledger.attempt[]) AS a"
    retries = parameters.unnest(RetryRow._fields, "r")
    settled = parameters.unnest(SettledRow._fields, "s")
    parked = parameters.unnest(ParkedRow._fields, "p")
    drained = parameters.unnest(ParkedKey._fields, "d")
    ranges = parameters.unnest(RangeRow._fields, "g")
    checkpoints = parameters.unnest(CheckpointRow._fields, "n")
    recorded = ", ".join(RECORDED)
    values = ", ".join(f"a.{name}" for name in RECORDED)
    ours = f"""
      FROM hookledger.lease l
      JOIN unnest({shards}::smallint[], {epochs}::bigint[]) AS mine (shard, epoch)
        ON l.shard = mine.shard AND l.epoch = mine.epoch
     WHERE l.owner = {owner} AND (SELECT hookledger.is_same_log({timeline}, {tick}, {snap}))"""
    return f"""
WITH held AS MATERIALIZED (
    SELECT l.shard, l.epoch, l.flush < {number} AS is_new{ours} AND l.shard = ANY ({touched}::smallint[])
     ORDER BY l.shard FOR NO KEY UPDATE OF l
), writable AS MATERIALIZED (
    SELECT shard, epoch FROM held WHERE is_new
), numbered AS (
    UPDATE hookledger.lease l SET flush = {number} FROM writable w WHERE l.shard = w.shard
), recorded AS (
    INSERT INTO hookledger.attempt ({recorded})
    SELECT {values} FROM {attempts} WHERE a.shard IN (SELECT shard FROM writable)
), retried AS (
    INSERT INTO hookledger.retry (shard, route_id, seq, recorded_at, event_time, tick, failures, due_at, holder, tenant)
    SELECT r.shard, r.route_id, r.seq, r.recorded_at, r.event_time, r.tick, r.failures,
           coalesce({now}, {CLOCK_TIME}) + r.after, CASE WHEN r.is_held THEN {owner} END, r.tenant
      FROM {retries}
     WHERE r.shard IN (SELECT shard FROM writable)
    ON CONFLICT (route_id, seq) DO UPDATE
       SET failures = excluded.failures, due_at = excluded.due_at, holder = excluded.holder, replay = NULL
), settled AS (
    DELETE FROM hookledger.retry r USING {settled}
     WHERE r.route_id = s.route_id AND r.seq = s.seq AND s.shard IN (SELECT shard FROM writable)
), parked AS (
    INSERT INTO hookledger.parked (shard, epoch, flush, route_id, last_tick, seqs, ticks, recorded_ats, event_times,
           tenant)
    SELECT p.shard, w.epoch, {number}, p.route_id, max(p.tick), array_agg(p.seq ORDER BY p.tick, p.seq),
           array_agg(p.tick ORDER BY p.tick, p.seq), array_agg(p.recorded_at ORDER BY p.tick, p.seq),
           array_agg(p.event_time ORDER BY p.tick, p.seq), min(p.tenant)
      FROM {parked}
      JOIN writable w ON w.shard = p.shard
     GROUP BY p.shard, w.epoch, p.route_id
), drained AS (
    DELETE FROM hookledger.parked p USING {drained}
     WHERE p.route_id = d.route_id AND p.epoch = d.epoch AND p.flush = d.flush AND p.shard = d.shard
       AND d.shard IN (SELECT shard FROM writable)
), given_ranges AS MATERIALIZED (
    SELECT g.* FROM {ranges} WHERE g.shard IN (SELECT shard FROM writable)
), ranged AS (
    INSERT INTO hookledger.parked_range AS old (shard, route_id, from_tick, from_seq, pairs)
    SELECT g.shard, g.route_id, g.from_tick, g.from_seq, g.pairs FROM given_ranges g WHERE g.from_tick IS NOT NULL
    ON CONFLICT (route_id) DO UPDATE SET from_tick = excluded.from_tick, from_seq = excluded.from_seq,
           pairs = greatest(0, old.pairs + excluded.pairs)
), unranged AS (
    DELETE FROM hookledger.parked_range p USING given_ranges g WHERE p.route_id = g.route_id AND g.from_tick IS NULL
), moved AS (
    UPDATE hookledger.checkpoint c SET tick = n.tick FROM {checkpoints}
     WHERE c.shard = n.shard AND c.tick < n.tick AND n.shard IN (SELECT shard FROM writable)
)
SELECT shard FROM held
 UNION ALL
SELECT l.shard{ours} AND l.shard <> ALL ({touched}::smallint[])
"""


_FLUSH = _statement()

# All others who write for the shard, and all who move deliveries into memory, wait for a batch: it has so many pairs of
# packed rows, and those of one row more.
_SUPPRESSED_PAIRS = 1000

# NOT IN a subquery is hashed, and <> ALL of a parameter is not: two thousand may be in memory.
# $1 owner, $2 shard, $3 epoch, $4 route, $5 end of the closed window, $6 seqs that are in flight here, $7 to $9 the log
# that was read: timeline, tick and its snapshot. It must read no partitions: UNPRUNED in postgres/connect.py says why.
_TAKE_CLOSED = f"""
WITH held AS MATERIALIZED (
    SELECT shard FROM hookledger.lease
     WHERE owner = $1 AND shard = $2 AND epoch = $3 AND (SELECT hookledger.is_same_log($7, $8, $9))
       FOR NO KEY UPDATE
), retries AS (
    DELETE FROM hookledger.retry r
     WHERE r.route_id = $4 AND r.shard IN (SELECT shard FROM held) AND r.seq IN (
           SELECT q.seq FROM hookledger.retry q
            WHERE q.route_id = $4 AND q.event_time < $5 AND q.seq NOT IN (SELECT * FROM unnest($6::bigint[]))
              -- A delivery that another process has in flight gets its outcome from there, or is judged when due.
              AND (q.holder IS NULL OR q.due_at <= {CLOCK_TIME})
            LIMIT 1000)
    RETURNING r.seq, r.tick, r.recorded_at, r.event_time
), packed AS (
    DELETE FROM hookledger.parked p
     WHERE p.route_id = $4 AND p.shard IN (SELECT shard FROM held) AND (p.epoch, p.flush) IN (
           SELECT epoch, flush FROM (
                  SELECT epoch, flush, sum(pairs) OVER (ORDER BY epoch, flush) - pairs AS pairs_before FROM (
                         SELECT q.epoch, q.flush, q.pairs FROM hookledger.parked q
                          WHERE q.route_id = $4 AND NOT q.seqs && $6::bigint[] AND q.last_time < $5
                          ORDER BY q.epoch, q.flush LIMIT 10) few) counted
            WHERE pairs_before < {_SUPPRESSED_PAIRS})
    RETURNING p.epoch, p.flush, p.seqs, p.ticks, p.recorded_ats, p.event_times
)
SELECT NULL::bigint AS epoch, NULL::bigint AS flush, seq, tick, recorded_at, event_time FROM retries
 UNION ALL
SELECT p.epoch, p.flush, u.* FROM packed p, unnest(p.seqs, p.ticks, p.recorded_ats, p.event_times) AS u
"""

# $1 route, $2 to $6 what was taken: seqs, ticks, times of recording and of the events, and whether it was packed. What
# of it has not ended yet, with the event.
_NOT_ENDED = """
WITH taken AS MATERIALIZED (
    SELECT * FROM unnest($2::bigint[], $3::bigint[], $4::timestamptz[], $5::timestamptz[], $6::boolean[])
                  AS u (seq, tick, recorded_at, event_time, is_packed)
), gone AS (
    SELECT * FROM taken WHERE NOT is_packed
     UNION ALL
    -- A delivery of a packed row that was sent before has an outcome, or a row in retry. One in flight need not have
    -- either: its packed row was left out above.
    SELECT u.* FROM taken u
     -- Looked for one by one, in the days since the event: for NOT EXISTS the planner may read all of the route.
     -- An outcome comes after its event; the day allows for clocks that are set back.
     WHERE u.is_packed AND (SELECT a.seq FROM hookledger.attempt a
             WHERE a.route_id = $1 AND a.seq = u.seq AND a.at >= u.recorded_at - interval '1 day' LIMIT 1) IS NULL
       AND NOT EXISTS (SELECT FROM hookledger.retry r WHERE r.route_id = $1 AND r.seq = u.seq)
)
SELECT e.shard, g.seq, g.tick, g.event_time, clock_timestamp() AS ended_at, e.tenant, e.id, e.type,
       e.test_route IS NOT NULL AS is_test
  FROM gone g JOIN hookledger.domain_event e ON e.seq = g.seq AND e.recorded_at = g.recorded_at
"""


async def flush(
    database: Database,
    owner: str,
    epochs: Mapping[int, int],
    batch: Flush,
    *,
    number: int,
    macs: LogMacs,
    now: datetime | None = None,
    seconds: float = DEADLINE_SECONDS * 2,
) -> set[int]:
    """Writes `batch` for those shards of `epochs` that `owner` still holds, and returns these shards.

    `number` is 1 or more and rises with every new batch of an epoch. Repeat the number when the same batch is written
    again because the answer was lost. For each shard everything is written or nothing. A pair may be in `retries` or in
    `settled`, not in both. `now` is the steady time from which on retries wait, None for the database's.
    """
    async with database.connection(seconds=seconds) as connection:
        rows = await connection.fetch(_FLUSH, *_arguments(batch, owner, epochs, number, macs, now))
    return {row["shard"] for row in rows}


async def suppress(  # noqa: PLR0913 - what it is fenced by, and what it ends
    database: Database,
    owner: str,
    *,
    shard: int,
    epoch: int,
    route_id: UUID,
    closed_at: datetime,
    in_flight: Iterable[int],
    route_version: int,
    mark: LogMark,
    macs: LogMacs,
) -> Suppressed:
    """Ends a batch of a route's waiting deliveries whose event is from before `closed_at`, with the outcome
    `suppressed`.

    Repeat it until nothing is removed. It works in batches, because it locks the lease and so blocks every other write
    of the shard's progress. `in_flight` are the seqs that this process must not suppress. `mark` is of the log that
    says when the window closed: nothing is suppressed in another one.
    """
    async with database.transaction(seconds=30) as connection:
        taken = await connection.fetch(_TAKE_CLOSED, owner, shard, epoch, route_id, closed_at, list(in_flight), *mark)
        if not taken:
            return Suppressed(0, 0)
        retries = {row["seq"]: row for row in taken if row["epoch"] is None}
        packed = [row for row in taken if row["epoch"] is not None]
        # What has a row in `retry` may be in a packed row, too.
        gone = ({row["seq"]: row for row in packed} | retries).values()
        of_gone = [[row[name] for row in gone] for name in ("seq", "tick", "recorded_at", "event_time")]
        are_packed = [row["seq"] not in retries for row in gone]
        ended = [
            outcome_without_request("suppressed", route_id=route_id, route_version=route_version, **row)
            for row in await connection.fetch(_NOT_ENDED, route_id, *of_gone, are_packed)
        ]
        await connection.execute(INSERT_OUTCOMES, macs.records(ended))
    return Suppressed(len(ended), len(retries) + len({(row["epoch"], row["flush"]) for row in packed}))


def _arguments(
    batch: Flush, owner: str, epochs: Mapping[int, int], number: int, macs: LogMacs, now: datetime | None
) -> list[object]:
    """The arguments of the flush, in the order of `_statement`."""
    checkpoints = [CheckpointRow(shard, tick) for shard, tick in batch.checkpoints.items()]
    return [
        owner,
        list(epochs),
        list(epochs.values()),
        number,
        sorted(batch.shards),
        *batch.read,
        now,
        macs.records(batch.attempts),
        *columns(batch.retries, RetryRow._fields),
        *columns(batch.settled, SettledRow._fields),
        *columns(batch.parked, ParkedRow._fields),
        *columns(batch.drained, ParkedKey._fields),
        *columns(batch.ranges, RangeRow._fields),
        *columns(checkpoints, CheckpointRow._fields),
    ]
