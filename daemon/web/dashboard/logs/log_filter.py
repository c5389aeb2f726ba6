"""The filter of a log, read from the query of a page. Wrong values are errors by field, and never exceptions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from aiohttp import web

from daemon.core.delivery.status import ListStatus
from daemon.core.events import field_condition
from daemon.core.events.catalogue import name_problem
from daemon.core.events.event import FieldProblem
from daemon.core.events.field_condition import FieldCondition
from daemon.core.routing.index import RouteIndex
from daemon.core.routing.route import Route
from daemon.deliveries import DeliveryFilter
from daemon.web.access.auth import CALLER
from daemon.web.access.queries import query_database
from daemon.web.dashboard.form_data import FormErrors
from daemon.web.dashboard.html.text import parse_moment
from daemon.web.dashboard.logs import route_lookup
from daemon.web.http.shapes import moment
from daemon.web.service.events.offered_types import offered
from eventstore.domain_events import catalogue

# Event types that the field suggests.
MAX_TYPES = 200

# In the order of the form. Events have no status.
DELIVERY_FIELDS = ("route", "status", "type", "event", "since", "until", "where")
EVENT_FIELDS = ("route", "type", "event", "since", "until", "where")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogFilter:
    """The criteria of a log. `values` are the texts of the fields; a field with an error does not filter. `matches` are
    the webhooks that the text of the webhook's field may mean.
    """

    tenant: str
    values: Mapping[str, str]
    form_errors: FormErrors
    route: Route | None
    matches: tuple[Route, ...]
    status: ListStatus | None
    event_type: str | None
    event_id: str | None
    since: datetime | None
    until: datetime | None
    where: FieldCondition | None

    @property
    def delivery_filter(self) -> DeliveryFilter:
        """The criteria as a filter of deliveries."""
        return DeliveryFilter(
            tenant=self.tenant,
            route_id=None if self.route is None else self.route.id,
            status=self.status,
            event_type=self.event_type,
            event_id=self.event_id,
            since=self.since,
            until=self.until,
            where=self.where,
        )

    @property
    def given(self) -> Mapping[str, str]:
        """The texts of the fields that are not empty: the query of the log with this filter."""
        return {name: text for name, text in self.values.items() if text}

    @property
    def chips(self) -> list[FilterChip]:
        """The parts of the filter, each of which can be removed."""
        values = self.values
        texts = {
            "route": f"Webhook {'' if self.route is None else self.route.config.name}",
            "status": f"Status {values.get('status')}",
            "type": f"Type {values['type']}",
            "event": f"Event {values['event']}",
            "since": "From",
            "until": "Until",
            "where": values.get("where", ""),
        }
        moments = {"since": self.since, "until": self.until}
        return [
            FilterChip(field=name, text=texts[name], at=moments.get(name))
            for name in values
            if values[name] and not self.form_errors[name]
        ]


@dataclass(frozen=True, slots=True, kw_only=True)
class FilterChip:
    """A part of a filter, with the text to show, and the moment behind it if there is one."""

    field: str
    text: str
    at: datetime | None


def export_query(criteria: LogFilter) -> dict[str, str | None]:
    """The query of the API's list of what the filter matches."""
    return {
        "route": None if criteria.route is None or "status" not in criteria.values else str(criteria.route.id),
        "status": criteria.status,
        "type": criteria.event_type,
        "event": criteria.event_id,
        "since": moment(criteria.since),
        "until": moment(criteria.until),
        "where": None if criteria.where is None else criteria.where.written,
    }


async def types(request: web.Request) -> list[str]:
    """The event types that the field suggests. A caller who is bound to a tenant gets only those of the catalogue, as
    types that were seen in events may be another tenant's.
    """
    database, is_bound = query_database(request), request[CALLER].tenant is not None
    found = await catalogue.listed(database, after="", limit=MAX_TYPES, with_seen=not is_bound)
    return [each.name for each in offered(request, request.match_info["tenant"], found)]


def read(index: RouteIndex, tenant: str, query: Mapping[str, str], fields: Collection[str]) -> LogFilter:
    """The filter in these fields of the query."""
    values = {name: query.get(name, "").strip() for name in fields}
    status = values.get("status", "")
    problems: list[FieldProblem] = []
    matches = route_lookup.routes(index, tenant, values["route"])
    route = matches[0] if len(matches) == 1 else None
    if values["route"] and route is None:
        message = (
            "may be one of these webhooks: choose one" if matches else "is neither the name nor the id of a webhook"
        )
        problems.append(FieldProblem(field="route", message=message))
    known_status = next((each for each in ListStatus if each.value == status), None)
    if status and known_status is None:
        problems.append(FieldProblem(field="status", message=f"must be one of {', '.join(ListStatus)}"))
    type_problem = name_problem(values["type"]) if values["type"] else None
    if type_problem is not None:
        problems.append(FieldProblem(field="type", message=type_problem))
    if "\0" in values["event"]:
        problems.append(FieldProblem(field="event", message="is not the id of an event"))
    since, until = _moment(values, "since", problems), _moment(values, "until", problems)
    if since is not None and until is not None and until <= since:
        problems.append(FieldProblem(field="until", message="must be later than the beginning"))
    where = _where(values, problems)
    return LogFilter(
        tenant=tenant,
        values={**values, "route": values["route"] if route is None else str(route.id)},
        form_errors=FormErrors(problems),
        route=route,
        matches=matches if route is None else (),
        status=known_status,
        event_type=values["type"] or None,
        event_id=values["event"] or None,
        since=since,
        until=until,
        where=where,
    )


def _where(values: Mapping[str, str], problems: list[FieldProblem]) -> FieldCondition | None:
    text = values.get("where")
    if not text:
        return None
    if values["event"]:
        problems.append(FieldProblem(field="where", message="looks into one event only: leave out its id, or this"))
    try:
        return field_condition.parse(text)
    except ValueError as error:
        problems.append(FieldProblem(field="where", message=str(error)))
        return None


def _moment(values: Mapping[str, str], name: str, problems: list[FieldProblem]) -> datetime | None:
    try:
        return parse_moment(values[name])
    except ValueError as error:
        problems.append(FieldProblem(field=name, message=str(error)))
        return None
