"""An event id that is used again after 24 hours: both events can be reached, and are told apart."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from eventstore.domain_events import ticks
from tests.support.rows.recorded import age_events
from tests.support.web import pages
from tests.support.web.application import App

EVENTS, EXPLAIN = "/v1/tenants/acme/events", "/v1/tenants/acme/explain"


async def published(app: App, number: int) -> dict[str, Any]:
    event = {"tenant": "acme", "type": "order.create", "id": "a/b", "data": {"n": number}}
    answer = await app.ask("POST", "/v1/events", event)
    assert answer.json["accepted"] == 1
    return (await app.events())[-1]


async def used_again(app: App) -> tuple[str, str]:
    """Publishes an id on three days, and returns when the oldest and the newest of the events were recorded."""
    for days in (9, 2):
        await published(app, days)
        await age_events(app, datetime.now(UTC) - timedelta(days=days), only_newest=True)
    await published(app, 0)
    await ticks.make(app.database)
    moments = [row["recorded_at"].isoformat().replace("+00:00", "Z") for row in await app.events()]
    return moments[0], moments[-1]


async def test_each_of_them_is_read_by_when_it_was_recorded(app: App) -> None:
    oldest, newest = await used_again(app)
    listed = (await app.ask("GET", EVENTS)).json["items"]
    shown = [(await app.ask("GET", f"{EVENTS}/a%2Fb?recorded_at={each['recorded_at']}")).json for each in listed]
    assert [each["data"] for each in shown] == [{"n": 0}, {"n": 2}, {"n": 9}]
    plain = (await app.ask("GET", f"{EVENTS}/a%2Fb")).json
    assert plain == shown[0]
    assert [len(each["others_recorded_at"]) for each in shown] == [2, 2, 2]
    assert plain["others_recorded_at"][-1] == oldest
    assert shown[2]["others_recorded_at"][0] == newest


async def test_each_of_them_is_explained(app: App) -> None:
    route = await app.route()
    oldest, newest = await used_again(app)
    for query, decision in (
        ("", "pending"), (f"&recorded_at={newest}", "pending"), (f"&recorded_at={oldest}", "before_creation"),
    ):  # fmt: skip
        for of_route in ("", f"&route={route['id']}"):
            answer = (await app.ask("GET", f"{EXPLAIN}?event=a/b{query}{of_route}")).json
            (found,) = [answer] if of_route else answer["items"]
            assert found["decision"] == decision


async def test_the_page_of_each_leads_to_the_others(app: App) -> None:
    await app.route()
    oldest, _ = await used_again(app)
    page = await pages.get(app, "/t/acme/events/a%2Fb")
    assert "This id was used more than once" in page.text
    links = [str(link["href"]) for link in page.all(".notice a")]
    assert len(links) == 2
    other = await pages.get(app, links[-1])
    assert other.status == 200
    assert '"n": 9' in other.text
    assert other.one('input[name="recorded_at"]')["value"] == oldest
    back = [str(link["href"]) for link in other.all(".notice a")]
    assert '"n": 0' in (await pages.get(app, back[0])).text


@pytest.mark.parametrize("moment", ["2026-01-01T00:00:00Z", "yesterday", ""])
async def test_at_another_moment_there_is_no_such_event(app: App, moment: str) -> None:
    await published(app, 0)
    assert (await pages.get(app, f"/t/acme/events/a%2Fb?recorded_at={moment}")).status == 404
    status = 404 if moment.endswith("Z") else 422
    assert (await app.ask("GET", f"{EVENTS}/a%2Fb?recorded_at={moment}")).status == status
    assert (await app.ask("GET", f"{EXPLAIN}?event=a/b&recorded_at={moment}")).status == status


async def test_an_event_whose_id_was_used_once_says_nothing_of_others(app: App) -> None:
    await published(app, 0)
    assert "others_recorded_at" not in (await app.ask("GET", f"{EVENTS}/a%2Fb")).json
    assert "more than once" not in (await pages.get(app, "/t/acme/events/a%2Fb")).text
