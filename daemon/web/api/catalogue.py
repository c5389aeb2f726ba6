"""The catalogue of event types: what there is to subscribe to, and an example of each."""

from __future__ import annotations

from typing import Annotated

from aiohttp import web
from pydantic import Field
from typing_extensions import TypedDict

from daemon.core.catalogue import MAX_EXAMPLE_BYTES
from daemon.web import forms, paging, shapes
from daemon.web.access.auth import CALLER
from daemon.web.api.catalogue_shapes import EventTypeShape, of_type
from daemon.web.catalogue_forms import CatalogueForm
from daemon.web.endpoints import Access, Query, endpoint
from daemon.web.services import SERVICES
from eventstore import catalogue
from eventstore.catalogue import ListedType

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
    form = await forms.read(request, CatalogueForm, most_bytes=MAX_CATALOGUE_BYTES, bare="event_types")
    drafts = form.drafts()
    await request.app[SERVICES].catalogue.replace(drafts)
    body: CatalogueShape = {"event_types": len(drafts)}
    return shapes.answer(body)
