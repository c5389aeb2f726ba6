"""Writes down what became of deliveries: every 50 ms or 500 outcomes, whichever is first, in one fenced statement.

Recording is retried until it succeeds or the lease is lost; sending never is. A flush is numbered, so a repetition
after an answer that got lost writes nothing twice. The checkpoint goes along with the rows that justify it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

from daemon.metrics import Metrics
from daemon.pipeline.recording.late_outcomes import LateOutcomes
from daemon.pipeline.scheduling.delivery import Delivery, PackedRow, RouteAndSeq
from daemon.pipeline.scheduling.ledger import Ledger
from daemon.pipeline.wakeup import Wakeup
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import StoreUnavailable
from eventstore.progress import recording
from eventstore.progress.recording import AttemptRow, Flush, ParkedKey, ParkedRow, RangeRow, RetryRow

FLUSH_SECONDS = 0.05
FLUSH_ROWS = 500
_BACKOFF_SECONDS = 0.25


@dataclass(slots=True)
class _Buffer:
    """What the next flush will write. At most one retry row for a pair: the last word wins."""

    attempts: list[AttemptRow] = field(default_factory=list)
    retries: dict[RouteAndSeq, RetryRow] = field(default_factory=dict)
    settled: dict[RouteAndSeq, int] = field(default_factory=dict)
    parked: list[ParkedRow] = field(default_factory=list)
    drained: list[ParkedKey] = field(default_factory=list)
    ranges: dict[UUID, RangeRow] = field(default_factory=dict)
    ended: list[Delivery] = field(default_factory=list)

    @property
    def rows(self) -> int:
        rows = (self.attempts, self.retries, self.parked, self.settled, self.drained, self.ranges)
        return sum(len(part) for part in rows)

    def forget(self, shard: int) -> None:
        self.attempts = [row for row in self.attempts if row.shard != shard]
        self.retries = {pair: row for pair, row in self.retries.items() if row.shard != shard}
        self.settled = {pair: of for pair, of in self.settled.items() if of != shard}
        self.parked = [row for row in self.parked if row.shard != shard]
        self.drained = [key for key in self.drained if key.shard != shard]
        self.ranges = {route: row for route, row in self.ranges.items() if row.shard != shard}
        self.ended = [delivery for delivery in self.ended if delivery.shard != shard]


class Recorder:
    """`attempted`, `park` and `persist_in_flight` take notes, `run_once` writes them.

    `on_recorded` hears of outcomes that were written, with their deliveries, `on_lost` of shards that were not ours.
    """

    def __init__(
        self, database: Database, ledger: Ledger, metrics: Metrics, *, owner: str, on_lost: Callable[[int], None]
    ) -> None:
        self.on_recorded: list[Callable[[list[AttemptRow], list[Delivery]], None]] = []
        self._database = database
        self._ledger = ledger
        self._metrics = metrics
        self._owner = owner
        self._on_lost = on_lost
        self._farewells = LateOutcomes(database, owner)
        self._epochs: dict[int, int] = {}
        self._checkpoints: dict[int, int] = {}
        self._buffer = _Buffer()
        self._writing = _Buffer()
        self._turn = asyncio.Lock()
        self._number = 0
        self._something = Wakeup()
        self._full = Wakeup()

    @property
    def epochs(self) -> Mapping[int, int]:
        return self._epochs

    def adopt(self, epochs: Mapping[int, int], checkpoints: Mapping[int, int]) -> None:
        """Writes for these shards from now on, under these epochs."""
        self._epochs |= epochs
        self._checkpoints |= checkpoints

    def drop(self, shard: int) -> None:
        """Writes nothing for this shard any more, not what was noted either.

        Whoever holds the shard next has read the tables without it, and does it again.
        """
        self._epochs.pop(shard, None)
        self._checkpoints.pop(shard, None)
        self._buffer.forget(shard)

    def attempted(self, delivery: Delivery, row: AttemptRow, *, retry_after: timedelta | None = None) -> None:
        """Notes an outcome; with `retry_after` the delivery will be tried again, without it this was the last word."""
        if delivery.is_withdrawn:
            if delivery.is_parting:
                self._farewells.note(delivery, row, retry_after)
                self._something.set()
            return
        self._buffer.attempts.append(row)
        self._buffer.ended.append(delivery)
        if retry_after is None:
            self._settle(delivery)
        else:
            self._retry(delivery, retry_after)
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

    def extend_range(self, delivery: Delivery, from_tick: int) -> None:
        """Notes that a delivery waits for its lane, among all of its route from a tick on."""
        self.ranged(delivery.route_id, delivery.shard, from_tick, 1)
        self._mark_accounted(delivery)

    def listed(self, rows: list[ParkedRow]) -> None:
        """Notes deliveries that waited in a range, and now wait by themselves."""
        self._buffer.parked += rows
        self._something.set()

    def ranged(self, route_id: UUID, shard: int, from_tick: int | None, pairs: int) -> None:
        """Notes where the range of a route begins now (None: there is none any more), and by how many pairs it grew."""
        before = self._buffer.ranges.get(route_id)
        total = pairs if before is None else before.pairs + pairs
        self._buffer.ranges[route_id] = RangeRow(shard, route_id, from_tick, total)
        self._something.set()

    def persist_in_flight(self, delivery: Delivery, *, due_after: timedelta) -> None:
        """Notes a delivery whose request is under way for long, so that the checkpoint need not wait for its end.

        If we die, the request is repeated when that row falls due.
        """
        self._retry(delivery, due_after, is_held=True)
        self._mark_accounted(delivery)

    def part(self, delivery: Delivery, *, due_after: timedelta) -> None:
        """Notes a delivery whose request is under way while its shard is handed over: its end will be a farewell."""
        self.persist_in_flight(delivery, due_after=due_after)
        delivery.is_parting = True

    def return_to_table(self, delivery: Delivery) -> None:
        """Notes that a delivery is not under way, whatever was written down of it: it may be sent at once.

        The row of a replay stands as it was, and may have been withdrawn.
        """
        if delivery.has_retry_row and delivery.replay is None:
            self._retry(delivery, timedelta(0))

    def skip_missing(self, row: PackedRow) -> None:
        """Notes that one delivery of a packed row cannot be sent any more: its event is gone."""
        row.remaining -= 1
        if row.remaining == 0:
            self.drained(row)

    def drained(self, row: PackedRow) -> None:
        """Notes that nothing of a packed row is left to do."""
        self._buffer.drained.append(row.key)
        self._something.set()

    def noted(self) -> None:
        """Says that a checkpoint may have moved."""
        self._something.set()

    def is_parking(self, route_id: UUID) -> bool:
        """True if parked deliveries of the route are noted and not yet to be found in the database."""
        return any(row.route_id == route_id for buffer in (self._writing, self._buffer) for row in buffer.parked)

    def seqs(self, route_id: UUID) -> set[int]:
        """What of a route has an outcome that is noted and not yet to be found in the database."""
        return {d.event.seq for b in (self._writing, self._buffer) for d in b.ended if d.route_id == route_id}

    @property
    def backlog(self) -> int:
        """Rows that are not written yet."""
        return self._buffer.rows

    async def run_once(self) -> None:
        """Waits for something to write, then a little for company, then writes it."""
        if not await self._something.wait(1.0):
            return
        await self._full.wait(FLUSH_SECONDS)
        self._something.clear()
        self._full.clear()
        await self.flush()

    async def flush(self) -> None:
        """Writes all that was noted. Returns when it is durable, or belongs to somebody else by now.

        One at a time: a flush that overtook another would make that one look like a repetition.
        """
        async with self._turn:
            farewells = self._farewells.take()
            await self._flush()
            if farewells:
                said = await self._farewells.say(farewells)
                for notify in self.on_recorded:
                    notify(said, [])

    async def _flush(self) -> None:
        buffer, self._buffer = self._buffer, _Buffer()
        moved = self._moved()
        if not (buffer.rows or moved) or not self._epochs:
            return
        self._number += 1
        batch = Flush(
            attempts=buffer.attempts,
            retries=list(buffer.retries.values()),
            settled=[(shard, route_id, seq) for (route_id, seq), shard in buffer.settled.items()],
            parked=buffer.parked,
            drained=buffer.drained,
            ranges=list(buffer.ranges.values()),
            checkpoints=moved,
        )
        epochs = dict(self._epochs)
        started = time.monotonic()
        self._writing = buffer
        held = await self._write(epochs, batch)
        self._writing = _Buffer()
        self._metrics.flush_seconds.observe(time.monotonic() - started)
        still_ours = {shard for shard, epoch in epochs.items() if self._epochs.get(shard) == epoch}
        for shard in still_ours - held:
            self._on_lost(shard)
        self._checkpoints |= {shard: tick for shard, tick in moved.items() if shard in held & still_ours}
        written = [row for row in buffer.attempts if row.shard in held]
        for notify in self.on_recorded:
            notify(written, buffer.ended)

    async def settle(self) -> None:
        """Flushes until nothing is left, and nothing under way, at the end."""
        while self._turn.locked() or self._buffer.rows or self._farewells or self._moved():
            await self.flush()

    async def _write(self, epochs: dict[int, int], batch: Flush) -> set[int]:
        while True:
            try:
                return await recording.flush(self._database, self._owner, epochs, batch, number=self._number)
            except StoreUnavailable:
                # The lease decides how long this may go on: once it is lost the statement writes nothing.
                await asyncio.sleep(_BACKOFF_SECONDS)

    def _moved(self) -> dict[int, int]:
        """Shards whose checkpoint the flush may raise."""
        now = {shard: self._ledger.checkpoint(shard) for shard in self._ledger.shards() if shard in self._epochs}
        return {shard: tick for shard, tick in now.items() if tick > self._checkpoints.get(shard, 0)}

    def _settle(self, delivery: Delivery) -> None:
        if delivery.has_retry_row:
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
        delivery.has_retry_row = True

    def _mark_accounted(self, delivery: Delivery) -> None:
        """From the next flush on a row stands for the delivery."""
        self._ledger.account(delivery)
        packed = delivery.packed
        if packed is not None:
            delivery.packed = None
            packed.remaining -= 1
            if packed.remaining == 0:
                self._buffer.drained.append(packed.key)
        self._something.set()
        if self._buffer.rows >= FLUSH_ROWS:
            self._full.set()
