"""The catalogue of event types: what there is to subscribe to, and an example of each."""

from __future__ import annotations

from typing import Annotated

import orjson
from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from daemon.core.events.catalogue import MAX_EXAMPLE_BYTES, group_of
from daemon.web.access.auth import CALLER
from daemon.web.forms import request_forms
from daemon.web.forms.catalogue_forms import CatalogueForm
from daemon.web.http import paging, shapes
from daemon.web.http.endpoints import Access, Query, endpoint
from daemon.web.http.services import SERVICES
from eventstore.domain_events import catalogue
from eventstore.domain_events.catalogue import ListedType

# A type of events as it is shown, over HTTP and by the command line.


class ExampleShape(TypedDict):
    """Parts of an event as it is published."""

    data: dict[str, object]
    context: dict[str, object]
    snapshot: dict[str, object]


class EventTypeShape(TypedDict):
    """A type of events. One that was seen in events and is not in the catalogue has neither description nor example."""

    name: Annotated[str, Field(examples=["order.create"])]
    group: Annotated[str, Field(examples=["order"])]
    description: Annotated[str | None, Field(examples=["An order is placed."])]
    example: Annotated[
        ExampleShape | None, Field(examples=[{"data": {"public_id": "7dc6"}, "context": {}, "snapshot": {}}])
    ]
    is_catalogued: bool


def of_type(listed: ListedType) -> EventTypeShape:
    """A type of the list."""
    return {
        "name": listed.name,
        "group": group_of(listed.name),
        "description": listed.description,
        "example": None if listed.example is None else orjson.loads(listed.example),
        "is_catalogued": listed.example is not None,
    }


MAX_CATALOGUE_BYTES = 128 * MAX_EXAMPLE_BYTES

GROUP = Query(name="group", description="only types of this group: `order` for `order.create`")


class CatalogueShape(TypedDict):
    """How many types are in the catalogue now."""

    event_types: Annotated[int, Field(ge=0, examples=[28])]


@endpoint(Access.CATALOGUE, GROUP, *paging.QUERY, answers={200: paging.Page[EventTypeShape]})
async def list_event_types(request: web.Request) -> web.Response:
    """The types of the catalogue, and those that events had though they are not in it; by group and name.

    Whoever is bound to a tenant gets the catalogue alone: what was seen may be another tenant's.
    """
    database, size = request.app[SERVICES].database, paging.limit(request)
    after = paging.cursor(request) or ""
    if "\0" in after + request.query.get("group", ""):
        found: list[ListedType] = []  # PostgreSQL has no such text, so there is no such type
    else:
        found = await catalogue.listed(
            database,
            after=after,
            limit=size + 1,
            group=request.query.get("group"),
            with_seen=request[CALLER].tenant is None,
        )
    shown, following = paging.first(request, found, key=lambda each: each.name)
    page: paging.Page[EventTypeShape] = {"items": [of_type(each) for each in shown], "next": following}
    return shapes.answer(page)


@endpoint(Access.ADMIN, takes=CatalogueForm, answers={200: CatalogueShape})
async def replace_event_types(request: web.Request) -> web.Response:
    """Makes these types the whole catalogue; a bare list of them will do. Where `events.strict_types` is set, others
    cannot be published from then on; routes keep what they subscribe to.
    """
    form = await request_forms.read(request, CatalogueForm, most_bytes=MAX_CATALOGUE_BYTES, bare="event_types")
    drafts = form.drafts()
    await request.app[SERVICES].catalogue.replace(drafts)
    body: CatalogueShape = {"event_types": len(drafts)}
    return shapes.answer(body)
