"""The list of webhooks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import quote
from uuid import UUID

from daemon.commands import Context
from eventstore.queries.metrics import tally
from tests.support.rows.outcomes import note
from tests.support.web import pages
from tests.support.web.application import App

LIST = "/t/acme/webhooks"


async def test_the_first_visit_leads_to_creating_a_webhook(app: App) -> None:
    page = await pages.get(app, LIST)
    assert page.status == 200
    assert page.one(".empty h2").text == "Create your first webhook"
    assert page.one(".empty a")["href"] == "/t/acme/webhooks/new"


async def test_webhooks_are_listed_with_status_target_and_types(app: App) -> None:
    await app.route(name="Orders", event_types=["order.create", "order.*"])
    await app.route(name="Quiet", enabled=False)
    await app.route("globex", name="Theirs")
    page = await pages.get(app, LIST)
    assert page.words("tbody th a") == ["Quiet", "Orders"]
    assert page.words("tbody .pill") == ["Disabled", "Enabled"]
    assert page.words("tbody .target") == ["https://shop.example.com/hook"] * 2
    assert page.words("tbody tr:last-child .tag") == ["order.create", "order.*"]


async def test_hostile_names_are_shown_as_they_are(app: App) -> None:
    hostile = '"><script>alert(1)</script>{{ 7*7 }}'
    await app.route(name=hostile)
    page = await pages.get(app, LIST)
    assert page.words("tbody th a") == [hostile]
    assert [script.get("src") for script in page.all("script")] == [page.one("script")["src"]]


async def test_a_page_may_load_from_here_only(app: App) -> None:
    page = await pages.get(app, LIST)
    policy = page.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert page.all("[style]") == page.all("[onclick]") == page.all("style") == []
    for asset in [*page.all("link"), *page.all("script"), *page.all("img")]:
        answer = await pages.get(app, str(asset.get("href") or asset.get("src")))
        assert answer.status == 200
        assert "immutable" in answer.headers["Cache-Control"]


async def test_one_finds_webhooks_by_name_target_or_type(app: App) -> None:
    await app.route(name="Orders", event_types=["order.*"])
    await app.route(name="Subscriptions", event_types=["subscription.create"], enabled=False)
    assert (await pages.get(app, f"{LIST}?q=ORDERS")).words("tbody th a") == ["Orders"]
    assert (await pages.get(app, f"{LIST}?q=subscription.create")).words("tbody th a") == ["Subscriptions"]
    assert (await pages.get(app, f"{LIST}?q=shop.example&status=disabled")).words("tbody th a") == ["Subscriptions"]
    none = await pages.get(app, f"{LIST}?q=nothing")
    assert none.one(".empty h2").text == "No webhook fits"
    assert none.one("#q")["value"] == "nothing"


async def test_the_list_says_who_disabled_a_webhook_and_why(app: App) -> None:
    """One that the system disabled, as its receiver asked for it, looks like one that a colleague did otherwise."""
    gone, paused, back = [await app.route(name=each) for each in ("gone", "paused", "back")]
    await app.ask("POST", f"/v1/tenants/acme/routes/{paused['id']}/disable", {"reason": "moving"})
    await app.ask("POST", f"/v1/tenants/acme/routes/{back['id']}/disable", {"reason": "once"})
    await app.ask("POST", f"/v1/tenants/acme/routes/{back['id']}/enable", {})
    await app.route(name="new", enabled=False)
    disabling = Context(actor="system", origin="delivery", reason="the receiver answered 410 Gone")
    await app.services.commands.disable("acme", UUID(gone["id"]), disabling)
    page = await pages.get(app, LIST)
    assert dict(zip(page.words("tbody th .row-link"), page.words("td[data-label='Status']"), strict=True)) == {
        "new": "Disabled",
        "back": "Enabled",
        "paused": "Disabled by Administrator: moving",
        "gone": "Disabled by the system: the receiver answered 410 Gone",
    }
    past = await pages.get(app, f"{LIST}?as_of={datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}")
    assert "by the system" not in past.text


async def test_saving_leads_to_the_list_with_the_new_webhook_on_top(app: App) -> None:
    await app.route(name="Older")
    route = await app.route(name="Orders")
    page = await pages.get(app, f"{LIST}?done=created&saved={route['id']}")
    assert page.words("tbody th a") == ["Orders", "Older"]
    assert page.words("tr.saved th a") == ["Orders"]
    assert page.words(".saved-mark") == ["New"]
    assert page.words(".next-steps h2") == ["Next steps with “Orders”"]
    webhook = f"{LIST}/{route['id']}"
    assert [link["href"] for link in page.all(".next-steps ol a")] == [
        f"{webhook}/key", f"{webhook}/key#verify", f"{webhook}/test",
    ]  # fmt: skip
    assert page.words(".next-steps dt") == ["Verification key"]
    assert route["verification_key"] not in page.html
    edited = await pages.get(app, f"{LIST}?done=edited&saved={route['id']}")
    assert (edited.words(".saved-mark"), edited.all(".next-steps")) == (["Saved"], [])
    for other in ("x", "", str(UUID(int=1)), (await app.route("globex"))["id"]):
        assert (await pages.get(app, f"{LIST}?done=created&saved={other}")).all(".saved, .next-steps") == []


async def test_each_row_has_its_commands(app: App) -> None:
    route = await app.route(name="Orders")
    webhook = f"{LIST}/{route['id']}"
    page = await pages.get(app, LIST)
    assert page.words("details.menu summary .visually-hidden") == ["Commands for Orders"]
    assert {link.get_text(): link["href"] for link in page.all(".menu-panel a")} == {
        "Edit": f"{webhook}/edit",
        "Disable": f"{webhook}/disable?from=list",
        "Copy verification key": f"{webhook}/key",
        "Delete": f"{webhook}/delete?from=list",
    }
    asked = await pages.get(app, f"{webhook}/disable?from=list")
    disabled = await pages.post(app, str(asked.one("main form")["action"]))
    assert disabled.location == f"{LIST}?done=disabled&saved={route['id']}"
    page = await pages.get(app, LIST)
    assert page.words(".menu-panel button") == ["Enable"]
    enabled = await pages.post(app, str(page.one(".menu-panel form")["action"]))
    assert enabled.location == f"{LIST}?done=enabled&saved={route['id']}"
    assert "enabled. Events that happen from now on are sent" in (await pages.get(app, enabled.location)).text


async def test_the_past_has_no_commands(app: App) -> None:
    await app.route(name="Orders")
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}"
    page = await pages.get(app, f"{LIST}?as_of={now}")
    assert page.words("tbody th a") == ["Orders"]
    assert page.all("details.menu") == []


async def test_a_long_list_has_pages(app: App) -> None:
    for number in range(52):
        await app.route(name=f"route {number:02}")
    first = await pages.get(app, LIST)
    second = await pages.get(app, str(first.one(".pager a")["href"]))
    names = first.words("tbody th a") + second.words("tbody th a")
    assert names == [f"route {number:02}" for number in reversed(range(52))]
    assert second.words(".pager a") == ["Previous page"]


async def test_the_past_shows_webhooks_as_they_were(app: App) -> None:
    route = await app.route(name="Before")
    path = f"/v1/tenants/acme/routes/{route['id']}"
    await app.ask("PATCH", path, {"name": "After"})
    await app.ask("DELETE", path)
    page = await pages.get(app, f"{LIST}?as_of={route['created_at']}")
    assert page.words("tbody th a") == ["Before"]
    assert "You are looking at the past" in page.text
    now = await pages.get(app, str(page.one(".past a")["href"]))
    assert now.one(".empty h2").text == "No webhooks now"


async def test_what_was_saved_stays_marked_when_the_rows_are_loaded_again(app: App) -> None:
    await app.route(name="Other")
    route = await app.route(name="Orders")
    page = await pages.get(app, f"{LIST}?done=created&saved={route['id']}")
    assert page.words(".saved .saved-mark") == ["New"]
    rows = await pages.get(app, str(page.one("#webhook-rows")["data-poll"]), headers=pages.PART)
    assert rows.words(".saved .saved-mark") == ["New"]
    assert rows.words(".saved th a") == ["Orders"]


async def test_the_past_of_those_that_fail_is_the_past_of_all(app: App) -> None:
    route = await app.route(name="Orders")
    page = await pages.get(app, f"{LIST}?status=failing&q=order&as_of={route['created_at']}")
    assert page.location == f"{LIST}?as_of={quote(route['created_at'])}&q=order"
    page = await pages.get(app, page.location)
    assert page.words("tbody th a") == ["Orders"]


async def test_a_webhook_of_the_past_leads_to_how_it_was(app: App) -> None:
    route = await app.route(name="Before", event_types=["order.create"])
    path = f"/v1/tenants/acme/routes/{route['id']}"
    await app.ask("PATCH", path, {"name": "After", "event_types": ["order.*"]})
    await app.ask("POST", f"{path}/disable")
    page = await pages.get(app, f"{LIST}?as_of={route['created_at']}")
    then = await pages.get(app, str(page.one("tbody th a")["href"]))
    assert then.one("h1").text == "Before"
    assert "order.*" not in then.text
    assert "You are looking at the past: this webhook as it was on" in then.text
    assert then.words(".actions a, main form") == []
    changed = await pages.get(app, str(then.one(".windows + p a")["href"]))
    assert changed.one("h1").text == "After"
    assert changed.words(".page-head .pill") == ["Enabled"]
    disabled = await pages.get(app, str(changed.one(".windows + p a")["href"]))
    assert disabled.words(".page-head .pill") == ["Disabled"]
    assert disabled.all(".windows + p") == []


async def test_a_moment_before_there_was_a_webhook_shows_it_as_it_is(app: App) -> None:
    route = await app.route(name="Now")
    for at in ("2020-01-01T00:00:00", "2099-01-01T00:00:00", "yesterday"):
        page = await pages.get(app, f"{LIST}/{route['id']}?as_of={at}")
        assert page.one("h1").text == "Now"
        assert "You are looking at the past" not in page.text


async def test_the_list_says_how_each_did_lately(app: App) -> None:
    for name in ("fine", "so-so", "broken", "new"):
        await app.route(name=name)
    fine, mixed, broken, _ = [
        UUID(row["id"]) for row in (await app.ask("GET", "/v1/tenants/acme/routes")).json["items"]
    ]
    async with app.database.connection() as sql:
        await sql.execute("SELECT hookledger.ensure_partitions(current_date - 3, current_date)")
        await note(sql, "delivered", "delivered", route_id=fine)
        await note(sql, "failed", "delivered", route_id=mixed, at=app.services.now() - timedelta(days=2))
        await note(sql, "failed", route_id=mixed)
        await note(sql, "delivered", route_id=mixed)
        await note(sql, "failed", "retrying", route_id=broken)
    await tally.add_up(app.database)
    page = await pages.get(app, LIST)
    assert dict(zip(page.words("tbody th a"), page.words("td[data-label='Last 24 hours']"), strict=True)) == {
        "fine": "2 requests",
        "so-so": "2 requests 1 failed",
        "broken": "2 requests 2 failed",
        "new": "Nothing sent",
    }
    past = await pages.get(app, f"{LIST}?as_of={app.services.now().isoformat().replace('+00:00', 'Z')}")
    assert past.all("td[data-label='Last 24 hours']") == []


async def test_a_moment_that_cannot_be_is_reported_beside_its_field(app: App) -> None:
    await app.route()
    page = await pages.get(app, f"{LIST}?as_of=yesterday")
    assert page.status == 422
    assert page.words("#as_of-wrong") == ["“yesterday” must be a date and a time in UTC, like 2026-11-24 08:30."]
    assert page.one("#as_of")["value"] == "yesterday"
    future = await pages.get(app, f"{LIST}?as_of=2099-01-01T00:00")
    assert "is in the future" in future.words("#as_of-wrong")[0]


async def test_the_slider_leads_to_a_moment_and_keeps_what_is_searched_for(app: App) -> None:
    await app.route()
    page = await pages.get(app, f"{LIST}?slider=500&q=orders")
    assert page.status == 303
    assert page.location.startswith(f"{LIST}?as_of=20")
    assert page.location.endswith("&q=orders")
    for end in ("1000", "9" * 5000, "x"):
        assert (await pages.get(app, f"{LIST}?slider={end}")).location == LIST


async def test_a_person_gets_errors_as_pages_and_a_program_as_json(app: App) -> None:
    page = await pages.get(app, "/nowhere")
    assert (page.status, page.one("h1").text) == (404, "There is nothing here")
    assert "Content-Security-Policy" in page.headers
    answer = await app.ask("GET", "/nowhere")
    assert answer.headers["Content-Type"] == "application/problem+json"
    api = await pages.get(app, "/v1/nowhere")
    assert api.headers["Content-Type"] == "application/problem+json"


async def test_a_tenant_that_cannot_be_is_a_page_that_says_so(app: App) -> None:
    page = await pages.get(app, f"/t/{'x' * 300}/webhooks")
    assert page.status == 422
    assert "tenant" in page.text
