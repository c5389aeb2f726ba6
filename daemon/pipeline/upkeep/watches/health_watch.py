"""Keeps the health of receivers (`daemon.core.delivery.health`): hears of each outcome, and writes what has changed.

Only the process that holds a route's shard writes of it, about once a second and all routes together. What it knew is
forgotten with the shard; the next owner goes on from the rows. A receiver that fails is written with every request,
one that is well every half minute: a list need not know better when it last answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from daemon import receivers
from daemon.core.delivery import health
from daemon.core.delivery.answer import Outcome
from daemon.core.delivery.health import AnsweredRequest, HealthState, ReceiverHealth
from daemon.core.routing.index import RouteIndex
from daemon.core.routing.route import Route
from daemon.pipeline.held_shards import HeldShards
from daemon.pipeline.scheduling.delivery import Delivery
from daemon.pipeline.scheduling.lanes import Lanes
from daemon.pipeline.tunables import DEFAULTS, Tunables
from daemon.pipeline.wakeup import Wakeup
from eventstore.domain_events.events import shard_of
from eventstore.postgres.connect import Database
from eventstore.progress.rows import AttemptRow
from eventstore.queries.metrics import route_health
from eventstore.queries.metrics.route_health import HealthRow

# So many receivers are looked at, and written, between two turns of the event loop.
ROUTES_AT_ONCE = 1000


@dataclass(slots=True)
class _Watched:
    """A receiver: `written` is its health as last written, None if it is not yet. `was_down` since it was well."""

    tenant: str
    shard: int
    health: ReceiverHealth | None = None
    written: ReceiverHealth | None = None
    was_down: bool = False


class _Run:
    """Requests of one receiver, one after the other, that ended alike: successes in a row, or one failure.

    Told one by one, each success took 4 µs to judge, and its row stayed in memory for half a second.
    """

    __slots__ = ("count", "first_at", "last")

    def __init__(self, row: AttemptRow) -> None:
        self.count = 1
        self.first_at = row.started_at
        self.last = row


# Is told the health of a route's receiver that is down, or that has recovered from that.
OnTurn = Callable[[UUID, ReceiverHealth], None]


class HealthWatch:
    """`recorded` hears of outcomes; `run_once` judges and writes them, then waits.

    `on_turn` is called with each receiver that goes down, and again when it is well.
    """

    def __init__(
        self, database: Database, index: RouteIndex, lanes: Lanes, shards: HeldShards, tunables: Tunables = DEFAULTS
    ) -> None:
        self._database = database
        self._index = index
        self._lanes = lanes
        self._shards = shards
        self._pause_seconds = tunables.health_pause_seconds
        self._look_seconds = tunables.health_look_seconds
        self._told_after = timedelta(seconds=tunables.health_told_seconds)
        self._wakeup = Wakeup()
        self._heard: dict[UUID, list[_Run]] = {}
        self._watched: dict[UUID, _Watched] = {}
        self._epochs: dict[int, int] = {}
        self._ended: set[UUID] = set()
        self.on_turn: OnTurn | None = None

    def recorded(self, rows: list[AttemptRow], _deliveries: list[Delivery]) -> None:
        """Hears of outcomes that are written."""
        heard, delivered = self._heard, Outcome.DELIVERED.value
        for row in rows:
            if row.number and not row.is_test:
                runs = heard.get(row.route_id)
                if runs is None:
                    heard[row.route_id] = [_Run(row)]
                elif row.outcome == delivered == (run := runs[-1]).last.outcome:
                    run.count += 1
                    run.last = row
                else:
                    runs.append(_Run(row))
        if self._heard:
            self._wakeup.set()

    def ended(self, route: Route) -> None:
        """Hears that a route was disabled or deleted: nothing is known of it any more."""
        if self._shards.epoch(shard_of(route.tenant)) is not None:
            self._ended.add(route.id)
            self._wakeup.set()

    async def run_once(self) -> None:
        self._wakeup.clear()
        await self._follow_shards()
        await self._forget_ended()
        heard = {route_id for route_id, runs in self._heard.items() if runs[0].last.shard in self._epochs}
        await self._recall(heard - self._watched.keys())
        self._judge()
        await self._write()
        await asyncio.sleep(self._pause_seconds)
        await self._wakeup.wait(self._look_seconds)

    async def _follow_shards(self) -> None:
        """Forgets shards that are no longer ours, and reads which receivers of new ones fail."""
        held = {shard: epoch for shard in self._shards.held if (epoch := self._shards.epoch(shard)) is not None}
        if held == self._epochs:
            return
        same = {shard for shard, epoch in held.items() if self._epochs.get(shard) == epoch}
        self._watched = {id: watched for id, watched in self._watched.items() if watched.shard in same}
        if new := held.keys() - same:
            # Who ends a route forgets its receiver, if somebody had the shard in that moment.
            await route_health.forget_closed(self._database, new)
            self._adopt(await route_health.of_shards(self._database, new))
        self._epochs = held

    async def _forget_ended(self) -> None:
        if self._ended:
            ended = set(self._ended)
            await route_health.forget(self._database, ended)
            for route_id in ended:
                self._watched.pop(route_id, None)
            self._ended -= ended

    async def _recall(self, route_ids: set[UUID]) -> None:
        """Reads what was known of receivers that are heard of again."""
        if route_ids:
            self._adopt(await route_health.known(self._database, route_ids))

    def _adopt(self, rows: list[HealthRow]) -> None:
        for row in rows:
            found = receivers.of_row(row)
            is_down = found.state is HealthState.DOWN
            self._watched[row.route_id] = _Watched(row.tenant, row.shard, found, found, is_down)

    def _judge(self) -> None:
        heard, self._heard = self._heard, {}
        for route_id, runs in heard.items():
            if (shard := runs[0].last.shard) in self._epochs and self._is_enabled(route_id):
                watched = self._watched.get(route_id)
                if watched is None:
                    watched = self._watched[route_id] = _Watched(runs[0].last.tenant, shard)
                for run in runs:
                    watched.health = _after(watched.health, run)

    async def _write(self) -> None:
        """Writes what has changed, some at a time: there may be a hundred thousand."""
        watched, now = list(self._watched.items()), datetime.now(UTC)
        for begin in range(0, len(watched), ROUTES_AT_ONCE):
            await self._write_some(watched[begin : begin + ROUTES_AT_ONCE], now)
            await asyncio.sleep(0)

    async def _write_some(self, some: list[tuple[UUID, _Watched]], now: datetime) -> None:
        changed: dict[UUID, _Watched] = {}
        for route_id, watched in some:
            if watched.health is None:
                continue
            watched.health = health.rested(watched.health, now)
            if self._is_worth_writing(watched):
                changed[route_id] = watched
            elif watched.health.state is HealthState.OK and self._is_old(watched.health, now):
                del self._watched[route_id]
        if not changed:
            return
        written = {route_id: watched.health for route_id, watched in changed.items()}
        await route_health.write(self._database, [self._row(id, watched) for id, watched in changed.items()])
        for route_id, watched in changed.items():
            watched.written = found = written[route_id]
            if found is not None:
                self._note_turn(route_id, watched, found)

    def _note_turn(self, route_id: UUID, watched: _Watched, found: ReceiverHealth) -> None:
        """Calls `on_turn` with what is written, if it is a turn."""
        is_down = found.state is HealthState.DOWN
        if is_down == watched.was_down or (watched.was_down and found.state is not HealthState.OK):
            return
        watched.was_down = is_down
        if self.on_turn is not None:
            self.on_turn(route_id, found)

    def _is_worth_writing(self, watched: _Watched) -> bool:
        """True for every change of a receiver that fails, and of one that is well if it was not written for long."""
        found, written = watched.health, watched.written
        if found is None or found is written or found == written:
            return False
        if written is None or HealthState.OK not in (found.state, written.state) or found.state != written.state:
            return True
        before, last = written.last_request, found.last_request
        return before is None or last is None or last.at - before.at >= self._told_after

    def _is_old(self, found: ReceiverHealth, now: datetime) -> bool:
        last = found.last_request
        return last is None or now - last.at >= 2 * self._told_after

    def _row(self, route_id: UUID, watched: _Watched) -> HealthRow:
        assert watched.health is not None  # noqa: S101 - only such are written
        wait = self._lanes.probe_wait(route_id)
        return receivers.row_of(
            watched.health,
            route_id=route_id,
            tenant=watched.tenant,
            shard=watched.shard,
            epoch=self._epochs[watched.shard],
            probe_after=None if wait is None else timedelta(seconds=wait),
        )

    def _is_enabled(self, route_id: UUID) -> bool:
        timeline = self._index.timeline(route_id)
        return timeline is not None and timeline.current.is_enabled


def _after(before: ReceiverHealth | None, run: _Run) -> ReceiverHealth:
    last = _request_of(run.last)
    if last.error is not None:
        return health.after(before, last)
    return health.after_successes(before, last, count=run.count, began=run.first_at)


def _request_of(row: AttemptRow) -> AnsweredRequest:
    return AnsweredRequest(
        at=row.started_at,
        status_code=row.status_code,
        error=None if row.outcome == Outcome.DELIVERED else row.error or "failed",
        event_id=row.event_id,
        event_time=row.event_time,
    )
