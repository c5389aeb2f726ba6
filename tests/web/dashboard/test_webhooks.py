"""The list of webhooks."""

from __future__ import annotations

from tests.support import pages
from tests.support.web import Door

LIST = "/t/acme/webhooks"


async def test_the_first_visit_leads_to_creating_a_webhook(door: Door) -> None:
    page = await pages.get(door, LIST)
    assert page.status == 200
    assert page.one(".empty h2").text == "Create your first webhook"
    assert page.one(".empty a")["href"] == "/t/acme/webhooks/new"


async def test_webhooks_are_listed_with_status_target_and_types(door: Door) -> None:
    await door.route(name="Orders", event_types=["order.create", "order.*"])
    await door.route(name="Quiet", enabled=False)
    await door.route("globex", name="Theirs")
    page = await pages.get(door, LIST)
    assert page.words("tbody th") == ["Orders", "Quiet"]
    assert page.words("tbody .pill") == ["Enabled", "Disabled"]
    assert page.words("tbody .target") == ["https://shop.example.com/hook"] * 2
    assert page.words("tbody tr:first-child .tag") == ["order.create", "order.*"]


async def test_hostile_names_are_shown_as_they_are(door: Door) -> None:
    hostile = '"><script>alert(1)</script>{{ 7*7 }}'
    await door.route(name=hostile)
    page = await pages.get(door, LIST)
    assert page.words("tbody th") == [hostile]
    assert [script.get("src") for script in page.all("script")] == [page.one("script")["src"]]


async def test_a_page_may_load_from_here_only(door: Door) -> None:
    page = await pages.get(door, LIST)
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert page.all("[style]") == page.all("[onclick]") == page.all("style") == []
    for asset in [*page.all("link"), *page.all("script"), *page.all("img")]:
        answer = await pages.get(door, str(asset.get("href") or asset.get("src")))
        assert answer.status == 200
        assert "immutable" in answer.headers["Cache-Control"]


async def test_one_finds_webhooks_by_name_target_or_type(door: Door) -> None:
    await door.route(name="Orders", event_types=["order.*"])
    await door.route(name="Subscriptions", event_types=["subscription.create"], enabled=False)
    assert (await pages.get(door, f"{LIST}?q=ORDERS")).words("tbody th") == ["Orders"]
    assert (await pages.get(door, f"{LIST}?q=subscription.create")).words("tbody th") == ["Subscriptions"]
    assert (await pages.get(door, f"{LIST}?q=shop.example&status=disabled")).words("tbody th") == ["Subscriptions"]
    none = await pages.get(door, f"{LIST}?q=nothing")
    assert none.one(".empty h2").text == "No webhook fits"
    assert none.one("#q")["value"] == "nothing"


async def test_a_long_list_has_pages(door: Door) -> None:
    for number in range(52):
        await door.route(name=f"route {number:02}")
    first = await pages.get(door, LIST)
    second = await pages.get(door, str(first.one(".pager a")["href"]))
    names = first.words("tbody th") + second.words("tbody th")
    assert names == [f"route {number:02}" for number in range(52)]
    assert second.words(".pager a") == ["First page"]


async def test_the_past_shows_webhooks_as_they_were(door: Door) -> None:
    route = await door.route(name="Before")
    path = f"/v1/tenants/acme/routes/{route['id']}"
    await door.ask("PATCH", path, {"name": "After"})
    await door.ask("DELETE", path)
    page = await pages.get(door, f"{LIST}?as_of={route['created_at']}")
    assert page.words("tbody th") == ["Before"]
    assert "You are looking at the past" in page.text
    now = await pages.get(door, str(page.one(".past a")["href"]))
    assert now.one(".empty h2").text == "No webhooks now"


async def test_a_moment_that_cannot_be_is_told_beside_its_field(door: Door) -> None:
    await door.route()
    page = await pages.get(door, f"{LIST}?as_of=yesterday")
    assert page.status == 422
    assert page.words("#as_of-wrong") == [
        "“yesterday” must be a date and a time in UTC, like 2026-11-24 08:30 ."
    ] or page.words("#as_of-wrong") == ["“yesterday” must be a date and a time in UTC, like 2026-11-24 08:30."]
    future = await pages.get(door, f"{LIST}?as_of=2099-01-01T00:00")
    assert "is in the future" in future.words("#as_of-wrong")[0]


async def test_the_slider_leads_to_a_moment(door: Door) -> None:
    await door.route()
    page = await pages.get(door, f"{LIST}?slider=500")
    assert page.status == 303
    assert page.location.startswith(f"{LIST}?as_of=20")
    assert (await pages.get(door, f"{LIST}?slider=1000")).location == LIST


async def test_a_person_gets_errors_as_pages_and_a_program_as_json(door: Door) -> None:
    page = await pages.get(door, "/nowhere")
    assert (page.status, page.one("h1").text) == (404, "There is nothing here")
    assert "Content-Security-Policy" in page.headers
    answer = await door.ask("GET", "/nowhere")
    assert answer.headers["Content-Type"] == "application/problem+json"
    api = await pages.get(door, "/v1/nowhere")
    assert api.headers["Content-Type"] == "application/problem+json"


async def test_a_tenant_that_cannot_be_is_a_page_that_says_so(door: Door) -> None:
    page = await pages.get(door, f"/t/{'x' * 300}/webhooks")
    assert page.status == 422
    assert "tenant" in page.text
