"""Who looks at a page, as far as the page shows it: what he may do decides which buttons there are.

What he really may do is decided at the door (daemon.web.access.auth), whatever a page shows.
"""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from daemon.web.access.auth import CALLER, may
from daemon.web.endpoints import Access


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewer:
    """`tenant` is whose page this is, None on those of the operator: for whoever stands for one it is that one."""

    tenant: str | None = None
    is_known: bool = False
    is_operator: bool = False
    may_manage: bool = False
    has_session: bool = False


def viewer_of(request: web.Request) -> Viewer:
    """Nobody in particular, as long as it is not known who asks."""
    caller = request.get(CALLER)
    if caller is None:
        return Viewer()
    return Viewer(
        tenant=caller.tenant or request.match_info.get("tenant"),
        is_known=True,
        is_operator=may(caller.scope, Access.ADMIN),
        may_manage=may(caller.scope, Access.MANAGE),
        has_session=caller.session is not None,
    )
