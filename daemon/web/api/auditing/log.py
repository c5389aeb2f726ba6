"""The route log as it is stored, for auditors: with it and a seal anybody can fold the routes and check the chain."""

from __future__ import annotations

from typing import Annotated

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from daemon.core.routing.route import LifecycleEventType
from daemon.web.access.queries import query_database
from daemon.web.http import shapes
from daemon.web.http.endpoints import Access, Query, endpoint
from daemon.web.http.shapes import Moment, Uuid, moment
from eventstore import route_log
from eventstore.route_log import signatures
from eventstore.route_log.log import RouteEvent

MAX_ROWS = 200
_MAX_POSITION = 2**63 - 1


class LogRowShape(TypedDict):
    """A row of the route log. `body` is its JSON as it was hashed; hash = SHA-256 of `prev_hash` and the row.
    `signature` is in hex, null for what was appended before there were any.
    """

    pos: Annotated[int, Field(ge=1)]
    route: Uuid
    tenant: Annotated[str, Field(examples=["acme"])]
    version: Annotated[int, Field(ge=1)]
    type: LifecycleEventType
    effective_at: Moment
    actor: Annotated[str, Field(examples=["admin"])]
    origin: Annotated[str, Field(examples=["api"])]
    reason: Annotated[str | None, Field(examples=["moved to the new shop"])]
    request_id: Annotated[str | None, Field(examples=[None])]
    correlation_id: Annotated[str | None, Field(examples=[None])]
    causation_id: Annotated[str | None, Field(examples=[None])]
    body: Annotated[str, Field(examples=["{}"])]
    prev_hash: Annotated[str, Field(pattern="^([0-9a-f]{64})?$", examples=["9f86d081884c7d65" * 4])]
    hash: Annotated[str, Field(pattern="^[0-9a-f]{64}$", examples=["9f86d081884c7d65" * 4])]
    signature: Annotated[str | None, Field(pattern="^[0-9a-f]{128}$", examples=["9f86d081884c7d65" * 8])]


class LogPageShape(TypedDict):
    """A part of the route log. `next` is the `after` of the following part, null if this is the last."""

    items: list[LogRowShape]
    next: Annotated[int | None, Field(examples=[None])]


@endpoint(
    Access.OPERATIONS,
    Query(
        name="after",
        description="only what follows this position",
        schema={"type": "integer", "minimum": 0, "maximum": _MAX_POSITION, "default": 0},
    ),
    Query(
        name="limit",
        description=f"how many rows, at most {MAX_ROWS}",
        schema={"type": "integer", "minimum": 1, "maximum": MAX_ROWS, "default": MAX_ROWS},
    ),
    answers={200: LogPageShape},
)
async def show(request: web.Request) -> web.Response:
    """The route log, oldest first: every row of every tenant, as it was hashed."""
    after, limit = int(request.query.get("after", "0")), int(request.query.get("limit", str(MAX_ROWS)))
    database = query_database(request)
    rows = await route_log.page(database, after=after, limit=limit + 1)
    signed = await signatures.between(database, after=after, upto=rows[-1].pos) if rows else {}
    shown = rows[:limit]
    body: LogPageShape = {
        "items": [_of_row(row, signed.get(row.pos)) for row in shown],
        "next": shown[-1].pos if len(rows) > limit else None,
    }
    return shapes.answer(body)


def _of_row(row: RouteEvent, signature: bytes | None) -> LogRowShape:
    return {
        "pos": row.pos,
        "route": str(row.route_id),
        "tenant": row.tenant,
        "version": row.version,
        "type": LifecycleEventType(row.type),
        "effective_at": moment(row.effective_at),
        "actor": row.actor,
        "origin": row.origin,
        "reason": row.reason,
        "request_id": row.request_id,
        "correlation_id": row.correlation_id,
        "causation_id": row.causation_id,
        "body": row.body,
        "prev_hash": row.prev_hash.hex(),
        "hash": row.hash.hex(),
        "signature": None if signature is None else signature.hex(),
    }
