"""Events whose data may have a value: read downwards, those that have its bytes, for somebody else to look into.

No index knows the fields of payloads. An index leads through the events of the tenant, or of one type of them, so that
what is read is a stretch of the newest ones, of a bounded number of rows and of bytes. The server only looks for bytes,
which takes microseconds for a short payload and milliseconds for a megabyte; JSON is parsed by the caller, and only
where they were found.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from eventstore.postgres.connect import Database
from eventstore.queries.events.listing import (
    BELOW,
    BELOW_OF_TYPE,
    COLUMNS,
    DOWNWARDS,
    DOWNWARDS_OF_TYPE,
    READ_SECONDS,
    WITH_TICK,
    LoggedEvent,
    logged_event,
)

# $1 the tenant, $2 and $3 the time and seq to begin below, $4 the lowest time, $5 events to look at, $6 the bytes of
# which one must be there, $7 the most to return, $8 the bytes of payloads to look at, $9 the type if there is one. The
# last event that was looked at is returned in any case, as the end. The length of a long payload is known without
# reading it.
_CANDIDATES = f"""
WITH looked_at AS MATERIALIZED (
    SELECT *, nth = $5 OR bytes_to_it >= $8 AS is_end FROM (
        SELECT {COLUMNS}, data, octet_length(data) AS bytes, row_number() OVER below AS nth,
               sum(octet_length(data)) OVER (below ROWS UNBOUNDED PRECEDING) AS bytes_to_it
          FROM hookledger.domain_event
         WHERE tenant = $1 AND {{below}}
        WINDOW below AS (ORDER BY {{order}}) ORDER BY {{order}} LIMIT $5) stretch
     WHERE bytes_to_it - bytes < $8 AND (
           nth = $5 OR bytes_to_it >= $8
           OR EXISTS (SELECT FROM unnest($6::bytea[]) AS n (needle) WHERE position(n.needle IN data) > 0))
     ORDER BY nth LIMIT $7)
SELECT l.*, c.data, c.is_end
  FROM ({WITH_TICK.format(events="SELECT * FROM looked_at")}) l
  JOIN looked_at c ON c.nth = l.nth
 ORDER BY l.nth
"""
OF_ANY_TYPE = _CANDIDATES.format(order=DOWNWARDS, below=BELOW.format(time="$2", seq="$3", since="$4"))
OF_TYPE = _CANDIDATES.format(
    order=DOWNWARDS_OF_TYPE, below=BELOW_OF_TYPE.format(name="$9", time="$2", seq="$3", since="$4")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchBounds:
    """How far one search goes: at most `rows` events are looked at, with `data_bytes` of payloads and the one that
    exceeds them, and at most `hits` are returned.
    """

    rows: int
    data_bytes: int
    hits: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Events that may fit, newest first, each with its data. `down_to` is the time and seq of the last one that was
    looked at, None if there are no more.
    """

    events: list[tuple[LoggedEvent, bytes]]
    down_to: tuple[datetime, int] | None


async def candidates(
    database: Database,
    tenant: str,
    begin: tuple[datetime, int],
    *,
    since: datetime,
    event_type: str | None,
    needles: Sequence[bytes],
    bounds: SearchBounds,
) -> Candidates:
    """Events below the time and seq `begin` whose data has one of the `needles`, of one type or of any."""
    statement, of_type = (OF_ANY_TYPE, []) if event_type is None else (OF_TYPE, [event_type])
    async with database.connection(seconds=READ_SECONDS) as connection:
        found = await connection.fetch(
            statement, tenant, *begin, since, bounds.rows, needles, bounds.hits, bounds.data_bytes, *of_type
        )
    is_more = bool(found) and (found[-1]["is_end"] or len(found) == bounds.hits)
    return Candidates(
        events=[(logged_event(row), row["data"]) for row in found],
        down_to=(found[-1]["claimed"], found[-1]["seq"]) if is_more else None,
    )
