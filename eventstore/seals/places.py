"""Which seals cover the event and the outcomes of one delivery."""

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

# $1 route, $2 seq, $3 the event time; the day allows for clocks that are set back.
_ATTEMPTS = f"""
SELECT a.at, s.n AS seal, s.at AS sealed_at
  FROM hookledger.attempt a
  LEFT JOIN LATERAL (
       SELECT n, at FROM hookledger.seal WHERE n = a.seal
        UNION ALL
       SELECT * FROM (
              SELECT n, at FROM hookledger.seal
               WHERE a.seal IS NULL AND pg_snapshot_xmax(snap) > a.txid::text::xid8
                 AND pg_visible_in_snapshot(a.txid::text::xid8, snap) AND origin = {ORIGIN}
               ORDER BY pg_snapshot_xmax(snap), n LIMIT 1) first) s ON true
 WHERE a.route_id = $1 AND a.seq = $2 AND a.at >= $3::timestamptz - interval '1 day'
 ORDER BY a.at, a.number
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedPlace:
    """A row by the time in its partition's key, and the seal that covers it, None if none does yet."""

    at: datetime
    seal: int | None
    sealed_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedDelivery:
    """Where the rows of a delivery are sealed."""

    event: SealedPlace
    attempts: tuple[SealedPlace, ...]

    @property
    def sealed_at(self) -> datetime | None:
        """When the last of its rows was sealed, None if one is not."""
        times = [place.sealed_at for place in (self.event, *self.attempts)]
        return None if None in times else max(at for at in times if at is not None)


async def of_delivery(database: Database, route_id: UUID, seq: int, *, event_time: datetime) -> SealedDelivery | None:
    """Where a delivery is sealed; None if its event is no longer kept."""
    async with database.connection(seconds=10) as connection:
        event = await connection.fetchrow(_EVENT, seq, event_time)
        if event is None:
            return None
        rows = await connection.fetch(_ATTEMPTS, route_id, seq, event_time)
    return SealedDelivery(event=SealedPlace(**event), attempts=tuple(SealedPlace(**row) for row in rows))
