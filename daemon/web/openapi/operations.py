"""The endpoints of an application, as its router knows them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from aiohttp import web

from daemon.web.endpoints import Declared, declared


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A method of a path, and its handler."""

    method: str
    path: str
    handler: object

    @property
    def declared(self) -> Declared:
        """What the handler declares. Raises LookupError if it does not."""
        found = declared(self.handler)
        if found is None:
            raise LookupError(f"{self.method} {self.path} declares nothing")
        return found

    @property
    def topic(self) -> str:
        """The name of the module that it stands in."""
        return str(self.handler.__module__).rpartition(".")[2]

    @property
    def id(self) -> str:
        """Like `routes.list`."""
        thing = self.topic.rstrip("s")
        name = re.sub(f"_{thing}s?$", "", str(getattr(self.handler, "__name__", "")))
        return name if name == self.topic else f"{self.topic}.{name}"

    @property
    def docstring(self) -> str:
        return (self.handler.__doc__ or "").strip()


def operations(application: web.Application) -> tuple[Operation, ...]:
    """Every endpoint of an application but its pages; HEAD goes without saying where there is GET."""
    return tuple(
        Operation(method=route.method, path=route.resource.canonical, handler=route.handler)
        for route in application.router.routes()
        if route.method != "HEAD" and route.resource is not None and _is_documented(route.handler)
    )


def _is_documented(handler: object) -> bool:
    found = declared(handler)
    return found is not None and not found.is_page
