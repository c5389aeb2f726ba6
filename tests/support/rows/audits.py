"""Deliveries without a pipeline for audits of the web application, and audits that have ended."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import uuid4

import orjson

from daemon.core.delivery.answer import delivery_id, delivery_key
from daemon.web.service.auditing import audit_signatures
from eventstore.domain_events import ticks
from eventstore.progress import audit_jobs
from tests.support.audit.seals import VAULT
from tests.support.rows.credentials import sign_outcomes
from tests.support.web.application import App

# As the pipeline leaves a delivery: the outcome, and the checkpoints behind its tick.
_DELIVER = """
INSERT INTO hookledger.attempt (shard, seq, tick, route_id, event_time, started_at, number, duration_ms, route_version,
                                outcome, status_code, tenant, event_id, event_type, key_ids,
                                delivery_key)
SELECT hookledger.shard_of(e.tenant), e.seq, t.tick, k.route_id, least(e.recorded_at, t.closed_upto), clock_timestamp(), 1,
       0, 1, 'delivered', 200, e.tenant, e.id, e.type, k.key_id, $1
  FROM hookledger.domain_event e, hookledger.tick t, hookledger.route_key k
 WHERE t.tick = (SELECT max(tick) FROM hookledger.tick)
   AND NOT EXISTS (SELECT FROM hookledger.attempt a WHERE a.seq = e.seq)
"""
_READ = "UPDATE hookledger.checkpoint SET tick = (SELECT max(tick) FROM hookledger.tick)"
_TAMPER = "UPDATE hookledger.attempt SET status_code = 500"

_SIGN = "UPDATE hookledger.audit_job SET signature = $2 WHERE id = $1"
_INSERT = "INSERT INTO hookledger.audit_job (id, actor, {}) VALUES ($1, 'admin', {})"


async def deliver(app: App, event_id: str) -> None:
    """An event that the one route of the database has got."""
    body = {"tenant": "acme", "type": "order.create", "data": {}, "id": event_id}
    assert (await app.ask("POST", "/v1/events", body)).status == 202
    await ticks.make(app.database)
    (route,) = await app.log()
    await app.rows(_DELIVER, delivery_key(delivery_id(route["route_id"], event_id, datetime.now(UTC))))
    async with app.database.connection() as connection:
        await sign_outcomes(connection)
    await app.rows(_READ)


async def pass_over(app: App, event_id: str, data: dict[str, object]) -> None:
    """An event that was read, and that no route has got."""
    body = {"tenant": "acme", "type": "order.create", "data": data, "id": event_id}
    assert (await app.ask("POST", "/v1/events", body)).status == 202
    await ticks.make(app.database)
    await app.rows(_READ)


async def tamper(app: App) -> None:
    """Changes every outcome, as somebody would who has the database."""
    await app.rows(_TAMPER)


async def audit_row(app: App, *, findings: list[dict[str, object]] | None = None, **columns: object) -> str:
    """The id of an audit as some process has left its row; it has ended unless `columns` say that it runs."""
    values: dict[str, object] = {"state": "done", **columns}
    if values["state"] != "running":
        values.setdefault("ended_at", datetime.now(UTC))
    if findings is not None:
        values |= {"found": values.get("found", len(findings)), "findings": orjson.dumps(findings).decode()}
    job, places = uuid4(), ", ".join(f"${number}" for number in range(2, len(values) + 2))
    await app.rows(_INSERT.format(", ".join(values), places), job, *values.values())
    row = await audit_jobs.find(app.database, job)
    assert row is not None
    if row.state != "running":
        await app.rows(_SIGN, job, audit_signatures.signature(row, VAULT.seal_keys[0]))
    return str(job)
