"""GET /v1/tenants/{t}/events and /events/{id}: what was published, as it was published."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from daemon.web.service.events import event_pages
from eventstore import domain_events
from eventstore.domain_events import ticks
from eventstore.domain_events.events import NewEvent
from eventstore.queries.events import listing, sample_events
from tests.support.values.builders import new_event
from tests.support.web.application import App

EVENTS = "/v1/tenants/acme/events"


async def listed(app: App, *, limit: int = 200, **query: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        more = {"cursor": cursor} if cursor else {}
        answer = await app.ask("GET", f"{EVENTS}?{urlencode({'limit': str(limit), **query, **more})}")
        assert answer.status == 200, answer.text
        items += answer.json["items"]
        cursor = answer.json["next"]
    return items


async def test_events_come_newest_first_by_the_time_they_happened(app: App) -> None:
    now = datetime.now(UTC)
    times = [None, now - timedelta(days=2), now - timedelta(hours=1), now - timedelta(days=2), now + timedelta(days=1)]
    await domain_events.publish(
        app.database, [new_event(id=f"e{n}", occurred_at=at, data=b'{"n": 1}') for n, at in enumerate(times)]
    )
    await domain_events.publish(app.database, [new_event(tenant="other")])
    await ticks.make(app.database)

    for limit in (1, 2, 200):
        assert [item["id"] for item in await listed(app, limit=limit)] == ["e4", "e0", "e2", "e3", "e1"]
    newest = (await listed(app))[0]
    assert set(newest) == {"id", "type", "event_time", "occurred_at", "recorded_at", "backfill", "test", "tick"}
    assert newest["event_time"] == newest["recorded_at"] < newest["occurred_at"]
    assert (newest["type"], newest["backfill"], newest["test"], newest["tick"]) == ("order.create", False, False, 1)


async def test_they_are_listed_before_they_are_read(app: App) -> None:
    await domain_events.publish(app.database, [new_event(id="e1", backfill=True)])

    (item,) = await listed(app)

    assert (item["id"], item["tick"], item["backfill"]) == ("e1", None, True)


async def test_of_a_common_type_no_more_are_read_than_are_to_be_shown(app: App) -> None:
    await domain_events.publish(app.database, [new_event(id=f"e{n}") for n in range(5)])

    found = await listing.listed(
        app.database,
        "acme",
        (datetime(9999, 1, 1, tzinfo=UTC), 0),
        since=datetime(1970, 1, 1, tzinfo=UTC),
        patterns=("order.*",),
        rows=5000,
        limit=2,
    )

    assert ([event.id for event in found.events], found.down_to) == (["e4", "e3"], None)


@pytest.mark.parametrize("types", [200, 0])
async def test_filters_leave_what_fits(app: App, monkeypatch: pytest.MonkeyPatch, types: int) -> None:
    monkeypatch.setattr(event_pages, "MAX_TYPES", types)
    monkeypatch.setattr(event_pages, "_WALKED_ROWS", 3)
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    await domain_events.publish(
        app.database,
        [
            new_event(id=f"e{n}", type=("order.create", "shop.open")[n % 5 == 0], occurred_at=noon + timedelta(hours=n))
            for n in range(20)
        ],
    )
    since, until = (noon + timedelta(hours=5)).isoformat(), (noon + timedelta(hours=15)).isoformat()

    assert [it["id"] for it in await listed(app, limit=2, type="shop.open")] == ["e15", "e10", "e5", "e0"]
    assert [it["id"] for it in await listed(app, type="shop.open", since=since, until=until)] == ["e10", "e5"]
    assert [it["id"] for it in await listed(app, limit=3, since=since, until=until)] == [
        f"e{n}" for n in range(14, 4, -1)
    ]
    assert await listed(app, type="shop.close") == []


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("type=x", "type"),
        ("since=1", "since"),
        ("until=1", "until"),
        ("cursor=MTIz", "cursor"),
        ("cursor=MS45MjIzMzcyMDM2ODU0Nzc1ODA4", "cursor"),
        ("limit=1000", "limit"),
        ("typ=a.b", "typ"),
    ],
)
async def test_a_query_that_is_wrong_is_refused_with_its_field(app: App, query: str, field: str) -> None:
    answer = await app.ask("GET", f"{EVENTS}?{query}")

    assert (answer.status, list(answer.errors)) == (422, [field])


async def test_an_event_is_shown_byte_for_byte(app: App) -> None:
    data = b'{"big":123456789012345678901234567890,"twice":1,"twice":2,"text":"\\ud83d\\ude00 \xc3\xa4","f":1.10}'
    event = new_event(id="a/b c%", data=data, context=b'{"k":  1}')
    await domain_events.publish(app.database, [event])

    answer = await app.ask("GET", f"{EVENTS}/{quote(event.id, safe='')}")

    assert answer.status == 200
    assert data in answer.text.encode()
    assert '"context":{"k":  1}' in answer.text
    assert (answer.json["id"], answer.json["snapshot"], answer.json["tick"]) == ("a/b c%", {}, None)


async def test_test_events_are_marked(app: App) -> None:
    route = await app.route()
    event = NewEvent(tenant="acme", id="test_1", type="order.create", data=b"{}")
    await sample_events.publish(app.database, route["id"], [event])

    assert [item["test"] for item in await listed(app)] == [True]
    assert (await app.ask("GET", f"{EVENTS}/test_1")).json["test"] is True


@pytest.mark.parametrize("event", ["e2", "%00", "x" * 500, "E1"])
async def test_foreign_and_unknown_events_are_404(app: App, event: str) -> None:
    await domain_events.publish(app.database, [new_event(id="e1"), new_event(tenant="other", id="e2")])

    assert (await app.ask("GET", f"{EVENTS}/{event}")).status == 404
