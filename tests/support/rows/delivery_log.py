"""Deliveries in every state there is, written as the pipeline writes them, and what a list must say of each.

The expectation shares no code with the lists: this module remembers what it wrote.
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

from daemon.core.delivery.answer import delivery_id, delivery_key
from eventstore import domain_events
from eventstore.domain_events import ticks
from eventstore.domain_events.events import NewEvent, shard_of
from eventstore.leases import lease
from eventstore.postgres.connect import Database
from eventstore.progress import recording
from eventstore.progress.recording import Flush
from eventstore.progress.rows import AttemptRow, ParkedRow, RetryRow
from tests.support.rows.credentials import LOG_MACS
from tests.support.web.application import App, app

TENANT = "acme"
TYPES = ("order.create", "order.pay", "shop.open")
# Among the ticks made here: the checkpoint, and the first tick of the parked range.
CHECKPOINT, RANGE_FROM = 4, 3

# Triggers forbid changes to both logs, except in the role of a replica.
_AGE_ROUTES = """
SET session_replication_role = replica;
UPDATE hookledger.route_event SET effective_at = effective_at - interval '20 days'
"""


@dataclass(frozen=True, slots=True)
class ExpectedDelivery:
    """The fields that a list must show for a delivery."""

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
class DeliveryLog:
    """`deliveries` are all deliveries of the tenant. `broad`, `filtered` and `ranged` are the ids of its routes."""

    app: App
    broad: UUID
    filtered: UUID
    ranged: UUID
    deliveries: list[ExpectedDelivery] = field(default_factory=list)

    def expected(self, fits: Callable[[ExpectedDelivery], bool] = lambda _expected: True) -> list[ExpectedDelivery]:
        """The deliveries that fit, in the order of the list."""
        return sorted(filter(fits, self.deliveries), key=lambda expected: expected.place, reverse=True)


@asynccontextmanager
async def delivery_log(url: str) -> AsyncIterator[DeliveryLog]:
    async with app(url) as opened:
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
    async with app(url) as opened:
        broad, filtered, ranged = (UUID(route["id"]) for route in routes)
        log = DeliveryLog(app=opened, broad=broad, filtered=filtered, ranged=ranged)
        await _write(log, sql)
        yield log
    await sql.close()


async def _write(log: DeliveryLog, sql: asyncpg.Connection) -> None:
    dice = random.Random(7)
    now = datetime.now(UTC)
    numbers = iter(range(10_000))
    for tick in range(1, 8):
        events = list(_events(dice, now, numbers))
        await domain_events.publish(log.app.database, events)
        await domain_events.publish(
            log.app.database, [NewEvent(tenant="other", id=f"o{tick}", type="order.pay", data=b"{}")]
        )
        if tick < 7:  # the last ones are not read
            assert await ticks.make(log.app.database) == tick
        await _deliver(log, sql, dice, [event.id for event in events], tick)
    await sql.execute(
        "INSERT INTO hookledger.parked_range (route_id, shard, from_tick, pairs) VALUES ($1, $2, $3, 1)",
        log.ranged, shard_of(TENANT), RANGE_FROM,
    )  # fmt: skip
    await sql.execute("UPDATE hookledger.checkpoint SET tick = $1", CHECKPOINT)


def _events(dice: random.Random, now: datetime, numbers: Iterator[int]) -> Iterator[NewEvent]:
    """Ten events; several share a moment in the last ten days, the others happen now."""
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


async def _deliver(log: DeliveryLog, sql: asyncpg.Connection, dice: random.Random, ids: list[str], tick: int) -> None:
    """Writes the outcomes of the deliveries of these events."""
    rows = await sql.fetch("SELECT * FROM hookledger.domain_event WHERE id = ANY ($1) ORDER BY seq", ids)
    writer = _Writer(log.app.database, tick)
    for row in rows:
        for route_id in _due(log, row):
            is_written = tick <= CHECKPOINT and not (route_id == log.ranged and tick >= RANGE_FROM)
            # Above the checkpoint some have an outcome already.
            kind = dice.choice(KINDS) if is_written else dice.choice([None, None, "delivered"]) if tick < 7 else None
            status, attempts = writer.write(row, route_id, kind)
            log.deliveries.append(
                ExpectedDelivery(writer.time(row), row["seq"], route_id, row["id"], row["type"], status, attempts)
            )
    await writer.flush(dice)


def _due(log: DeliveryLog, event: asyncpg.Record) -> list[UUID]:
    number = int(event["id"][1:])
    return [
        *([log.broad] if event["type"].startswith("order.") else []),
        *([log.filtered] if number > 20 else []),
        *([log.ranged] if event["type"] == "order.create" else []),
    ]


# Kind of delivery → its outcomes with their attempt numbers; what is pending: the failures of its retry row, or
# "parked"; the status that lists show.
_HISTORIES: dict[str, tuple[list[tuple[str, int]], str | int | None, str]] = {
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
KINDS = tuple(_HISTORIES)


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
        """Queues the rows of a kind of delivery, none for None. Returns its status and its number of attempts."""
        if kind is None:
            return "pending", 0
        outcomes, waiting, status = _HISTORIES[kind]
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
        """Writes the attempts in their order, then retries, then parked rows of one to four deliveries each."""
        epochs = await lease.acquire(self._database, f"owner {self._tick}", [shard_of(TENANT)], ttl=timedelta(0))
        batches = [Flush(attempts=rows) for _, rows in sorted(self._batches.items())]
        batches.append(Flush(retries=self._retries))
        while self._parked:
            size = dice.randint(1, 4)
            batches.append(Flush(parked=self._parked[:size]))
            self._parked = self._parked[size:]
        for number, batch in enumerate(batches, 1):
            assert await recording.flush(
                self._database, f"owner {self._tick}", epochs, batch, number=number, macs=LOG_MACS
            )

    def _attempt(self, event: asyncpg.Record, route_id: UUID, outcome: str, number: int) -> AttemptRow:
        at = self.time(event)
        return AttemptRow(
            event["seq"], self._tick, route_id, at, datetime.now(UTC), shard_of(TENANT),
            200 if outcome == "delivered" else 500, number, 5, 1, False, outcome,
            None if outcome == "delivered" else "http_500", TENANT, event["id"], event["type"], "k", "[]", b"",
            delivery_key=delivery_key(delivery_id(route_id, event["id"], at)) if number else None,
        )  # fmt: skip


def shown_fields(item: dict[str, Any]) -> tuple[str, str, str, int]:
    """The fields of a listed item that `expected_fields` has too."""
    return item["event"]["id"], item["route"]["id"], item["status"], item["attempts"]


def expected_fields(expected: ExpectedDelivery) -> tuple[str, str, str, int]:
    return expected.event_id, str(expected.route_id), expected.status, expected.attempts
