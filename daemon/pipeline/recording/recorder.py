"""Writes the outcomes of deliveries: every 50 ms or 500 rows, whichever is first, in one fenced statement. A checkpoint
alone, on which nothing depends, waits for their company up to 250 ms.

Each tick moves the checkpoint of every shard. Those of shards that have no row in a flush are moved every 250 ms: at
100 events a second this leaves 2.6 dead tuples an event, and 5.7 if every flush moves all of them.

Recording is retried until it succeeds or the lease is lost; sending is never retried here. A flush is numbered:
repeated after its answer got lost, it writes nothing twice. The checkpoint is written together with the rows that
justify it.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from daemon.core.delivery.states.phases import DeliveryStep
from daemon.pipeline.held_shards import HeldShards, Takeover
from daemon.pipeline.known_log import KnownLog
from daemon.pipeline.loops import Outages, Patience
from daemon.pipeline.recording.late_outcomes import LateOutcomes
from daemon.pipeline.scheduling.delivery import Delivery, PackedRow, RouteAndSeq
from daemon.pipeline.scheduling.ledger import Ledger
from daemon.pipeline.scheduling.working_set import WorkingSet
from daemon.pipeline.steady_clock import SteadyClock
from daemon.pipeline.tunables import DEFAULTS, Tunables
from daemon.pipeline.wakeup import Wakeup
from daemon.telemetry.metrics import Metrics
from eventstore.domain_events.ticks import LogPosition
from eventstore.postgres.connect import Database
from eventstore.progress import recording
from eventstore.progress.log_macs import LogMacs
from eventstore.progress.recording import Flush
from eventstore.progress.rows import AttemptRow, ParkedKey, ParkedRow, RangeRow, RetryRow, SettledRow

_BACKOFF_SECONDS = 0.25
# How long after its timeout a request in flight counts as lost with its process.
GRACE = timedelta(seconds=5)

_END = DeliveryStep.END

# Is told of outcomes that were written, and of the deliveries that they ended.
OnRecorded = Callable[[list[AttemptRow], list[Delivery]], None]


@dataclass(slots=True)
class _Buffer:
    """What the next flush will write. At most one retry row for a pair: the last word wins. `marked` counts the
    deliveries for which it has a row, which costs each of them less than to count the rows.
    """

    attempts: list[AttemptRow] = field(default_factory=list)
    retries: dict[RouteAndSeq, RetryRow] = field(default_factory=dict)
    settled: dict[RouteAndSeq, int] = field(default_factory=dict)
    parked: list[ParkedRow] = field(default_factory=list)
    drained: list[ParkedKey] = field(default_factory=list)
    ranges: dict[UUID, RangeRow] = field(default_factory=dict)
    ended: list[Delivery] = field(default_factory=list)
    marked: int = 0

    @property
    def rows(self) -> int:
        waiting = len(self.retries) + len(self.settled) + len(self.parked) + len(self.drained) + len(self.ranges)
        return len(self.attempts) + waiting

    def forget(self, shard: int) -> None:
        self.attempts = [row for row in self.attempts if row.shard != shard]
        self.retries = {pair: row for pair, row in self.retries.items() if row.shard != shard}
        self.settled = {pair: of for pair, of in self.settled.items() if of != shard}
        self.parked = [row for row in self.parked if row.shard != shard]
        self.drained = [key for key in self.drained if key.shard != shard]
        self.ranges = {route: row for route, row in self.ranges.items() if row.shard != shard}
        self.ended = [delivery for delivery in self.ended if delivery.shard != shard]


class Recorder:
    """`attempted`, `park` and the like take notes, `run_once` writes them.

    `timeout_seconds` is how long a request may take. `on_recorded` are called with outcomes that were written.
    """

    def __init__(  # noqa: PLR0913 - what it writes with, and for whom
        self,
        database: Database,
        ledger: Ledger,
        shards: HeldShards,
        working_set: WorkingSet,
        metrics: Metrics,
        *,
        owner: str,
        known: KnownLog,
        macs: LogMacs,
        timeout_seconds: float,
        clock: SteadyClock | None = None,
        outages: Outages | None = None,
        tunables: Tunables = DEFAULTS,
    ) -> None:
        self.on_recorded: list[OnRecorded] = []
        self._database = database
        self._ledger = ledger
        self._shards = shards
        self._working_set = working_set
        self._metrics = metrics
        self._owner = owner
        self._known = known
        self._macs = macs
        self._timeout_seconds = timeout_seconds
        self._flush_seconds = tunables.flush_seconds
        self._flush_rows = tunables.flush_rows
        self._checkpoint_seconds = tunables.checkpoint_seconds
        self._clock = clock or SteadyClock(tunables)
        self._patience = Patience("recorder", pause_seconds=_BACKOFF_SECONDS, outages=outages)
        self._late = LateOutcomes(database, owner, macs, self._clock)
        self._checkpoints: dict[int, int] = {}
        self._all_moved_at = -math.inf
        self._buffer = _Buffer()
        self._writing = _Buffer()
        self._turn = asyncio.Lock()
        self._number = 0
        self._something = Wakeup()
        self._full = Wakeup()

    def adopt(self, takeover: Takeover) -> None:
        """Writes for these shards from now on."""
        self._checkpoints |= takeover.checkpoints

    async def part(self, shards: Collection[int]) -> None:
        """Writes all that was noted of these shards, and nothing of them afterwards."""
        await self.flush()
        for shard in shards:
            self.drop(shard)

    def drop(self, shard: int) -> None:
        """Writes nothing for this shard any more, not what was noted either.

        The next owner of the shard has read the tables without it, and does it again.
        """
        self._checkpoints.pop(shard, None)
        self._buffer.forget(shard)

    def attempted(self, delivery: Delivery, row: AttemptRow, retry_after: timedelta | None = None) -> None:
        """Notes an outcome; with `retry_after` the delivery will be tried again, without it this was the last word."""
        delivery.advance(_END)
        if delivery.is_withdrawn:
            if delivery.is_handed_over:
                self._late.note(delivery, row, retry_after)
                self._wake()
            return
        self._buffer.attempts.append(row)
        self._buffer.ended.append(delivery)
        if retry_after is not None:
            self._retry(delivery, retry_after)
        elif delivery.has_retry_row:
            self._settle(delivery)
        self._mark_accounted(delivery)

    def try_again(self, delivery: Delivery, after: timedelta) -> None:
        """Notes that a delivery is to be tried again, of which no outcome can be noted."""
        delivery.advance(DeliveryStep.END)
        if delivery.is_withdrawn:
            return  # a successor tries it again, by the row that it was handed over with
        self._buffer.ended.append(delivery)
        self._retry(delivery, after)
        self._mark_accounted(delivery)

    def park(self, delivery: Delivery) -> None:
        """Notes that a delivery waits for its lane."""
        event = delivery.event
        self._buffer.parked.append(
            ParkedRow(
                delivery.shard,
                delivery.route_id,
                event.seq,
                delivery.tick,
                event.recorded_at,
                delivery.event_time,
                event.tenant,
            )
        )
        self._mark_accounted(delivery)

    def extend_range(self, delivery: Delivery, range_from: LogPosition) -> None:
        """Notes that a delivery waits for its lane, among all of its route from a position on."""
        self.ranged(delivery.route_id, delivery.shard, range_from, 1)
        self._mark_accounted(delivery)

    def listed(self, rows: list[ParkedRow]) -> None:
        """Notes deliveries that waited in a range, and now wait by themselves."""
        self._buffer.parked += rows
        self._wake()

    def ranged(self, route_id: UUID, shard: int, range_from: LogPosition | None, pairs: int) -> None:
        """Notes where the range of a route begins now (None: there is none any more), and by how many pairs it grew."""
        before = self._buffer.ranges.get(route_id)
        total = pairs if before is None else before.pairs + pairs
        from_tick, from_seq = range_from or (None, 0)
        self._buffer.ranges[route_id] = RangeRow(shard, route_id, from_tick, from_seq, total)
        self._wake()

    def persist_in_flight(self, delivery: Delivery) -> None:
        """Notes a delivery whose request is under way for long, so that the checkpoint need not wait for its end.

        If we die, the request is repeated when that row falls due.
        """
        self._persist(delivery, due_after=timedelta(seconds=self._timeout_seconds) + GRACE)

    def hand_over(self, delivery: Delivery) -> None:
        """Notes a delivery whose request is under way while its shard is handed over; its outcome is written late."""
        left = self._timeout_seconds - (time.monotonic() - delivery.sent_at)
        self._persist(delivery, due_after=timedelta(seconds=max(0.0, left)) + GRACE)
        delivery.advance(DeliveryStep.HAND_OVER)

    def return_to_table(self, delivery: Delivery) -> None:
        """Notes that a delivery is not under way, whatever was written down of it: it may be sent at once.

        The row of a replay stands as it was, and may have been withdrawn.
        """
        if delivery.has_retry_row and delivery.replay is None:
            self._retry(delivery, timedelta(0))

    def put_back(self, delivery: Delivery) -> None:
        """Notes a delivery that waits and is let go of: it is due, and taken up again when there is room."""
        self._retry(delivery, timedelta(0))
        self._mark_accounted(delivery)

    def skip_missing(self, row: PackedRow) -> None:
        """Notes that one delivery of a packed row cannot be sent any more: its event is gone."""
        row.remaining -= 1
        if row.remaining == 0:
            self.drained(row)

    def drained(self, row: PackedRow) -> None:
        """Notes that nothing of a packed row is left to do."""
        self._buffer.drained.append(row.key)
        self._wake()

    def is_parking(self, route_id: UUID) -> bool:
        """True if parked deliveries of the route are noted and not yet to be found in the database."""
        return any(row.route_id == route_id for buffer in (self._writing, self._buffer) for row in buffer.parked)

    def has_unwritten(self, route_id: UUID) -> bool:
        """True if the route has an outcome that is noted and not yet to be found in the database."""
        if not self._working_set.has(route_id):  # asked of each of very many lanes
            return False
        return any(d.route_id == route_id for buffer in (self._writing, self._buffer) for d in buffer.ended)

    @property
    def backlog(self) -> int:
        """Rows that are not written yet."""
        return self._buffer.rows

    async def run_once(self) -> None:
        """Waits for something to write, then a little for company, then writes it, with the checkpoints of its shards.
        Those of the others are written if that is due, or left to another time.
        """
        await self._ledger.moved.wait_set()
        is_alone = not await self._something.wait(self._checkpoint_seconds)
        if not is_alone:
            await self._full.wait(self._flush_seconds)
        self._ledger.moved.clear()
        self._something.clear()
        self._full.clear()
        await self.flush(is_whole=is_alone or time.monotonic() - self._all_moved_at >= self._checkpoint_seconds)

    async def flush(self, *, is_whole: bool = True) -> None:
        """Writes all that was noted, and where the checkpoints are: if it `is_whole` all of them, or else those of
        shards with rows to write. Returns when it is durable, or belongs to somebody else by now.

        One at a time: a flush that overtook another would make that one look like a repetition.
        """
        async with self._turn:
            late = self._late.take()
            await self._flush(is_whole=is_whole)
            if late:
                written = await self._late.write(late)
                for notify in self.on_recorded:
                    notify(written, [])

    async def _flush(self, *, is_whole: bool) -> None:
        buffer, self._buffer = self._buffer, _Buffer()
        batch = Flush(
            attempts=buffer.attempts,
            retries=list(buffer.retries.values()),
            settled=[SettledRow(shard, route_id, seq) for (route_id, seq), shard in buffer.settled.items()],
            parked=buffer.parked,
            drained=buffer.drained,
            ranges=list(buffer.ranges.values()),
            read=self._known.mark,
        )
        epochs, moved = self._shards.writable(), self._moved()
        if is_whole:
            self._all_moved_at = time.monotonic()
        elif later := moved.keys() - batch.shards:
            moved = {shard: tick for shard, tick in moved.items() if shard not in later}
            self._ledger.moved.set()
        if not (buffer.rows or moved) or not epochs:
            return
        batch.checkpoints = moved
        self._number += 1
        started = time.monotonic()
        self._writing = buffer
        held = await self._write(epochs, batch)
        self._writing = _Buffer()
        self._metrics.flush_seconds.observe(time.monotonic() - started)
        self._metrics.add_up()
        still_ours = {shard for shard, epoch in self._shards.writable().items() if epochs.get(shard) == epoch}
        for shard in still_ours - held:
            self._shards.lose(shard)
        self._checkpoints |= {shard: tick for shard, tick in moved.items() if shard in held & still_ours}
        self._working_set.discard_all(buffer.ended)
        written = [row for row in buffer.attempts if row.shard in held]
        for notify in self.on_recorded:
            notify(written, buffer.ended)

    async def settle(self) -> None:
        """Flushes until nothing is left, and nothing under way, at the end."""
        while self._turn.locked() or self._buffer.rows or self._late or self._moved():
            await self.flush()

    async def _write(self, epochs: dict[int, int], batch: Flush) -> set[int]:
        """The lease decides how long this may go on: once it is lost the statement writes nothing."""
        return await self._patience.until_answered(
            lambda: recording.flush(
                self._database,
                self._owner,
                epochs,
                batch,
                number=self._number,
                macs=self._macs,
                now=self._clock.now(),
            )
        )

    def _wake(self) -> None:
        """There is something to write that a checkpoint or a delivery waits for."""
        self._something.set()
        self._ledger.moved.set()

    def _moved(self) -> dict[int, int]:
        """Shards whose checkpoint the flush may raise."""
        now = {shard: self._ledger.checkpoint(shard) for shard in self._ledger.shards() if shard in self._checkpoints}
        return {shard: tick for shard, tick in now.items() if tick > self._checkpoints[shard]}

    def _persist(self, delivery: Delivery, *, due_after: timedelta) -> None:
        self._retry(delivery, due_after, is_held=True)
        self._mark_accounted(delivery)

    def _settle(self, delivery: Delivery) -> None:
        self._buffer.retries.pop(delivery.pair, None)
        self._buffer.settled[delivery.pair] = delivery.shard
        delivery.has_retry_row = False

    def _retry(self, delivery: Delivery, after: timedelta, *, is_held: bool = False) -> None:
        event = delivery.event
        self._buffer.settled.pop(delivery.pair, None)
        self._buffer.retries[delivery.pair] = RetryRow(
            delivery.shard,
            delivery.route_id,
            event.seq,
            event.recorded_at,
            delivery.event_time,
            delivery.tick,
            delivery.failures,
            after,
            event.tenant,
            is_held,
        )
        delivery.had_retry_row = delivery.has_retry_row = True

    def _mark_accounted(self, delivery: Delivery) -> None:
        """From the next flush on a row stands for the delivery."""
        self._ledger.account(delivery)
        packed = delivery.packed
        if packed is not None:
            delivery.packed = None
            packed.remaining -= 1
            if packed.remaining == 0:
                self._buffer.drained.append(packed.key)
        buffer = self._buffer
        buffer.marked += 1
        if buffer.marked == 1:
            self._wake()
        if buffer.marked == self._flush_rows:
            self._full.set()
