"""The types of the catalogue that a tenant may get: all but operational ones that are for others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

from aiohttp import web

from daemon.operations import OPERATIONAL, audience_of
from daemon.web.http.services import SERVICES

# So many types may be left out.
MAX_HIDDEN = len(OPERATIONAL)


class _Named(Protocol):
    @property
    def name(self) -> str: ...


NamedT = TypeVar("NamedT", bound=_Named)


def offered(request: web.Request, tenant: str | None, types: Iterable[NamedT]) -> list[NamedT]:
    """Those of the types that the tenant may get; all of them for an operator, whose tenant is None."""
    audience = audience_of(request.app[SERVICES].config.operations)
    return [each for each in types if tenant is None or audience.may_get(tenant, each.name)]
