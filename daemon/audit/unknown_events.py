"""Why there is no event of an id: it was never published, retention has dropped it, or it was lost with an old primary.

Outcomes may be kept for longer than their events. Then they tell that there was one, and what became of it.
"""

from __future__ import annotations

from daemon.core.texts import moment
from eventstore.domain_events import lost_log
from eventstore.postgres.connect import Database
from eventstore.queries.deliveries import attempts
from eventstore.retention import retention


async def sentence(database: Database, event_id: str, tenant: str | None, *, for_people: bool = False) -> str:
    """Why there is none, as a sentence without a full stop. `for_people`: for a merchant's page."""
    which = f"event {event_id!r}" + (f" of tenant {tenant}" if tenant and not for_people else "")
    kept_from = (await retention.horizon(database)).events
    if kept_from is None:
        known = f"there is no {which}" + ("" if for_people else ": it was never published")
    elif tenant and (outcome := await attempts.of_dropped_event(database, tenant, event_id, before=kept_from)):
        known = (
            f"{which} was published before {moment(kept_from)}, and "
            f"{'is no longer kept' if for_people else 'retention has dropped it since'}; one of its "
            f"deliveries was {outcome.outcome} at {moment(outcome.at)}"
        )
    elif for_people:
        known = f"there is no {which} among those that are kept, which are from {moment(kept_from)} on"
    else:
        known = (
            f"there is no {which} among those that are kept, which were recorded since {moment(kept_from)}: "
            "it was never published, or retention has dropped it"
        )
    return "; ".join([known, *(lost.sentence for lost in await lost_log.read(database))])
