"""The database as a request may query it: with a bounded number of queries at once for each tenant, and for all.

The tenant is that of the path, or else the caller's. Operators have places of their own, also for the pages of one
tenant: a tenant whose queries are stuck is one that they want to look at.
"""

from __future__ import annotations

from aiohttp import web

from daemon.web.access.auth import CALLER
from daemon.web.http.services import SERVICES
from eventstore.postgres.connect import Database


def query_database(request: web.Request) -> Database:
    """For everything that is read for a request. Its connections raise Saturated."""
    caller = request[CALLER]
    tenant = request.match_info.get("tenant", caller.tenant)
    party = f"{'operator' if caller.tenant is None else 'tenant'} {'' if tenant is None else tenant}"
    return request.app[SERVICES].query_pool.of(party)
