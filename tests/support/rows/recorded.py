"""A delivery of an event that was read, and its recorded attempts, written as the pipeline writes them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

from daemon.core.delivery.answer import delivery_id, delivery_key
from eventstore.domain_events import ticks
from eventstore.domain_events.events import shard_of
from eventstore.leases import lease
from eventstore.progress import recording
from eventstore.progress.recording import Flush
from eventstore.progress.rows import AttemptRow, RetryRow
from tests.support.rows.credentials import LOG_MACS
from tests.support.web.application import App

TENANT = "acme"
HEAD = '[["Content-Type","text/plain"],["X-Twice","a"],["X-Twice","b"]]'
STARTED = datetime(2026, 11, 23, 8, tzinfo=UTC)

_flushes = count(1)


class Recorded:
    """The delivery of an event to a route: `route` as the API shows it, `event` as the database has it."""

    def __init__(self, app: App, route: dict[str, Any], event: dict[str, Any]) -> None:
        self.app = app
        self.route = route
        self.event = event
        self.event_time = min(event["recorded_at"], event["occurred_at"] or event["recorded_at"])
        self.id = delivery_id(UUID(route["id"]), event["id"], self.event_time)

    async def record(self, *rows: AttemptRow) -> None:
        await self._flush(Flush(attempts=list(rows)))

    async def wait(self, *, failures: int = 1, after: timedelta = timedelta(minutes=5)) -> None:
        """Records a retry that is due after `after`."""
        event = self.event
        row = RetryRow(
            shard_of(TENANT),
            UUID(self.route["id"]),
            event["seq"],
            event["recorded_at"],
            self.event_time,
            1,
            failures,
            after,
            TENANT,
        )
        await self._flush(Flush(retries=[row]))

    def row(self, outcome: str, *, number: int = 1, **more: Any) -> AttemptRow:
        key_ids = self.route["key"]["id"] if number else None
        row = AttemptRow(
            self.event["seq"], 1, UUID(self.route["id"]), self.event["recorded_at"], STARTED, shard_of(TENANT),
            200, number, 42, 1, False, outcome, None, TENANT, self.event["id"],
            self.event["type"], key_ids, HEAD, b"ok",
            delivery_key=delivery_key(self.id) if number else None,
        )  # fmt: skip
        return row._replace(**more)

    async def forget_event(self) -> None:
        """Deletes the event, as retention does."""
        async with self.app.database.transaction() as connection:
            await connection.execute("SET LOCAL session_replication_role = replica")
            await connection.execute("DELETE FROM hookledger.domain_event")

    async def _flush(self, flush: Flush) -> None:
        epochs = await lease.acquire(self.app.database, "me", [shard_of(TENANT)])
        assert await recording.flush(self.app.database, "me", epochs, flush, number=next(_flushes), macs=LOG_MACS)


async def recorded(app: App, *, data: dict[str, Any] | None = None, id: str = "e1", **route: Any) -> Recorded:
    """A delivery of a new event to a new route. The event is read; no attempt is recorded."""
    made = await app.route(**route)
    await app.ask("POST", "/v1/events", {"tenant": TENANT, "type": "order.create", "id": id, "data": data or {}})
    await ticks.make(app.database)
    return Recorded(app, made, (await app.events())[-1])


async def age_events(app: App, to: datetime, *, only_newest: bool = False) -> None:
    """Sets the time at which events were recorded, and frees their ids, as they are free a day later."""
    async with app.database.transaction() as connection:
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute("SELECT hookledger.ensure_partitions($1, $1)", to.date())
        await connection.execute(
            "UPDATE hookledger.domain_event SET recorded_at = $1"
            " WHERE NOT $2 OR seq = (SELECT max(seq) FROM hookledger.domain_event)",
            to,
            only_newest,
        )
        await connection.execute("DELETE FROM hookledger.domain_event_midnight")


async def age_routes(app: App, by: timedelta) -> None:
    """Has all that happened to routes happen earlier. An app that is open does not notice."""
    async with app.database.transaction() as connection:
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute("UPDATE hookledger.route_event SET effective_at = effective_at - $1::interval", by)
