"""Declarations of endpoints: who may call one, what it takes, what it answers.

Access control (access/auth.py), the check of query parameters (parameters.py) and the OpenAPI document all use the
declaration. A handler without a declaration is closed to everybody.

Answers are TypedDicts of typing_extensions: pydantic reads those of typing only from Python 3.12 on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from aiohttp import web
from pydantic import BaseModel


class Access(StrEnum):
    """What an endpoint gives access to. The table SCOPES in access/auth.py says which scopes have which access."""

    OPEN = "open"  # no credentials needed
    METRICS = "metrics"
    PUBLISH = "publish"
    READ = "read"  # read what belongs to one tenant
    MANAGE = "manage"  # change what belongs to one tenant, or see its secrets
    CATALOGUE = "catalogue"  # read what all tenants share
    AUDIT = "audit"  # have the record checked, of one tenant or of all
    OPERATIONS = "operations"  # read what spans tenants
    ADMIN = "admin"
    ANYBODY = "anybody"  # any authenticated caller, whatever their scope


class RateLimit(StrEnum):
    """What is rate-limited by tenant. The table ALLOWANCES in access/limits.py has the rates."""

    REVEAL = "reveal"
    TEST = "test"
    PREVIEW = "preview"
    REPLAY = "replay"
    SEARCH = "search"  # counted only where a delivery's id needs a search


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A query parameter: its name, what it does, and its JSON Schema. `problem` checks what the schema cannot: it
    returns what is wrong with a value, or None.
    """

    name: str
    description: str
    schema: Mapping[str, object] = field(default_factory=lambda: {"type": "string"})
    is_required: bool = False
    problem: Callable[[str], str | None] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Media:
    """A body that no type describes: its content type, its JSON Schema, the name of that schema in the OpenAPI
    document, and a valid example.
    """

    content_type: str
    name: str
    schema: Mapping[str, object]
    example: object


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """What one endpoint declares.

    `answers` maps each status of success to the type of its JSON body, to a `Media`, or to None for an empty body.
    `refuses` has the error statuses that are particular to this endpoint. An `is_command` endpoint takes
    Idempotency-Key. An `is_versioned` endpoint answers with the version as ETag; if it is a command too, it takes
    If-Match. `limit` is counted by tenant. An `is_page` endpoint is a page of the dashboard: it checks its own query,
    and the OpenAPI document leaves it out.
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
    """A decorator that declares a handler. The handler's docstring is its description in the OpenAPI document."""

    def declare(handler: Endpoint) -> Endpoint:
        declared = Declaration(
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


def declared(handler: object) -> Declaration | None:
    """The declaration of a handler, None if it has none."""
    return getattr(handler, _ATTRIBUTE, None)
