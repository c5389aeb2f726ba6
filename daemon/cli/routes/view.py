"""How routes are printed: one route, a list of routes, and the history of a route."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from daemon.cli.console import output
from daemon.cli.store import now
from daemon.core.routing.route import Route
from daemon.core.webhook import egress
from daemon.core.webhook.signing import NO_STANDARD_WEBHOOKS
from daemon.web.api.routes import route_shapes


def print_table(routes: Sequence[Route]) -> None:
    """Prints routes, one on each line."""
    columns = ("id", "tenant", "name", "status", "event types", "target", "version", "updated")
    rows = [
        (r.id, r.tenant, r.config.name, r.status, r.config.event_types, _target(r), r.version, r.updated_at)
        for r in routes
    ]
    output.table(columns, rows, empty="there are no such routes: make one with hookledger routes create")


def print_history(history_rows: Sequence[Mapping[str, object]]) -> None:
    """Prints lifecycle events in the shape of the API. Changes are printed by their names only."""
    columns = ("pos", "version", "type", "effective_at", "actor", "reason", "changes", "hash")
    rows = [[_names_only(each[column]) for column in columns] for each in history_rows]
    output.table(columns, rows, empty="")


def print_one(route: Route, *, as_json: bool, key: str | None = None, at: datetime | None = None) -> None:
    """Prints a route, and its verification key if `key` is given. `at` is the time at which it was in this state."""
    if as_json:
        shape = route_shapes.of_route(route, now=at or now())
        output.document(shape if key is None else shape | {"verification_key": key})
        return
    output.fields([*_lines(route), *([] if key is None else [("verification key", key)])])
    if key is not None:
        output.note("keep the verification key now: it is shown this once, and by GET …/key on purpose")


def _lines(route: Route) -> Sequence[tuple[str, object]]:
    config, newest = route.config, route.keys[0]
    snapshot = config.payload.snapshot
    return [
        ("id", route.id),
        ("tenant", route.tenant),
        ("name", config.name),
        ("target", _target(route)),
        ("event types", config.event_types),
        ("status", route.status),
        ("snapshot", None if snapshot is None else [e if f is None else f"{e}:{','.join(f)}" for e, f in snapshot]),
        ("filter", config.payload.filter),
        ("transform", config.payload.transform),
        ("headers", config.header_names),
        ("ordered", config.ordered),
        ("rate limit", config.rate_limit_per_second),
        ("version", route.version),
        ("created", route.created_at),
        ("updated", route.updated_at),
        ("windows", [f"{output.cell(w.start)} … {output.cell(w.end) if w.end else ''}".strip() for w in route.windows]),
        ("key", f"{newest.id} (fingerprint {newest.fingerprint})"),
        *([] if newest.is_standard else [("Standard Webhooks", f"absent: {NO_STANDARD_WEBHOOKS}")]),
    ]


def _target(route: Route) -> str:
    """The target without the values of its query, which are often passwords."""
    return egress.mask_query(route.config.target_url)


def _names_only(value: object) -> object:
    return list(value) if isinstance(value, dict) else value
