"""What an endpoint declares of itself: who may call it, what it takes, what it answers.

The declaration is the only truth about an endpoint besides its code: access is judged by it (auth.py), unknown query
parameters are refused by it, and the OpenAPI document is made of it. A handler without one answers nobody.

Answers are TypedDicts of typing_extensions: pydantic reads those of typing only from Python 3.12 on.
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
    ANYBODY = "anybody"  # whoever has shown who they are, with whatever scope


class RateLimit(StrEnum):
    """What a tenant may ask for only so often. How often is the table in limits.py."""

    REVEAL = "reveal"
    TEST = "test"
    PREVIEW = "preview"
    REPLAY = "replay"
    SEARCH = "search"  # counted where a search turns out to be needed


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A query parameter: its name, what it does, and its JSON Schema. `problem` says what is wrong with a value, if
    that is not seen by the schema.
    """

    name: str
    description: str
    schema: Mapping[str, object] = field(default_factory=lambda: {"type": "string"})
    is_required: bool = False
    problem: Callable[[str], str | None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """A body that no type describes: its content type, its JSON Schema, under which name others find that, and one
    that is valid.
    """

    content_type: str
    name: str
    schema: Mapping[str, object]
    example: object


@dataclass(frozen=True, slots=True, kw_only=True)
class Declared:
    """`answers` maps each status of success to the type of its JSON body, to a `Media`, or to None for an empty one;
    `refuses` are the errors that are particular to this endpoint; `is_command` ones take Idempotency-Key. What is
    `is_versioned` is shown with its version as ETag, and a command on it takes If-Match. `limit` is counted by tenant.
    Pages are for people: they judge their own query, and the OpenAPI document leaves them out.
    """

    access: Access
    query: tuple[Query, ...]
    takes: type[BaseModel] | tuple[Media, ...] | None
    answers: Mapping[int, object]
    refuses: tuple[int, ...]
    is_command: bool
    is_versioned: bool
    limit: RateLimit | None
    is_page: bool


Endpoint = Callable[[web.Request], Awaitable[web.StreamResponse]]

_ATTRIBUTE = "hookledger_endpoint"


def endpoint(
    access: Access,
    *query: Query,
    takes: type[BaseModel] | tuple[Media, ...] | None = None,
    answers: Mapping[int, object] | None = None,
    refuses: tuple[int, ...] = (),
    is_command: bool = False,
    is_versioned: bool = False,
    limit: RateLimit | None = None,
    is_page: bool = False,
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
            is_versioned=is_versioned,
            limit=limit,
            is_page=is_page,
        )
        setattr(handler, _ATTRIBUTE, declared)
        return handler

    return declare


def declared(handler: object) -> Declared | None:
    """What a handler has declared; None if it has not."""
    return getattr(handler, _ATTRIBUTE, None)
