"""Sending again all deliveries that a filter of their list matches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from aiohttp import web
from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from daemon.commands import Invalid
from daemon.core.delivery.status import ListStatus
from daemon.core.events import field_condition
from daemon.core.events.catalogue import name_problem
from daemon.core.events.event import FieldProblem
from daemon.deliveries import DeliveryFilter
from daemon.web.access.command_context import command_context
from daemon.web.api.deliveries.replays import ReplayShape, of_replay
from daemon.web.forms.request_forms import Command, Instant, read
from daemon.web.http import shapes
from daemon.web.http.endpoints import Access, RateLimit, endpoint
from daemon.web.http.shapes import Uuid
from daemon.web.service.deliveries import bulk_retries
from daemon.web.service.lookup import tenant_route_id

_STATUSES = [status.value for status in ListStatus if bulk_retries.can_retry(status)]


def _checked(problem: Callable[[str], str | None]) -> AfterValidator:
    """A validator by a function that says what is wrong with a text, None if nothing is."""

    def check(text: str) -> str:
        wrong = problem(text)
        if wrong is not None:
            raise PydanticCustomError("wrong", "{wrong}", {"wrong": wrong})
        return text

    return AfterValidator(check)


def _status_problem(text: str) -> str | None:
    return None if text in _STATUSES else f"must be {' or '.join(_STATUSES)}"


def _event_problem(text: str) -> str | None:
    return "is not the id of an event" if "\0" in text else None


class BulkRetryForm(Command):
    """The filters of the list of deliveries; all that are given must hold."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"status": "failed", "type": "order.create", "since": "2026-11-23T08:00:00Z"}]}
    )

    route: Annotated[str | None, Field(description="Only to this route.")] = None
    status: Annotated[
        str,
        _checked(_status_problem),
        WithJsonSchema(
            {
                "type": "string",
                "enum": _STATUSES,
                "description": "failed: deliveries that failed for good; delivered: those that arrived.",
            }
        ),
    ] = ListStatus.FAILED.value
    event_type: Annotated[
        Annotated[str, _checked(name_problem)] | None, Field(alias="type", description="Only of events of this type.")
    ] = None
    event: Annotated[
        Annotated[str, _checked(_event_problem)] | None, Field(description="Only of events with this id.")
    ] = None
    since: Annotated[Instant | None, Field(description="Only of events of this time or later.")] = None
    until: Annotated[Instant | None, Field(description="Only of events before this time.")] = None
    where: Annotated[
        Annotated[str, _checked(field_condition.problem)] | None,
        Field(description="Only of events with this value in their data, like `data.object.public_id = 7dc6`."),
    ] = None
    dry_run: Annotated[bool, Field(description="Only count, send nothing.")] = False


class BulkRetryCountShape(TypedDict):
    """How many deliveries match and would be sent, and to how many routes. `unsendable` match too, but their routes are
    disabled, or were since. `complete` is false if there may be more than were looked for: send these, and ask again.
    """

    count: Annotated[int, Field(ge=0, examples=[42])]
    routes: Annotated[int, Field(ge=0, examples=[2])]
    unsendable: Annotated[int, Field(ge=0, examples=[0])]
    complete: bool


class RefusedRouteShape(TypedDict):
    """A route to which nothing is sent, by name and id, and why."""

    route: Annotated[str, Field(examples=["Orders"])]
    route_id: Uuid
    detail: Annotated[str, Field(examples=["a replay of this route is running: wait until it is done, or cancel it"])]


class BulkRetryShape(TypedDict):
    """What began: a replay for each route. `count` is the number of their deliveries."""

    count: Annotated[int, Field(ge=0, examples=[42])]
    replays: list[ReplayShape]
    refused: list[RefusedRouteShape]


@endpoint(
    Access.MANAGE,
    takes=BulkRetryForm,
    answers={200: BulkRetryCountShape, 202: BulkRetryShape},
    refuses=(404,),
    is_command=True,
    limit=RateLimit.REPLAY,
)
async def retry(request: web.Request) -> web.Response:
    """Sends all deliveries again that match, by a replay for each of their routes. With `dry_run` it only counts them.

    At most 10,000 deliveries of 100 routes at once, the newest. Test events are left out.
    """
    form = await read(request, BulkRetryForm)
    context, delivery_filter = command_context(request, form.reason), _filter(request, form)
    if form.dry_run:
        matching = await bulk_retries.collect(request, delivery_filter)
        counted: BulkRetryCountShape = {
            "count": matching.count,
            "routes": len(matching.by_route),
            "unsendable": matching.unsendable,
            "complete": matching.is_all,
        }
        return shapes.answer(counted)
    begun = await bulk_retries.begin(request, delivery_filter, context)
    body: BulkRetryShape = {
        "count": begun.count,
        "replays": [of_replay(replay) for replay in begun.replays],
        "refused": [
            {"route": route.config.name, "route_id": str(route.id), "detail": detail} for route, detail in begun.refused
        ],
    }
    return shapes.answer(body, status=202)


def _filter(request: web.Request, form: BulkRetryForm) -> DeliveryFilter:
    """The filter of the form. Raises NotFound for a route that the tenant does not have, and Invalid."""
    if form.where is not None and form.event is not None:
        raise Invalid((FieldProblem(field="where", message="cannot be given together with event: leave one out"),))
    return DeliveryFilter(
        tenant=request.match_info["tenant"],
        route_id=None if form.route is None else tenant_route_id(request, form.route),
        status=ListStatus(form.status),
        event_type=form.event_type,
        event_id=form.event,
        since=form.since,
        until=form.until,
        where=None if form.where is None else field_condition.parse(form.where),
    )
