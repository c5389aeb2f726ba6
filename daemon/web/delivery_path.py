"""The delivery that a path names. Foreign and unknown ones are the same: there is no such delivery."""

from __future__ import annotations

import asyncio
from uuid import UUID

from aiohttp import web

from daemon import deliveries
from daemon.commands import Invalid, NotFound
from daemon.core.event import Problem as FieldProblem
from daemon.deliveries import Detail, SearchUnfinished
from daemon.web.access.limits import LIMITS
from daemon.web.dialect import dialect
from daemon.web.endpoints import Query, RateLimit
from daemon.web.services import SERVICES
from eventstore.outcomes import Pair

EVENT_HINT = Query(name="event", description="the id of its event, which spares a search")

_UNKNOWN = "there is no such delivery"
_SEARCHED_TOO_LONG = "is needed here: so much waits that the delivery was not found in time, name its event"


async def named_detail(request: web.Request) -> Detail:
    """All that is shown of it. Raises as `named_pair` does."""
    services = request.app[SERVICES]
    found = await deliveries.detail(
        services.database,
        services.index,
        services.keychain,
        await named_pair(request),
        dialect=dialect(services.config),
    )
    if found is None:
        raise NotFound(_UNKNOWN)
    return found


async def named_pair(request: web.Request) -> Pair:
    """By the id in the path. Raises NotFound, Invalid if the event must be named, and Problem for too many searches:
    whoever guesses ids would keep PostgreSQL busy.
    """
    services, text, event_id = request.app[SERVICES], request.match_info["delivery"], request.query.get("event")
    try:
        wanted = UUID(text)
    except ValueError as error:
        raise NotFound(_UNKNOWN) from error
    if str(wanted) != text.lower() or "\0" in (event_id or ""):
        raise NotFound(_UNKNOWN)
    tenant = request.match_info["tenant"]
    found = await deliveries.find(services.database, services.index, tenant, wanted, event_id=event_id)
    if found is None and event_id is None:
        request.app[LIMITS].take(RateLimit.SEARCH, tenant, asyncio.get_running_loop().time())
        try:
            found = await deliveries.search(services.database, services.index, tenant, wanted)
        except SearchUnfinished as error:
            raise Invalid((FieldProblem(field="event", message=_SEARCHED_TOO_LONG),)) from error
    if found is None:
        raise NotFound(_UNKNOWN)
    return found
