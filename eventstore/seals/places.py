"""Which seals cover the event, the outcomes and the manual retries of one delivery."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from eventstore.postgres.connect import Database
from eventstore.seals.turns import ORIGIN

# $1 seq, $2 the event time, before which the event was not recorded.
_EVENT = """
SELECT e.recorded_at AS at, s.n AS seal, s.at AS sealed_at
  FROM (SELECT recorded_at, coalesce(sealed_tick, tick, hookledger.tick_of(txid)) AS in_tick
          FROM hookledger.domain_event WHERE seq = $1 AND recorded_at >= $2) e
  LEFT JOIN LATERAL (SELECT n, at FROM hookledger.seal WHERE tick >= e.in_tick ORDER BY tick, n LIMIT 1) s ON true
"""

# The seal of a row `a`, by its transaction, unless a dump was restored since. {{that}} are seals that cover such rows.
_COVERING = f"""
  LEFT JOIN LATERAL (
       SELECT n, at FROM hookledger.seal WHERE n = a.seal
        UNION ALL
       SELECT * FROM (
              SELECT n, at FROM hookledger.seal
               WHERE a.seal IS NULL AND pg_snapshot_xmax(snap) > a.txid::text::xid8
                 AND pg_visible_in_snapshot(a.txid::text::xid8, snap) AND origin = {ORIGIN} AND {{that}}
               ORDER BY pg_snapshot_xmax(snap), n LIMIT 1) first) s ON true
"""

# $1 route, $2 seq, $3 the event time; the day allows for clocks that are set back.
_ATTEMPTS = f"""
SELECT a.at, s.n AS seal, s.at AS sealed_at FROM hookledger.attempt a {_COVERING.format(that="true")}
 WHERE a.route_id = $1 AND a.seq = $2 AND a.at >= $3::timestamptz - interval '1 day'
 ORDER BY a.at, a.number
"""

# $1 route, $2 seq.
_RESENDS = f"""
SELECT a.id, a.at, s.n AS seal, s.at AS sealed_at
  FROM hookledger.resend a {_COVERING.format(that="resends IS NOT NULL")}
 WHERE a.route_id = $1 AND a.seq = $2 ORDER BY a.id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedPlace:
    """A row by the time in its partition's key, and the seal that covers it, None if none does yet."""

    at: datetime
    seal: int | None
    sealed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedResend(SealedPlace):
    """A manual retry."""

    id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedDelivery:
    """Where the rows of a delivery are sealed."""

    event: SealedPlace
    attempts: tuple[SealedPlace, ...]
    resends: tuple[SealedResend, ...]

    @property
    def sealed_at(self) -> datetime | None:
        """When the last of its event and its outcomes was sealed, None if one is not."""
        times = [place.sealed_at for place in (self.event, *self.attempts)]
        return None if None in times else max(at for at in times if at is not None)


async def of_delivery(database: Database, route_id: UUID, seq: int, *, event_time: datetime) -> SealedDelivery | None:
    """Where a delivery is sealed; None if its event is no longer kept."""
    async with database.connection(seconds=10) as connection:
        event = await connection.fetchrow(_EVENT, seq, event_time)
        if event is None:
            return None
        rows = await connection.fetch(_ATTEMPTS, route_id, seq, event_time)
        resends = await connection.fetch(_RESENDS, route_id, seq)
    return SealedDelivery(
        event=SealedPlace(**event),
        attempts=tuple(SealedPlace(**row) for row in rows),
        resends=tuple(SealedResend(**row) for row in resends),
    )
