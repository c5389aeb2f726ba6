"""The catalogue of event types: the types that routes can subscribe to, with a description and an example of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import orjson
from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from daemon.catalogue import CatalogueDifference
from daemon.commands import Conflict
from daemon.core.events.catalogue import MAX_EXAMPLE_BYTES, TypeDraft, group_of
from daemon.web.access.auth import CALLER
from daemon.web.access.queries import query_database
from daemon.web.forms import request_forms
from daemon.web.forms.catalogue_forms import CatalogueForm
from daemon.web.http import paging, shapes
from daemon.web.http.endpoints import Access, Query, endpoint
from daemon.web.http.services import SERVICES
from daemon.web.service.events.offered_types import MAX_HIDDEN, offered
from eventstore.domain_events import catalogue
from eventstore.domain_events.catalogue import ListedType
from eventstore.postgres.errors import VersionConflict

MAX_CATALOGUE_BYTES = 128 * MAX_EXAMPLE_BYTES

GROUP = Query(name="group", description="only types of this group: `order` for `order.create`")


class ExampleShape(TypedDict):
    """The payload of an example event, as it would be published."""

    data: dict[str, object]
    context: dict[str, object]
    snapshot: dict[str, object]


class EventTypeShape(TypedDict):
    """A type of events. A type that events have and the catalogue has not is without description and example."""

    name: Annotated[str, Field(examples=["order.create"])]
    group: Annotated[str, Field(examples=["order"])]
    description: Annotated[str | None, Field(examples=["An order is placed."])]
    example: Annotated[
        ExampleShape | None, Field(examples=[{"data": {"public_id": "7dc6"}, "context": {}, "snapshot": {}}])
    ]
    is_catalogued: bool


class CatalogueShape(TypedDict):
    """How many types the new catalogue has, and how many of the one before it has added, changed and removed."""

    event_types: Annotated[int, Field(ge=0, examples=[28])]
    added: Annotated[int, Field(ge=0, examples=[1])]
    changed: Annotated[int, Field(ge=0, examples=[2])]
    removed: Annotated[int, Field(ge=0, examples=[0])]


def of_replacement(drafts: Sequence[TypeDraft], changes: CatalogueDifference) -> CatalogueShape:
    """What a replacement has done, as the API and the command line show it."""
    return {
        "event_types": len(drafts),
        "added": len(changes.added),
        "changed": len(changes.changed),
        "removed": len(changes.removed),
    }


def of_type(listed: ListedType) -> EventTypeShape:
    """An event type, as the API and the command line show it."""
    return {
        "name": listed.name,
        "group": group_of(listed.name),
        "description": listed.description,
        "example": None if listed.example is None else orjson.loads(listed.example),
        "is_catalogued": listed.example is not None,
    }


@endpoint(Access.CATALOGUE, GROUP, *paging.QUERY, answers={200: paging.Page[EventTypeShape]})
async def list_event_types(request: web.Request) -> web.Response:
    """The types of the catalogue, and other types that events have had; by group and name.

    A caller who is bound to a tenant gets the types of the catalogue only: the others may be another tenant's.
    """
    database, size = query_database(request), paging.limit(request)
    after = paging.cursor(request) or ""
    if "\0" in after + request.query.get("group", ""):
        found: list[ListedType] = []  # PostgreSQL has no such text, so there is no such type
    else:
        found = await catalogue.listed(
            database,
            after=after,
            limit=size + 1 + MAX_HIDDEN,
            group=request.query.get("group"),
            with_seen=request[CALLER].tenant is None,
        )
    seen = offered(request, request[CALLER].tenant, found)
    items, following = paging.first(request, seen, key=lambda each: each.name)
    page: paging.Page[EventTypeShape] = {"items": [of_type(each) for each in items], "next": following}
    return shapes.answer(page)


@endpoint(Access.ADMIN, takes=CatalogueForm, answers={200: CatalogueShape})
async def replace_event_types(request: web.Request) -> web.Response:
    """Replaces the catalogue by these types; a bare list of them is accepted too, also as `GET` has it in `items`. With
    `events.strict_types`, other types cannot be published from then on. Routes keep their subscriptions, and
    operational types stay. The answer says how many types came, changed and went.
    """
    form = await request_forms.read(
        request, CatalogueForm, max_bytes=MAX_CATALOGUE_BYTES, max_values=MAX_CATALOGUE_BYTES, bare="event_types"
    )
    drafts = form.drafts()
    try:
        changes = await request.app[SERVICES].catalogue.replace_and_compare(drafts)
    except VersionConflict as error:
        raise Conflict("the catalogue is being changed by many others right now: repeat the request") from error
    return shapes.answer(of_replacement(drafts, changes))
