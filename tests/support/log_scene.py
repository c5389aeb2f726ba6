"""Deliveries in every state there is, written as the pipeline writes them, and what a list must say of each.

What the list is held against shares no code with it: the scene knows what it wrote.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

from daemon.core.delivery.answer import delivery_key
from eventstore import domain_events
from eventstore.domain_events import ticks
from eventstore.domain_events.events import NewEvent, shard_of
from eventstore.postgres.connect import Database
from eventstore.progress import lease, recording
from eventstore.progress.recording import AttemptRow, Flush, ParkedRow, RetryRow
from tests.support.web import Door, door

TENANT = "acme"
TYPES = ("order.create", "order.pay", "shop.open")
# Of the ticks that the scene makes, the last that is accounted for, and the first of a range.
CHECKPOINT, RANGE_FROM = 4, 3

# Both logs refuse to change; only a superuser who calls himself a replica may.
_AGE_ROUTES = """
SET session_replication_role = replica;
UPDATE hookledger.route_event SET effective_at = effective_at - interval '20 days'
"""


@dataclass(frozen=True, slots=True)
class Told:
    """What a list must say of a delivery."""

    event_time: datetime
    seq: int
    route_id: UUID
    event_id: str
    event_type: str
    status: str
    attempts: int

    @property
    def place(self) -> tuple[datetime, int, UUID]:
        return self.event_time, self.seq, self.route_id


@dataclass(slots=True)
class LogScene:
    """`deliveries` are all there are of the tenant; `broad`, `filtered` and `ranged` its routes."""

    door: Door
    broad: UUID
    filtered: UUID
    ranged: UUID
    deliveries: list[Told] = field(default_factory=list)

    def expected(self, fits: Callable[[Told], bool] = lambda _told: True) -> list[Told]:
        """Those deliveries, in the order of the list."""
        return sorted(filter(fits, self.deliveries), key=lambda told: told.place, reverse=True)


@asynccontextmanager
async def log_scene(url: str) -> AsyncIterator[LogScene]:
    async with door(url) as opened:
        routes = [
            await opened.route(TENANT, event_types=types, payload=options)
            for types, options in (
                (["order.*"], {}),
                (["*"], {"filter": "data.object.n > `20`"}),
                (["order.create"], {}),
            )
        ]
        await opened.route("other", event_types=["*"])
    sql = await asyncpg.connect(url)
    await sql.execute(_AGE_ROUTES)
    async with door(url) as opened:
        broad, filtered, ranged = (UUID(route["id"]) for route in routes)
        scene = LogScene(door=opened, broad=broad, filtered=filtered, ranged=ranged)
        await _write(scene, sql)
        yield scene
    await sql.close()


async def _write(scene: LogScene, sql: asyncpg.Connection) -> None:
    dice = random.Random(7)
    now = datetime.now(UTC)
    numbers = iter(range(10_000))
    for tick in range(1, 8):
        events = list(_events(dice, now, numbers))
        await domain_events.publish(scene.door.database, events)
        await domain_events.publish(
            scene.door.database, [NewEvent(tenant="other", id=f"o{tick}", type="order.pay", data=b"{}")]
        )
        if tick < 7:  # the last ones are not read
            assert await ticks.make(scene.door.database) == tick
        await _deliver(scene, sql, dice, [event.id for event in events], tick)
    await sql.execute(
        "INSERT INTO hookledger.parked_range (route_id, shard, from_tick, pairs) VALUES ($1, $2, $3, 1)",
        scene.ranged, shard_of(TENANT), RANGE_FROM,
    )  # fmt: skip
    await sql.execute("UPDATE hookledger.checkpoint SET tick = $1", CHECKPOINT)


def _events(dice: random.Random, now: datetime, numbers: Iterator[int]) -> Iterator[NewEvent]:
    """Events of which some happened at one moment, some long ago, and some just now."""
    moments = [None, *(now - timedelta(days=dice.uniform(0, 10)) for _ in range(4))]
    for _ in range(10):
        number = next(numbers)
        yield NewEvent(
            tenant=TENANT,
            id=f"e{number}",
            type=TYPES[number % 3],
            data=b'{"n": %d}' % number,
            occurred_at=dice.choice(moments),
        )


async def _deliver(scene: LogScene, sql: asyncpg.Connection, dice: random.Random, ids: list[str], tick: int) -> None:
    """Writes what became of the deliveries of these events."""
    rows = await sql.fetch("SELECT * FROM hookledger.domain_event WHERE id = ANY ($1) ORDER BY seq", ids)
    writer = _Writer(scene.door.database, tick)
    for row in rows:
        for route_id in _due(scene, row):
            is_written = tick <= CHECKPOINT and not (route_id == scene.ranged and tick >= RANGE_FROM)
            # Above the checkpoint some have an outcome already.
            kind = dice.choice(KINDS) if is_written else dice.choice([None, None, "delivered"]) if tick < 7 else None
            status, attempts = writer.write(row, route_id, kind)
            scene.deliveries.append(
                Told(writer.time(row), row["seq"], route_id, row["id"], row["type"], status, attempts)
            )
    await writer.flush(dice)


def _due(scene: LogScene, event: asyncpg.Record) -> list[UUID]:
    number = int(event["id"][1:])
    return [
        *([scene.broad] if event["type"].startswith("order.") else []),
        *([scene.filtered] if number > 20 else []),
        *([scene.ranged] if event["type"] == "order.create" else []),
    ]


# What may have become of a delivery: its outcomes with their numbers, then what waits for it, and how that is told.
_FATES: dict[str, tuple[list[tuple[str, int]], str | int | None, str]] = {
    "delivered": ([("delivered", 1)], None, "delivered"),
    "delivered late": ([("retrying", 1), ("retrying", 2), ("delivered", 3)], None, "delivered"),
    "failed": ([("retrying", 1), ("failed", 2)], None, "failed"),
    "suppressed": ([("suppressed", 0)], None, "suppressed"),
    "suppressed late": ([("retrying", 1), ("suppressed", 0)], None, "suppressed"),
    "expired": ([("expired", 0)], None, "expired"),
    "retrying": ([("retrying", 1)], 1, "pending"),
    "under way for long": ([], 0, "pending"),
    "parked": ([], "parked", "pending"),
    "parked and sent": ([("delivered", 1)], "parked", "delivered"),
    "failed, asked for again": ([("failed", 1)], 1, "pending"),
    "failed, sent again": ([("failed", 1), ("delivered", 2)], None, "delivered"),
    "delivered, sent again in vain": ([("delivered", 1), ("failed", 2)], None, "delivered"),
    "delivered, asked for again": ([("delivered", 1)], 1, "delivered"),
}
KINDS = tuple(_FATES)


class _Writer:
    def __init__(self, database: Database, tick: int) -> None:
        self._database = database
        self._tick = tick
        self._batches: dict[int, list[AttemptRow]] = {}
        self._retries: list[RetryRow] = []
        self._parked: list[ParkedRow] = []

    def time(self, event: asyncpg.Record) -> datetime:
        at: datetime = min(event["recorded_at"], event["occurred_at"] or event["recorded_at"])
        return at

    def write(self, event: asyncpg.Record, route_id: UUID, kind: str | None) -> tuple[str, int]:
        """Notes a fate, or none; the status and the number of requests that follow."""
        if kind is None:
            return "pending", 0
        outcomes, waiting, status = _FATES[kind]
        for place, (outcome, number) in enumerate(outcomes):
            self._batches.setdefault(place, []).append(self._attempt(event, route_id, outcome, number))
        shard, seq, recorded_at, at = shard_of(TENANT), event["seq"], event["recorded_at"], self.time(event)
        if isinstance(waiting, int):
            self._retries.append(
                RetryRow(shard, route_id, seq, recorded_at, at, self._tick, waiting, timedelta(hours=1), TENANT)
            )
        elif waiting is not None:
            self._parked.append(ParkedRow(shard, route_id, seq, self._tick, recorded_at, at, TENANT))
        return status, max((number for _, number in outcomes), default=0)

    async def flush(self, dice: random.Random) -> None:
        """Writes outcomes in their order, and parked rows of few deliveries each."""
        epochs = await lease.acquire(self._database, f"owner {self._tick}", [shard_of(TENANT)], ttl=timedelta(0))
        batches = [Flush(attempts=rows) for _, rows in sorted(self._batches.items())]
        batches.append(Flush(retries=self._retries))
        while self._parked:
            size = dice.randint(1, 4)
            batches.append(Flush(parked=self._parked[:size]))
            self._parked = self._parked[size:]
        for number, batch in enumerate(batches, 1):
            assert await recording.flush(self._database, f"owner {self._tick}", epochs, batch, number=number)

    def _attempt(self, event: asyncpg.Record, route_id: UUID, outcome: str, number: int) -> AttemptRow:
        at = self.time(event)
        return AttemptRow(
            shard_of(TENANT), event["seq"], self._tick, route_id, at, datetime.now(UTC),
            200 if outcome == "delivered" else 500, number, 5, 1, outcome,
            None if outcome == "delivered" else "http_500", TENANT, event["id"], event["type"], "k", "[]", b"",
            delivery_key=delivery_key(route_id, event["id"]) if number else None,
        )  # fmt: skip


def told(item: dict[str, Any]) -> tuple[str, str, str, int]:
    """Of an item of a list what the scene knows too."""
    return item["event"]["id"], item["route"]["id"], item["status"], item["attempts"]


def tell(expected: Told) -> tuple[str, str, str, int]:
    return expected.event_id, str(expected.route_id), expected.status, expected.attempts
