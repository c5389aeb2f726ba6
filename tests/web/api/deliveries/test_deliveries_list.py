"""GET /v1/tenants/{t}/deliveries: every matching delivery, each once, newest event first."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from itertools import pairwise, product
from typing import Any
from urllib.parse import urlencode
from uuid import uuid4

import pytest

from daemon.deliveries import listing
from daemon.deliveries.scanning import merge, scans, undecided
from daemon.web.http import paging
from eventstore.queries.deliveries import deliveries_of_type
from eventstore.queries.deliveries import delivery_log as delivery_log_queries
from eventstore.queries.deliveries import undecided as unaccounted
from eventstore.queries.deliveries.delivery_log import TOP, ListPosition, ListScope
from tests.support.rows.delivery_log import DeliveryLog, ExpectedDelivery, delivery_log, expected_fields, shown_fields
from tests.support.web.application import Answer, App

LISTS = "/v1/tenants/acme/deliveries"


async def listed(app: App, *, limit: int = 200, **query: str) -> list[dict[str, Any]]:
    """All pages of a list."""
    items: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        more = {"cursor": cursor} if cursor else {}
        answer = await app.ask("GET", f"{LISTS}?{urlencode({'limit': str(limit), **query, **more})}")
        assert answer.status == 200, answer.text
        assert len(answer.json["items"]) <= limit
        items += answer.json["items"]
        cursor = answer.json["next"]
    return items


def questions(log: DeliveryLog) -> dict[str, tuple[dict[str, str], Any]]:
    """Name → query, and a predicate of the deliveries that match it."""
    whole = log.expected()
    early, late = whole[-len(whole) // 4].event_time, whole[len(whole) // 4].event_time
    period = {"since": early.isoformat(), "until": late.isoformat()}

    def in_period(it: ExpectedDelivery) -> bool:
        return early <= it.event_time < late

    return {
        "nothing": ({}, lambda _it: True),
        **{
            status: ({"status": status}, lambda it, status=status: it.status == status)
            for status in ("delivered", "pending", "failed", "suppressed", "expired")
        },
        **{
            f"retrying{'' if name is None else ' and type'}": (
                {"status": "retrying"} | ({} if name is None else {"type": name}),
                lambda it, name=name: it.status == "pending" and it.attempts > 0 and name in (None, it.event_type),
            )
            for name in (None, "order.create")
        },
        "broad": ({"route": str(log.broad)}, lambda it: it.route_id == log.broad),
        "ranged": ({"route": str(log.ranged)}, lambda it: it.route_id == log.ranged),
        "filtered and pending": (
            {"route": str(log.filtered), "status": "pending"},
            lambda it: it.route_id == log.filtered and it.status == "pending",
        ),
        "type": ({"type": "order.pay"}, lambda it: it.event_type == "order.pay"),
        "since": ({"since": period["since"]}, lambda it: it.event_time >= early),
        "until": ({"until": period["until"]}, lambda it: it.event_time < late),
        "period": (period, in_period),
        "period and pending": (period | {"status": "pending"}, lambda it: in_period(it) and it.status == "pending"),
        "period and failed": (period | {"status": "failed"}, lambda it: in_period(it) and it.status == "failed"),
        "event": ({"event": whole[7].event_id}, lambda it: it.event_id == whole[7].event_id),
        "broad and type": (
            {"route": str(log.broad), "type": "order.pay"},
            lambda it: (it.route_id, it.event_type) == (log.broad, "order.pay"),
        ),
        **{
            f"type and {status}": (
                {"type": "order.create", "status": status},
                lambda it, status=status: (it.event_type, it.status) == ("order.create", status),
            )
            for status in ("delivered", "pending", "failed", "suppressed", "expired")
        },
        "all at once": (
            period | {"route": str(log.broad), "type": "order.pay", "status": "delivered"},
            lambda it: (
                in_period(it) and (it.route_id, it.event_type, it.status) == (log.broad, "order.pay", "delivered")
            ),
        ),
    }


@pytest.mark.parametrize("way", ["at once", "in small pages", "looking at little each time"])
async def test_every_list_has_what_fits_and_nothing_else_in_order(
    empty_url: str, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    if way == "looking at little each time":  # as with very many rows, or after the time limit
        monkeypatch.setattr(merge, "_MAX_ROWS", 3)
        monkeypatch.setattr(listing, "PAGE_SECONDS", 0.0)
        monkeypatch.setattr(scans, "_BOTH_WAYS_ROWS", 0)
        monkeypatch.setattr(unaccounted, "FEW_EVENTS", 1)
    async with delivery_log(empty_url) as log:
        assert {it.status for it in log.deliveries} == {"delivered", "pending", "failed", "suppressed", "expired"}
        for name, (query, fits) in questions(log).items():
            found = await listed(log.app, limit=200 if way == "at once" else 4, **query)
            expected = log.expected(fits)
            assert expected or name == "period and failed"
            assert [shown_fields(item) for item in found] == [expected_fields(it) for it in expected], name


@pytest.mark.parametrize("rows", [2, 5, 1000])
async def test_both_ways_to_the_deliveries_of_a_type_find_the_same(empty_url: str, rows: int) -> None:
    async with delivery_log(empty_url) as log:
        for event_type, route_id in product(("order.create", "shop.open", "order.none"), (None, log.broad)):
            scope = ListScope(tenant="acme", route_id=route_id, event_type=event_type)
            for outcome in (None, "delivered", "failed", "suppressed", "expired"):
                walk = partial(delivery_log_queries.attempted, log.app.database, scope, outcome=outcome)
                expected = await walked(walk, rows)
                all_routes = [log.broad, log.filtered, log.ranged] if route_id is None else [route_id]
                for routes in (all_routes, all_routes * 3):  # few, and more than few
                    walk_events = partial(
                        deliveries_of_type.attempted, log.app.database, scope, outcome=outcome, routes=routes
                    )
                    assert await walked(walk_events, rows) == expected
            walk = partial(delivery_log_queries.retrying, log.app.database, scope)
            walk_events = partial(deliveries_of_type.retrying, log.app.database, scope)
            assert await walked(walk, rows) == await walked(walk_events, rows)
            walk = partial(delivery_log_queries.parked, log.app.database, scope, packed=rows)
            walk_events = partial(deliveries_of_type.parked, log.app.database, scope)
            assert await walked(walk, rows) == await walked(walk_events, rows)


async def test_deliveries_of_a_type_are_listed_longer_than_their_events_are_kept(empty_url: str) -> None:
    async with delivery_log(empty_url) as log:
        delivered = log.expected(lambda it: (it.event_type, it.status) == ("order.create", "delivered"))
        kept_from = delivered[len(delivered) // 2].event_time
        async with log.app.database.connection() as connection, connection.transaction():
            await connection.execute("SET LOCAL session_replication_role = replica")
            await connection.execute("DELETE FROM hookledger.domain_event WHERE occurred_at < $1", kept_from)
            await connection.execute(
                "INSERT INTO hookledger.meta (key, value) VALUES ('events_kept_from', $1)", kept_from.isoformat()
            )
        for limit in (3, 200):
            found = await listed(log.app, limit=limit, type="order.create", status="delivered")
            assert [shown_fields(item) for item in found] == [expected_fields(it) for it in delivered]


async def walked(source: Any, rows: int) -> list[Any]:
    """Everything that a source finds, in stretches of so many rows."""
    found: set[Any] = set()
    begin: ListPosition | None = TOP
    while begin is not None:
        stretch = await source(begin=begin, rows=rows)
        assert stretch.down_to is None or stretch.down_to < begin
        found |= {each for each in stretch.found if (stretch.down_to or each.position) <= each.position < begin}
        begin = stretch.down_to
    return sorted(found)


async def test_an_item_says_what_the_last_request_came_to_and_when_the_next_is_due(empty_url: str) -> None:
    async with delivery_log(empty_url) as log:
        found = await listed(log.app)
    last = {item["attempts"]: item["last_attempt"] for item in found}
    assert last[0] is None
    assert last[3]["status_code"] == 200
    (failed, *_) = (item for item in found if item["status"] == "failed")
    assert (failed["last_attempt"]["status_code"], failed["last_attempt"]["error"]) == (500, "http_500")
    assert failed["route"]["name"] == "a route"
    assert failed["next_attempt_at"] is None
    assert {item["status"] for item in found if item["next_attempt_at"]} == {"pending", "delivered"}
    assert all(before["event"]["event_time"] >= after["event"]["event_time"] for before, after in pairwise(found))


async def test_what_was_just_published_waits_already(app: App) -> None:
    route = await app.route()
    await app.ask("POST", "/v1/events", {"tenant": "acme", "type": "order.create", "id": "e1", "data": {}})

    (item,) = await listed(app)

    assert (item["event"]["id"], item["route"]["id"], item["status"]) == ("e1", route["id"], "pending")


async def test_filters_that_take_long_are_left_to_the_next_page(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(undecided, "_DECIDING_SECONDS", 0.0)
    monkeypatch.setattr(listing, "PAGE_SECONDS", 0.0)
    for _ in range(3):
        await app.route(payload={"filter": "data.object.n == `1`"})
    await app.ask("POST", "/v1/events", {"tenant": "acme", "type": "order.create", "data": {"n": 1}})

    page = (await app.ask("GET", LISTS)).json

    assert (len(page["items"]), page["next"] is None) == (1, False)
    assert len(await listed(app)) == 3


async def test_a_page_is_full_if_there_are_that_many_however_little_is_looked_at_at_once(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(merge, "_MAX_ROWS", 3)
    monkeypatch.setattr(unaccounted, "FEW_EVENTS", 1)
    async with delivery_log(empty_url) as log:
        for name, (query, fits) in questions(log).items():
            expected = log.expected(fits)
            answer = await log.app.ask("GET", f"{LISTS}?{urlencode({**query, 'limit': max(len(expected), 1)})}")
            assert len(answer.json["items"]) == len(expected), name
            assert answer.json["next"] is None, name


async def test_of_a_type_that_no_webhook_ever_had_nothing_is_looked_for(app: App) -> None:
    await app.route(event_types=["order.create"])
    await app.ask("POST", "/v1/events", {"tenant": "acme", "type": "shop.open", "data": {}})
    assert (await app.ask("GET", f"{LISTS}?type=shop.open")).json == {"items": [], "next": None}


async def test_a_page_that_is_full_at_its_end_says_so(empty_url: str) -> None:
    async with delivery_log(empty_url) as log:
        size = len(log.expected(lambda it: it.status == "failed"))
        answer = await log.app.ask("GET", f"{LISTS}?status=failed&limit={size}")
        assert (len(answer.json["items"]), answer.json["next"]) == (size, None)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=lost", "status"),
        ("type=Order", "type"),
        ("since=yesterday", "since"),
        ("until=2026-11-23", "until"),
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("cursor=x", "cursor"),
        ("cursor=MS4xLng", "cursor"),
        ("stauts=failed", "stauts"),
    ],
)
async def test_a_query_that_is_wrong_is_refused_with_its_field(app: App, query: str, field: str) -> None:
    answer = await app.ask("GET", f"{LISTS}?{query}")

    assert (answer.status, list(answer.errors)) == (422, [field])


@pytest.mark.parametrize("seq", ["9223372036854775808", "-2", "x", ""])
async def test_a_cursor_that_no_page_gave_is_refused(app: App, seq: str) -> None:
    key = f"0.{seq}.{uuid4().hex}"

    assert (await app.ask("GET", f"{LISTS}?cursor={paging.encoded(key)}")).status == 422


async def test_several_mistakes_are_told_at_once(app: App) -> None:
    answer = await app.ask("GET", f"{LISTS}?status=lost&since=x&type=X")

    assert sorted(answer.errors) == ["since", "status", "type"]


async def test_foreign_and_unknown_routes_are_404_and_deleted_ones_are_not(app: App) -> None:
    foreign, gone = await app.route("other"), await app.route()
    await app.ask("DELETE", f"/v1/tenants/acme/routes/{gone['id']}")

    answers: list[Answer] = [
        await app.ask("GET", f"{LISTS}?route={route}") for route in (foreign["id"], str(uuid4()), "x", gone["id"])
    ]

    assert [answer.status for answer in answers] == [404, 404, 404, 200]


@pytest.mark.parametrize("event", ["unknown", "%00", "x" * 500])
async def test_an_event_that_is_not_there_has_no_deliveries(app: App, event: str) -> None:
    answer = await app.ask("GET", f"{LISTS}?event={event}")

    assert (answer.status, answer.json) == (200, {"items": [], "next": None})


async def test_a_period_that_ends_before_it_begins_is_empty(empty_url: str) -> None:
    async with delivery_log(empty_url) as log:
        at = log.expected()[5].event_time
        assert await listed(log.app, since=at.isoformat(), until=(at - timedelta(days=1)).isoformat()) == []
