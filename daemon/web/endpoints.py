"""What an endpoint declares of itself: who may call it, what it takes, what it answers.

The declaration is the only truth about an endpoint besides its code: access is judged by it (auth.py), unknown query
parameters are refused by it, and the OpenAPI document is made of it. A handler without one answers nobody.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from aiohttp import web
from pydantic import BaseModel


class Access(StrEnum):
    """What an endpoint gives access to. Which scopes of tokens have which access is the table in auth.py."""

    OPEN = "open"  # liveness and readiness: asks for nothing
    METRICS = "metrics"
    PUBLISH = "publish"
    READ = "read"  # what belongs to one tenant
    MANAGE = "manage"  # the same, to change it or to see its secrets
    CATALOGUE = "catalogue"  # what all tenants share, to read
    OPERATIONS = "operations"  # what spans tenants, to read
    ADMIN = "admin"


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A query parameter: its name, what it does, and its JSON Schema."""

    name: str
    description: str
    schema: Mapping[str, object] = field(default_factory=lambda: {"type": "string"})
    is_required: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """`answers` maps each status of success to the type of its JSON body, or to None for an empty one; `refuses` are
    the errors that are particular to this endpoint; `is_command` ones take Idempotency-Key and If-Match.
    """

    access: Access
    query: tuple[Query, ...]
    takes: type[BaseModel] | None
    answers: Mapping[int, object]
    refuses: tuple[int, ...]
    is_command: bool

    @property
    def query_names(self) -> tuple[str, ...]:
        return tuple(each.name for each in self.query)


Endpoint = Callable[[web.Request], Awaitable[web.StreamResponse]]

_ATTRIBUTE = "hookledger_endpoint"


def endpoint(
    access: Access,
    *query: Query,
    takes: type[BaseModel] | None = None,
    answers: Mapping[int, object] | None = None,
    refuses: tuple[int, ...] = (),
    is_command: bool = False,
) -> Callable[[Endpoint], Endpoint]:
    """Declares a handler. Its docstring is its description in the OpenAPI document."""

    def declare(handler: Endpoint) -> Endpoint:
        declared = Declared(
            access=access,
            query=query,
            takes=takes,
            answers=answers or {200: None},
            refuses=refuses,
            is_command=is_command,
        )
        setattr(handler, _ATTRIBUTE, declared)
        return handler

    return declare


def declared(handler: object) -> Declared | None:
    """What a handler has declared; None if it has not."""
    return getattr(handler, _ATTRIBUTE, None)
