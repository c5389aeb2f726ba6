"""Test events: the catalogue's examples, sent to one route to try it out.

They take the same way as all events (stored, ticked, decided, signed, sent, retried, recorded), so a test shows what
will happen to real ones. Other routes never get them (daemon.core.routing.decision), filters do not apply, requests
carry `Hookledger-Test: true`, and neither metrics nor automatic disabling count them. An answer of 410 disables the
route as always.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from daemon.commands import Conflict, Invalid
from daemon.core.delivery.answer import delivery_id
from daemon.core.events.catalogue import Example, KnownTypes, name_problem, subscribed_types
from daemon.core.events.event import FieldProblem
from daemon.core.routing.index import RouteIndex
from daemon.core.routing.route import Route
from daemon.deliveries.listing import ListedDelivery, described
from eventstore.domain_events import catalogue
from eventstore.domain_events.events import NewEvent
from eventstore.postgres.connect import Database
from eventstore.queries.deliveries.delivery_log import FoundDelivery, ListPosition
from eventstore.queries.events import sample_events as store

MAX_TESTS = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class SentTest:
    """A test event that was stored, and the id of its delivery."""

    id: str
    event_id: str
    event_type: str


async def send(database: Database, route: Route, event_types: Sequence[str] | None) -> list[SentTest]:
    """Stores durably one test event of each type; `event_types` None means all that `offered` returns.

    Raises Conflict if the route cannot be tested in its state, and Invalid for types that it does not subscribe to.
    """
    if not route.is_enabled:
        raise Conflict("the route is disabled, and nothing is sent to it: enable it, then test it")
    types = _types(route, event_types, await catalogue.names(database))
    examples = await catalogue.examples(database, types)
    if len(examples) < len(types):
        raise Conflict("the catalogue was changed in this moment: try again")
    events = [_event(route, name, Example.read(examples[name])) for name in types]
    recorded_at = await store.publish(database, route.id, events)
    return [
        SentTest(id=delivery_id(route.id, event.id, recorded_at[event.id]), event_id=event.id, event_type=event.type)
        for event in events
    ]


async def offered(database: Database, route: Route) -> list[str]:
    """The types that the route can be tested with: those of the catalogue that it subscribes to."""
    return subscribed_types(await catalogue.names(database), route.config.event_types)


async def sent(database: Database, index: RouteIndex, route: Route, event_ids: Sequence[str]) -> list[ListedDelivery]:
    """The deliveries of these events, as far as they were tests of the route, in the order of storing."""
    events = await store.sent(database, route.tenant, route.id, event_ids)
    found = [
        FoundDelivery(ListPosition(event.event_time, event.seq, route.id), event.id, event.type, is_test=True)
        for event in events
    ]
    return await described(database, index, found)


def _types(route: Route, event_types: Sequence[str] | None, names: Sequence[str]) -> list[str]:
    subscribed = subscribed_types(names, route.config.event_types)
    if event_types is not None:
        _check(event_types, set(subscribed), KnownTypes(frozenset(names)))
        return list(dict.fromkeys(event_types))
    if not subscribed:
        raise Conflict(
            "no event type that the route subscribes to is in the catalogue, so there is no example to send: "
            "have them added (PUT /v1/event-types, hookledger event-types load), or subscribe to others"
        )
    if len(subscribed) > MAX_TESTS:
        message = f"the route subscribes to {len(subscribed)} types, {MAX_TESTS} are allowed at once: name some"
        raise Invalid((FieldProblem(field="event_types", message=message),))
    return subscribed


def _check(event_types: Sequence[str], subscribed: set[str], known: KnownTypes) -> None:
    """Raises Invalid unless the route can be tested with each of the types."""
    problems = []
    if not event_types:
        problems.append(FieldProblem(field="event_types", message="is empty: name types, or leave it out for all"))
    if len(event_types) > MAX_TESTS:
        message = f"has {len(event_types)} entries, {MAX_TESTS} are allowed at once"
        problems.append(FieldProblem(field="event_types", message=message))
    for number, name in enumerate(event_types[:MAX_TESTS]):
        if name not in subscribed:
            message = name_problem(name) or known.problem(name) or f"the route does not subscribe to {name}"
            problems.append(FieldProblem(field=f"event_types.{number}", message=message))
    if problems:
        raise Invalid(tuple(problems))


def _event(route: Route, name: str, example: Example) -> NewEvent:
    return NewEvent(
        tenant=route.tenant,
        id=f"test_{secrets.token_hex(16)}",
        type=name,
        data=example.data,
        context=example.context,
        snapshot=example.snapshot,
    )
