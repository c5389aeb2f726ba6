"""Looks for rows that an audit of events would never meet: of a route or an event that they do not go with.

An audit asks for what is recorded of an event and the routes that it concerns. So here each table is walked once, from
its own side. The caller gets groups, not rows: a route, with the tenant and the type of the events of its rows.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg

from eventstore.postgres.connect import Database

PAGE_ROWS = 20_000

_SECONDS = 60.0


class RowGroup(NamedTuple):
    """Rows of one route in `table` whose events have that tenant and type; both are None if there are no such events.

    `seq` is the highest seq, and `event_time` the latest event time that the rows tell, None if they tell none. With
    `is_early` they were recorded so long before their event that nobody looks for them there.
    """

    table: str
    route_id: UUID
    tenant: str | None
    type: str | None
    seq: int
    event_time: datetime | None
    is_early: bool


# The event of a row is looked for where its times allow it to be, and everywhere only if it is not there: no index on
# seq spans the partitions.
_GROUPED = """
WITH page AS MATERIALIZED ({page}), found AS MATERIALIZED (
    SELECT p.route_id, p.seq, p.event_time, p.until, e.tenant, e.type
      FROM page p
      LEFT JOIN LATERAL (SELECT d.tenant, d.type FROM hookledger.domain_event d
                          WHERE d.seq = p.seq AND d.recorded_at >= p.since AND d.recorded_at <= p.until
                          LIMIT 1) e ON true
), known AS (
    SELECT route_id, seq, event_time, tenant, type, false AS is_early FROM found WHERE tenant IS NOT NULL
     UNION ALL
    SELECT f.route_id, f.seq, f.event_time, d.tenant, d.type, coalesce(d.recorded_at > f.until, false)
      FROM found f LEFT JOIN LATERAL (SELECT d.tenant, d.type, d.recorded_at FROM hookledger.domain_event d
                                       WHERE d.seq = f.seq LIMIT 1) d ON true
     WHERE f.tenant IS NULL
)
SELECT route_id, tenant, type, is_early, max(seq) AS seq, max(event_time) AS event_time,
       last.last_route, last.last_seq, last.rows
  FROM known,
       (SELECT p.route_id AS last_route, p.seq AS last_seq, (SELECT count(*) FROM page) AS rows
          FROM page p ORDER BY p.route_id DESC, p.seq DESC LIMIT 1) last
 GROUP BY known.route_id, tenant, type, is_early, last.last_route, last.last_seq, last.rows
"""

# $1 and $2 the pair to begin after, $3 rows; of outcomes $4 and $5 when they were recorded; then the tenant.
_PAGES = {
    "attempt": """
    SELECT route_id, seq, event_time, event_time AS since, at + interval '1 day' AS until FROM hookledger.attempt
     WHERE (route_id, seq) > ($1::uuid, $2::bigint) AND at >= $4 AND at < $5 {whose}
     ORDER BY route_id, seq LIMIT $3""",
    "retry": """
    SELECT route_id, seq, event_time, recorded_at AS since, recorded_at AS until FROM hookledger.retry
     WHERE (route_id, seq) > ($1::uuid, $2::bigint) {whose}
     ORDER BY route_id, seq LIMIT $3""",
    "resend": """
    SELECT route_id, seq, NULL::timestamptz AS event_time, '-infinity'::timestamptz AS since, at AS until
      FROM hookledger.resend WHERE (route_id, seq) > ($1::uuid, $2::bigint)
     ORDER BY route_id, seq LIMIT $3""",
}
_PARKED_ROUTES = "SELECT DISTINCT route_id FROM hookledger.parked {whose}"
_PARKED = _GROUPED.format(
    page="""
    SELECT p.route_id, u.seq, u.event_time, u.recorded_at AS since, u.recorded_at AS until
      FROM hookledger.parked p, unnest(p.seqs, p.event_times, p.recorded_ats) AS u (seq, event_time, recorded_at)
     WHERE p.route_id = $1"""
)


async def groups(database: Database, start: datetime, end: datetime, *, tenant: str | None) -> AsyncIterator[RowGroup]:
    """The rows of each table that names a route and an event, in groups; of outcomes those recorded in [start, end)."""
    for table, page in _PAGES.items():
        has_tenant = tenant is not None and table != "resend"
        number = 6 if table == "attempt" else 4
        statement = _GROUPED.format(page=page.format(whose=f"AND tenant = ${number}" if has_tenant else ""))
        bound: list[object] = [start, end] if table == "attempt" else []
        bound += [tenant] if has_tenant else []
        route_id, seq, is_more = UUID(int=0), -1, True
        while is_more:
            rows = await _fetch(database, statement, route_id, seq, PAGE_ROWS, *bound)
            for row in rows:
                yield _group(table, row)
            is_more = bool(rows) and rows[0]["rows"] == PAGE_ROWS
            if is_more:
                route_id, seq = rows[0]["last_route"], rows[0]["last_seq"]
    whose = "" if tenant is None else "WHERE tenant = $1"
    parked = await _fetch(database, _PARKED_ROUTES.format(whose=whose), *([] if tenant is None else [tenant]))
    for of_route in parked:
        for row in await _fetch(database, _PARKED, of_route["route_id"]):
            yield _group("parked", row)


async def _fetch(database: Database, statement: str, *bound: object) -> list[asyncpg.Record]:
    async with database.connection(seconds=_SECONDS) as connection:
        rows: list[asyncpg.Record] = await connection.fetch(statement, *bound)
    return rows


def _group(table: str, row: asyncpg.Record) -> RowGroup:
    return RowGroup(table, row["route_id"], row["tenant"], row["type"], row["seq"], row["event_time"], row["is_early"])
