"""Progress: the one fenced statement that writes what became of deliveries, and the bulk suppression of a closed route.

Not a job queue: a row per delivery would cost 660 to 3,080 bytes of write-ahead log and two dead tuples, a cursor and
an outcome log cost 105 to 265 and none (design.md §3). Outcomes, retries, parked rows and the checkpoint go in one
statement, so that no crash can fall between them; it begins by locking the lease rows it writes under, and a shard
whose owner or epoch is no longer ours is left out of everything.

The lease row also keeps the number of the last flush under it. Recording is retried when an answer was lost, and the
answer may have been lost after the commit: a flush that carries a number again writes nothing a second time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from eventstore.postgres.connect import DEADLINE_SECONDS, Database


class AttemptRow(NamedTuple):
    """An outcome. `number` counts requests from 1 and is 0 for an end without a request; times are aware UTC."""

    shard: int
    seq: int
    tick: int
    route_id: UUID
    event_time: datetime
    started_at: datetime
    status_code: int | None
    number: int
    duration_ms: int
    route_version: int
    outcome: str
    error: str | None
    tenant: str
    event_id: str
    event_type: str
    key_ids: str | None
    response_head: str | None
    response_body: bytes | None
    is_test: bool = False
    delivery_key: int | None = None


class RetryRow(NamedTuple):
    """A delivery to be sent `after` from now by the database's clock; `failures` counts its requests so far.

    Of one that is under way (`is_held`) the owner is noted as the holder, who may record its end without a lease
    (eventstore/progress/late_outcomes.py).
    """

    shard: int
    route_id: UUID
    seq: int
    recorded_at: datetime
    event_time: datetime
    tick: int
    failures: int
    after: timedelta
    tenant: str
    is_held: bool = False


class ParkedRow(NamedTuple):
    """A delivery that waits for its lane."""

    shard: int
    route_id: UUID
    seq: int
    tick: int
    recorded_at: datetime
    event_time: datetime
    tenant: str


class ParkedKey(NamedTuple):
    """A packed row of `parked`."""

    shard: int
    epoch: int
    flush: int
    route_id: UUID


class RangeRow(NamedTuple):
    """All of a route from `from_tick` on waits for its lane, `pairs` more than before; None: no longer so."""

    shard: int
    route_id: UUID
    from_tick: int | None
    pairs: int


class Suppressed(NamedTuple):
    """How many outcomes were noted, and how many rows removed for them: packed ones hold many, or done ones."""

    noted: int
    removed: int


@dataclass(slots=True, kw_only=True)
class Flush:
    """What one flush writes. `settled` are pairs whose row in `retry` goes, `drained` packed rows that are done."""

    attempts: list[AttemptRow] = field(default_factory=list)
    retries: list[RetryRow] = field(default_factory=list)
    settled: list[tuple[int, UUID, int]] = field(default_factory=list)
    parked: list[ParkedRow] = field(default_factory=list)
    drained: list[ParkedKey] = field(default_factory=list)
    ranges: list[RangeRow] = field(default_factory=list)
    checkpoints: dict[int, int] = field(default_factory=dict)

    @property
    def shards(self) -> set[int]:
        """Those that the batch has anything to write for."""
        rows = (self.attempts, self.retries, self.settled, self.parked, self.drained, self.ranges)
        return set(self.checkpoints).union(*({row[0] for row in part} for part in rows))


# $1 owner, $2/$3 shards and epochs; the rest in the order of the arguments below.
_FLUSH = """
WITH held AS MATERIALIZED (
    SELECT l.shard, l.epoch, l.flush < $39 AS is_new FROM hookledger.lease l
      JOIN unnest($2::smallint[], $3::bigint[]) AS mine (shard, epoch) ON l.shard = mine.shard AND l.epoch = mine.epoch
     WHERE l.owner = $1 ORDER BY l.shard FOR NO KEY UPDATE OF l
), writable AS MATERIALIZED (
    SELECT shard, epoch FROM held WHERE is_new
), numbered AS (
    UPDATE hookledger.lease l SET flush = $39 FROM writable w
     WHERE l.shard = w.shard AND l.shard = ANY ($46::smallint[])
), recorded AS (
    INSERT INTO hookledger.attempt (shard, seq, tick, route_id, event_time, started_at, status_code, number,
           duration_ms, route_version, outcome, error, tenant, event_id, event_type, key_ids,
           response_head, response_body, is_test, delivery_key)
    SELECT a.* FROM unnest($4::smallint[], $5::bigint[], $6::bigint[], $7::uuid[], $8::timestamptz[], $9::timestamptz[],
           $10::smallint[], $11::integer[], $12::integer[], $13::integer[], $14::text[], $15::text[], $16::text[],
           $17::text[], $18::text[], $19::text[], $20::text[], $21::bytea[], $52::boolean[],
           $53::integer[]) AS a (shard)
     WHERE a.shard IN (SELECT shard FROM writable)
), retried AS (
    INSERT INTO hookledger.retry (shard, route_id, seq, recorded_at, event_time, tick, failures, due_at, holder, tenant)
    SELECT r.shard, r.route_id, r.seq, r.recorded_at, r.event_time, r.tick, r.failures, clock_timestamp() + r.after,
           CASE WHEN r.is_held THEN $1 END, r.tenant
      FROM unnest($22::smallint[], $23::uuid[], $24::bigint[], $25::timestamptz[], $26::timestamptz[], $27::bigint[],
           $28::integer[], $29::interval[], $54::text[], $51::boolean[])
           AS r (shard, route_id, seq, recorded_at, event_time, tick, failures, after, tenant, is_held)
     WHERE r.shard IN (SELECT shard FROM writable)
    ON CONFLICT (route_id, seq) DO UPDATE
       SET failures = excluded.failures, due_at = excluded.due_at, holder = excluded.holder, replay = NULL
), settled AS (
    DELETE FROM hookledger.retry r USING unnest($30::smallint[], $31::uuid[], $32::bigint[]) AS s (shard, route_id, seq)
     WHERE r.route_id = s.route_id AND r.seq = s.seq AND s.shard IN (SELECT shard FROM writable)
), parked AS (
    INSERT INTO hookledger.parked (shard, epoch, flush, route_id, last_tick, seqs, ticks, recorded_ats, event_times,
           tenant)
    SELECT p.shard, w.epoch, $39, p.route_id, max(p.tick), array_agg(p.seq ORDER BY p.tick, p.seq),
           array_agg(p.tick ORDER BY p.tick, p.seq), array_agg(p.recorded_at ORDER BY p.tick, p.seq),
           array_agg(p.event_time ORDER BY p.tick, p.seq), min(p.tenant)
      FROM unnest($33::smallint[], $34::uuid[], $35::bigint[], $36::bigint[], $37::timestamptz[], $38::timestamptz[],
           $55::text[]) AS p (shard, route_id, seq, tick, recorded_at, event_time, tenant)
      JOIN writable w ON w.shard = p.shard
     GROUP BY p.shard, w.epoch, p.route_id
), drained AS (
    DELETE FROM hookledger.parked p
     USING unnest($40::smallint[], $41::bigint[], $42::bigint[], $43::uuid[]) AS d (shard, epoch, flush, route_id)
     WHERE p.route_id = d.route_id AND p.epoch = d.epoch AND p.flush = d.flush AND p.shard = d.shard
       AND d.shard IN (SELECT shard FROM writable)
), ranged AS (
    INSERT INTO hookledger.parked_range AS old (shard, route_id, from_tick, pairs)
    SELECT g.shard, g.route_id, g.from_tick, g.pairs
      FROM unnest($47::smallint[], $48::uuid[], $49::bigint[], $50::bigint[]) AS g (shard, route_id, from_tick, pairs)
     WHERE g.from_tick IS NOT NULL AND g.shard IN (SELECT shard FROM writable)
    ON CONFLICT (route_id) DO UPDATE SET from_tick = excluded.from_tick, pairs = greatest(0, old.pairs + excluded.pairs)
), unranged AS (
    DELETE FROM hookledger.parked_range p
     USING unnest($47::smallint[], $48::uuid[], $49::bigint[]) AS g (shard, route_id, from_tick)
     WHERE p.route_id = g.route_id AND g.from_tick IS NULL AND g.shard IN (SELECT shard FROM writable)
), moved AS (
    UPDATE hookledger.checkpoint c SET tick = n.tick FROM unnest($44::smallint[], $45::bigint[]) AS n (shard, tick)
     WHERE c.shard = n.shard AND c.tick < n.tick AND n.shard IN (SELECT shard FROM writable)
)
SELECT shard FROM held
"""

# $1 owner, $2 shard, $3 epoch, $4 route, $5 end of the closed window, $6 seqs that are in flight here, $7 route version
_SUPPRESS = """
WITH held AS MATERIALIZED (
    SELECT shard FROM hookledger.lease WHERE owner = $1 AND shard = $2 AND epoch = $3 FOR NO KEY UPDATE
), retries AS (
    DELETE FROM hookledger.retry r
     WHERE r.route_id = $4 AND r.shard IN (SELECT shard FROM held) AND r.seq IN (
           SELECT q.seq FROM hookledger.retry q
            WHERE q.route_id = $4 AND q.event_time < $5 AND q.seq <> ALL ($6::bigint[])
              -- What another process has under way gets its outcome from there, or comes to the gate when it is due.
              AND (q.holder IS NULL OR q.due_at <= clock_timestamp())
            LIMIT 1000)
    RETURNING r.seq, r.tick, r.recorded_at, r.event_time
), packed AS (
    DELETE FROM hookledger.parked p
     WHERE p.route_id = $4 AND p.shard IN (SELECT shard FROM held) AND (p.epoch, p.flush) IN (
           SELECT q.epoch, q.flush FROM hookledger.parked q
            WHERE q.route_id = $4 AND NOT q.seqs && $6::bigint[]
              AND (SELECT max(t) FROM unnest(q.event_times) t) < $5
            ORDER BY q.epoch, q.flush LIMIT 10)
    RETURNING p.seqs, p.ticks, p.recorded_ats, p.event_times
), gone AS (
    SELECT seq, tick, recorded_at, event_time FROM retries
     UNION ALL
    -- What of a packed row was sent before has its outcome, and what is under way has a row in retry.
    SELECT u.* FROM packed, unnest(seqs, ticks, recorded_ats, event_times) AS u (seq, tick, recorded_at, event_time)
     WHERE NOT EXISTS (SELECT FROM hookledger.attempt a WHERE a.route_id = $4 AND a.seq = u.seq)
       AND NOT EXISTS (SELECT FROM hookledger.retry r WHERE r.route_id = $4 AND r.seq = u.seq)
), noted AS (
    INSERT INTO hookledger.attempt (shard, seq, tick, route_id, event_time, started_at, number, duration_ms,
           route_version, outcome, tenant, event_id, event_type, is_test)
    SELECT e.shard, g.seq, g.tick, $4, g.event_time, clock_timestamp(), 0, 0, $7, 'suppressed', e.tenant, e.id, e.type,
           e.test_route IS NOT NULL
      FROM gone g JOIN hookledger.domain_event e ON e.seq = g.seq AND e.recorded_at = g.recorded_at
    RETURNING 1)
SELECT (SELECT count(*) FROM noted) AS noted,
       (SELECT count(*) FROM retries) + (SELECT count(*) FROM packed) AS removed
"""


async def flush(
    database: Database,
    owner: str,
    epochs: Mapping[int, int],
    batch: Flush,
    *,
    number: int,
    seconds: float = DEADLINE_SECONDS * 2,
) -> set[int]:
    """Writes `batch` for those shards of `epochs` that `owner` still holds, and returns them.

    `number` is 1 or more and rises with every new batch of an epoch; repeat it when the same batch is written again
    because the answer was lost. All or nothing for each shard. A pair stands in at most one of retries and settled.
    """
    async with database.connection(seconds=seconds) as connection:
        rows = await connection.fetch(
            _FLUSH, owner, list(epochs), list(epochs.values()), *_arguments(batch, number=number)
        )
    return {row["shard"] for row in rows}


async def suppress(
    database: Database,
    owner: str,
    *,
    shard: int,
    epoch: int,
    route_id: UUID,
    closed_at: datetime,
    in_flight: Iterable[int],
    route_version: int,
) -> Suppressed:
    """Turns what waits for a route from before `closed_at` into `suppressed` outcomes, as much as is done quickly.

    To be repeated until nothing is removed: the lease is locked meanwhile, and with it every other write of progress.
    """
    async with database.connection(seconds=30) as connection:
        (row,) = await connection.fetch(
            _SUPPRESS, owner, shard, epoch, route_id, closed_at, list(in_flight), route_version
        )
    return Suppressed(row["noted"], row["removed"])


def _arguments(batch: Flush, *, number: int) -> list[object]:
    """$4 and what follows."""
    attempts = _columns(batch.attempts, len(AttemptRow._fields))
    retries = _columns(batch.retries, len(RetryRow._fields))
    parked = _columns(batch.parked, len(ParkedRow._fields))
    return [
        *attempts[:-2],
        *retries[:-2],
        *_columns(batch.settled, 3),
        *parked[:-1],
        number,
        *_columns(batch.drained, len(ParkedKey._fields)),
        list(batch.checkpoints),
        list(batch.checkpoints.values()),
        sorted(batch.shards),
        *_columns(batch.ranges, len(RangeRow._fields)),
        retries[-1],
        *attempts[-2:],
        retries[-2],
        parked[-1],
    ]


def _columns(rows: Sequence[tuple[object, ...]], width: int) -> list[Sequence[object]]:
    """Rows turned into the arrays that unnest takes."""
    return list(zip(*rows, strict=True)) if rows else [()] * width
