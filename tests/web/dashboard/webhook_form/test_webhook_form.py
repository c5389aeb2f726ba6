"""Creating and editing a webhook by its form, also by two people at once."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import pytest

from daemon.core.events.catalogue import TypeDraft
from daemon.core.gcra import Allowance
from daemon.core.routing.route import Route
from daemon.web.access.limits import TENANT_LIMITS
from daemon.web.dashboard import form_data
from daemon.web.http.endpoints import RateLimit
from daemon.web.http.shapes import MASK
from eventstore.domain_events import catalogue
from tests.support.web.application import TARGET, App, app, path
from tests.support.web.pages import Page, get, post
from tests.support.web.sessions import browser
from tests.support.web.tokens import bearer, token

NEW = "/t/acme/webhooks/new"
OTHER = "https://other.example.com/hook"
HOSTILE = '"><script>alert(1)</script>{{ 7*7 }}'
EXAMPLE = {"data": {"total": "19.90"}, "snapshot": {"customer": {"name": "Ada"}}}
LONG_DESCRIPTION = "Something happened to an order, and here it is told at length what that was. " * 12


async def add_types(opened: App, *names: str, description: str = "") -> None:
    await opened.services.catalogue.replace(
        [TypeDraft(name=name, description=description, example=EXAMPLE) for name in names]
    )


def edit_of(route: Mapping[str, Any]) -> str:
    return f"/t/{route['tenant']}/webhooks/{route['id']}/edit"


async def fields_of(opened: App, where: str) -> dict[str, list[str]]:
    """The fields that the form at that path would send unchanged."""
    page = await get(opened, where)
    assert page.status == 200, page.text
    return page.form_data()


def changed(fields: Mapping[str, list[str]], changes: Mapping[str, str | Sequence[str]]) -> dict[str, str | list[str]]:
    return {**fields, **{name: text if isinstance(text, str) else list(text) for name, text in changes.items()}}


async def send(opened: App, where: str, changes: Mapping[str, str | Sequence[str]]) -> Page:
    """Opens the form, changes fields, and sends it with the save button, or with an `intent` among the changes."""
    return await post(opened, where, changed(await fields_of(opened, where), {"intent": "save", **changes}))


async def saved(opened: App, page: Page) -> dict[str, Any]:
    """The webhook of the page that the form redirected to, as the API returns it."""
    assert page.status == 303, page.text
    route_id = page.location.partition("&saved=")[2]
    return (await opened.ask("GET", f"/v1/tenants/acme/routes/{route_id}")).json  # type: ignore[no-any-return] # is JSON


def current(opened: App, route: Mapping[str, Any]) -> Route:
    timeline = opened.services.index.timeline(UUID(route["id"]))
    assert timeline is not None
    return timeline.current


async def headers_of(opened: App, route: Mapping[str, Any]) -> dict[str, str]:
    """The custom headers with their values, as they are sent."""
    found = await opened.services.keychain.secrets_of(current(opened, route), ())
    assert found is not None
    return found[1]


def checked(page: Page) -> list[str]:
    return [str(box["value"]) for box in page.all("input[name=event_types][checked]")]


def offered(page: Page) -> list[str]:
    return [str(box["value"]) for box in page.all("input[name=event_types]")]


def wrong_fields(page: Page) -> list[str]:
    """The fields that the summary links to; each of them has an error of its own."""
    places = [str(link["href"]).removeprefix("#") for link in page.all(".notice-bad a")]
    assert all(page.all(f"#{place}") and page.all(f"#{place}-wrong") for place in places), places
    assert {str(each["id"]) for each in page.all(".wrong")} == {f"{place}-wrong" for place in places}
    return places


# ---- creating ----


async def test_the_form_offers_groups_and_their_types_with_their_descriptions(app: App) -> None:
    await add_types(app, "cart.create", "order.create", "order.item.add", description="It happens.")
    await catalogue.note_seen(app.database, ["order.seen"])
    page = await get(app, NEW)
    assert page.words("h1") == ["Create webhook"]
    assert offered(page) == ["*", "cart.*", "cart.create", "order.*", "order.create", "order.item.add", "order.seen"]
    assert page.words(".type-group legend") == ["cart", "order"]
    assert page.words(".type-list small") == ["It happens."] * 3
    assert checked(page) == []
    assert page.words(".picker-head strong") == ["0 of 4"]
    assert not page.one("details.advanced").has_attr("open")


async def test_types_that_only_somebodys_events_had_are_no_merchants_to_see(app: App) -> None:
    await add_types(app, "order.create")
    await catalogue.note_seen(app.database, ["secret.project"])
    merchant = await browser(app, "acme")
    route = await app.route()
    for where in (NEW, edit_of(route)):
        assert "secret" in (await get(app, where)).text
        assert "secret" not in (await get(app, where, headers=merchant)).text


async def test_every_field_of_the_form_is_saved(app: App) -> None:
    await add_types(app, "order.create", "order.pay", "cart.create")
    entered = {
        "name": "  Orders of the shop ",
        "target_url": f" {TARGET} ",
        "event_types": ["order.create", "cart.*"],
        "other_types": "invoice.paid, invoice.sent",
        "payload.snapshot": "customer: name, email\r\norders",
        "payload.filter": "data.object.total > `100`",
        "payload.transform": "{id: id,\r\n type: type}",
        "headers": "X-Shop: 7f3c\r\nX-Team: growth",
        "rate_limit_per_second": "2.50",
        "ordered": "yes",
    }
    page = await send(app, NEW, entered)
    made = await saved(app, page)
    assert page.location == f"/t/acme/webhooks?done=created&saved={made['id']}"
    assert (made["name"], made["target_url"], made["status"]) == ("Orders of the shop", TARGET, "enabled")
    assert made["event_types"] == ["order.create", "cart.*", "invoice.paid", "invoice.sent"]
    assert made["payload"] == {
        "snapshot": {"customer": ["name", "email"], "orders": True},
        "filter": "data.object.total > `100`",
        "transform": "{id: id,\n type: type}",
    }
    assert (made["ordered"], made["rate_limit_per_second"]) == (True, 2.5)
    assert await headers_of(app, made) == {"X-Shop": "7f3c", "X-Team": "growth"}
    (event,) = await app.log()
    assert (event["actor"], event["origin"]) == ("admin", "dashboard")
    assert "7f3c" not in str(event)


async def test_advanced_fields_have_their_defaults(app: App) -> None:
    made = await saved(app, await send(app, NEW, {"name": "a", "target_url": TARGET, "event_types": "*"}))
    usual = await app.route(name="a")
    for name in ("event_types", "payload", "headers", "ordered", "rate_limit_per_second", "status"):
        assert made[name] == usual[name], name


@pytest.mark.parametrize(
    ("boxes", "others", "types"),
    [
        (["*", "order.*", "order.create"], "cart.create", ["*"]),
        (["order.*", "order.create"], "order.pay cart.create", ["order.*", "cart.create"]),
        ([], "order.create;order.*\tcart.create", ["order.*", "cart.create"]),
        (["order.create"], "order.create", ["order.create"]),
    ],
)
async def test_types_that_a_group_or_everything_covers_are_not_kept_besides(
    app: App, boxes: list[str], others: str, types: list[str]
) -> None:
    entered = {"name": "a", "target_url": TARGET, "event_types": boxes, "other_types": others}
    assert (await saved(app, await send(app, NEW, entered)))["event_types"] == types


async def test_one_may_be_created_disabled_and_it_says_so(app: App) -> None:
    page = await send(app, NEW, {"name": "a", "target_url": TARGET, "event_types": "*", "disabled": "yes"})
    assert "?done=created_disabled&" in page.location
    assert (await saved(app, page))["status"] == "disabled"


async def test_a_key_may_be_brought_along_when_a_webhook_is_made_and_not_when_it_is_edited(app: App) -> None:
    entered = {"name": "a", "target_url": TARGET, "event_types": "*", "verification_key": "kurz"}
    page = await send(app, NEW, entered)
    assert page.status == 422
    assert wrong_fields(page) == ["verification_key"]
    text = "Schlüssel von früher / 鍵"
    made = await saved(app, await send(app, NEW, entered | {"verification_key": text}))
    assert (await app.ask("GET", path(made, "/key"))).json["verification_key"] == text
    assert "verification_key" not in await fields_of(app, edit_of(made))


async def test_a_form_that_is_sent_twice_creates_one_webhook(app: App) -> None:
    entered = {"name": "a", "target_url": TARGET, "event_types": "*", "headers": "X-A: b"}
    fields = changed(await fields_of(app, NEW), entered)
    sent = [await post(app, NEW, {**fields, "intent": intent}) for intent in ("enter", "save", "save")]
    assert len({page.location for page in sent}) == len(await app.log()) == 1


async def test_another_sheet_makes_another_webhook_with_the_same_in_it(app: App) -> None:
    entered = {"name": "a", "target_url": TARGET, "event_types": "*"}
    places = {(await send(app, NEW, entered)).location for _ in range(2)}
    assert len(places) == len(await app.log()) == 2


async def test_all_types_below_a_prefix_can_be_chosen_and_stay_chosen(app: App) -> None:
    saved = await send(app, NEW, {"name": "a", "target_url": TARGET, "other_types": "customer.subscription.*"})
    (route,) = (await app.ask("GET", "/v1/tenants/acme/routes")).json["items"]
    assert route["event_types"] == ["customer.subscription.*"]
    edit = f"/t/acme/webhooks/{route['id']}/edit"
    opened = await get(app, edit)
    box = opened.one("input[value='customer.subscription.*']")
    assert box.has_attr("checked")
    assert "All below customer.subscription" in opened.text
    await send(app, edit, {"name": "b"})
    (route,) = (await app.ask("GET", "/v1/tenants/acme/routes")).json["items"]
    assert (saved.status, route["name"], route["event_types"]) == (303, "b", ["customer.subscription.*"])


async def test_all_that_is_wrong_is_reported_at_once_above_and_beside_its_fields(app: App) -> None:
    entered = {
        "name": " ",
        "target_url": "http://10.0.0.1/",
        "other_types": "Order.Create",
        "payload.snapshot": "customer: ",
        "payload.filter": "a[",
        "payload.transform": "nope(@)",
        "headers": "Host: x\r\nX-Shop 7f3c",
        "rate_limit_per_second": "fast",
    }
    page = await send(app, NEW, entered)
    assert page.status == 422
    assert wrong_fields(page) == [
        "name", "target_url", "event_types", "payload-snapshot", "payload-filter", "payload-transform", "headers",
        "rate_limit_per_second",
    ]  # fmt: skip
    assert page.words("#name-wrong") == ["Is empty: give the webhook a name you will recognise."]
    assert page.words("#headers-wrong") == ["Line 2 is not of the form Name: value."]
    assert "Event types: 'Order.Create' is no event type" in page.text
    assert page.one("title").text.startswith("Error: ")
    assert page.one(".notice-bad").has_attr("data-focus")
    assert page.one("details.advanced").has_attr("open")
    for name in ("name", "target_url", "payload-filter", "headers"):
        assert page.one(f"#{name}")["aria-invalid"] == "true"
        assert f"{name}-wrong" in str(page.one(f"#{name}")["aria-describedby"])
    assert await app.log() == []


async def test_headers_that_no_webhook_may_have_are_reported_at_their_one_field(app: App) -> None:
    page = await send(app, NEW, {"name": "a", "target_url": TARGET, "headers": "Host: x\nX-A: é\nX_ok: fine"})
    assert wrong_fields(page) == ["event_types", "headers", "headers"]
    (message,) = page.words("#headers-wrong")
    assert message == (
        "Host: this header is set by us, or reserved. "
        "X-A: the value may only have visible ASCII characters, space and tab."
    )

    many = "\n".join(f"X-{number}: a" for number in range(21))
    page = await send(app, NEW, {"name": "a", "target_url": TARGET, "event_types": "*", "headers": many})
    assert page.words("#headers-wrong") == ["21 headers; at most 20 are allowed."]
    assert page.words(".notice-bad li") == ["Custom headers: 21 headers; at most 20 are allowed"]


async def test_the_input_is_kept_with_any_error(app: App) -> None:
    await add_types(app, "order.create", "order.pay")
    entered = {
        "name": "a\u0007b",
        "target_url": "https://user:geheim@shop.example.com/",
        "event_types": ["order.pay"],
        "other_types": "No Type",
        "payload.snapshot": "\r\n\r\ncustomer: ",
        "payload.filter": "a[ <b>",
        "payload.transform": "</textarea><script>",
        "headers": "X-Shop: geheim\r\nX-Shop: geheim2",
        "rate_limit_per_second": "0",
        "ordered": "yes",
        "disabled": "yes",
    }
    fields = changed(await fields_of(app, NEW), {"intent": "save", **entered})
    page = await post(app, NEW, fields)
    assert page.status == 422
    again = page.form_data()
    for name, text in entered.items():
        if isinstance(text, str):
            assert again[name] == [text.replace("\r\n", "\n").strip()], name
    assert checked(page) == ["order.pay"]
    assert again["once"] == fields["once"]
    assert page.headers["Cache-Control"] == "no-store"


async def test_numbers_out_of_range_are_reported_in_words_for_a_form(app: App) -> None:
    page = await send(app, NEW, {"name": "a", "target_url": TARGET, "event_types": "*", "rate_limit_per_second": "0"})
    assert page.words("#rate_limit_per_second-wrong") == ["Must be above 0 and at most 10000, or empty for no limit."]


async def test_a_target_that_must_not_be_is_refused_here_too(app: App) -> None:
    for url in ("http://shop.example.com/", "https://169.254.169.254/", "https://localhost/", "javascript:alert(1)"):
        page = await send(app, NEW, {"name": "a", "target_url": url, "event_types": "*"})
        assert (page.status, wrong_fields(page)) == (422, ["target_url"]), url
    assert await app.log() == []


async def test_without_event_types_it_asks_for_what_a_form_can_choose(app: App) -> None:
    page = await send(app, NEW, {"name": "a", "target_url": TARGET})
    assert (page.status, page.words("#event_types-wrong")) == (422, ["Choose at least one, or everything."])
    assert page.words(".notice-bad li") == ["Event types: choose at least one, or everything"]


async def test_where_types_are_strict_an_unknown_one_is_refused_in_a_merchants_words(empty_url: str) -> None:
    async with app(empty_url, events__strict_types="true") as strict:
        entered = {"name": "a", "target_url": TARGET, "other_types": "order.craete cart.x invoice.*"}
        empty = await send(strict, NEW, entered)
        assert empty.words("#event_types-wrong") == [
            "order.craete is not in the catalogue of event types. cart.x is not in the catalogue of event types."
        ]
        await add_types(strict, "order.create")
        route = await strict.route(event_types=["order.create"])
        page = await send(strict, NEW, entered)
        assert (page.status, wrong_fields(page)) == (422, ["event_types", "event_types"])
        assert "did you mean order.create?" in page.text
        assert "/v1/" not in page.text
        await add_types(strict, "order.pay")
        # It may keep the types that it already has.
        assert (await send(strict, edit_of(route), {"name": "b"})).location.startswith("/t/acme/webhooks?done=edited&")


async def test_without_a_catalogue_types_can_be_typed(app: App) -> None:
    page = await get(app, NEW)
    assert offered(page) == ["*"]
    assert "No event types are known here yet" in page.text
    made = await saved(app, await send(app, NEW, {"name": "a", "target_url": TARGET, "other_types": "order.create"}))
    assert made["event_types"] == ["order.create"]


# ---- copying ----


@pytest.mark.parametrize("is_deleted", [False, True])
async def test_a_copy_is_filled_in_but_for_the_values_of_headers(app: App, is_deleted: bool) -> None:
    shape: dict[str, Any] = {
        "event_types": ["cart.create", "order.*"],
        "payload": {"snapshot": {"customer": ["name"]}, "filter": "data", "transform": "id"},
        "ordered": True,
        "rate_limit_per_second": 3.0,
    }
    route = await app.route(name="Orders", headers={"X-Shop": "geheim"}, **shape)
    if is_deleted:
        await app.ask("DELETE", path(route))
    where = f"{NEW}?copy={route['id']}"
    page = await get(app, where)
    assert "geheim" not in page.html
    assert ("which was deleted" in page.text) is is_deleted
    assert "The values of its headers are secrets and were not copied" in page.text
    fields = page.form_data()
    assert (fields["name"], fields["headers"]) == (["Copy of Orders"], ["X-Shop:"])

    refused = await send(app, where, {})
    assert (refused.status, wrong_fields(refused)) == (422, ["headers"])
    assert refused.words("#headers-wrong") == ["X-Shop has no value: give one, or take the line out."]
    assert "This is like Orders" in refused.text

    made = await saved(app, await send(app, where, {"headers": "X-Shop: new"}))
    assert {name: made[name] for name in shape} == shape
    assert await headers_of(app, made) == {"X-Shop": "new"}
    assert (made["id"], made["key"]["fingerprint"]) != (route["id"], route["key"]["fingerprint"])


async def test_a_copy_without_headers_says_nothing_of_them_and_its_name_is_not_too_long(app: App) -> None:
    route = await app.route(name="n" * 128)
    page = await get(app, f"{NEW}?copy={route['id']}")
    assert "headers" not in page.words(".notice-info")[0]
    assert (await saved(app, await send(app, f"{NEW}?copy={route['id']}", {})))["name"] == f"Copy of {'n' * 120}"


async def test_what_another_tenant_has_cannot_be_copied(app: App) -> None:
    route = await app.route("globex", name="Theirs")
    for copied in (route["id"], str(UUID(int=7)), "x"):
        page = await get(app, f"{NEW}?copy={copied}")
        assert page.status == 404
        assert "There is no such webhook." in page.text
        assert (await post(app, f"{NEW}?copy={copied}", {"name": "a", "target_url": TARGET})).status == 404


# ---- editing ----


async def test_the_form_shows_what_is_set_and_no_secret(app: App) -> None:
    await add_types(app, "order.create", "order.pay")
    route = await app.route(
        name="Orders",
        event_types=["order.pay", "invoice.*", "gone.type"],
        payload={"snapshot": {"customer": ["name"], "orders": True}, "filter": "a\n && b"},
        headers={"X-Shop": "geheim", "X-Team": "growth"},
        rate_limit_per_second=100,
    )
    page = await get(app, edit_of(route))
    fields = page.form_data()
    assert page.words("h1") == ["Edit Orders"]
    assert checked(page) == ["gone.type", "invoice.*", "order.pay"]
    assert page.one("details.advanced").has_attr("open")
    visible = {
        name: fields[name][0] for name in ("payload.snapshot", "payload.filter", "headers", "rate_limit_per_second")
    }
    assert visible == {
        "payload.snapshot": "customer: name\norders",
        "payload.filter": "a\n && b",
        "headers": f"X-Shop: {MASK}\nX-Team: {MASK}",
        "rate_limit_per_second": "100",
    }
    assert "geheim" not in page.html
    assert "growth" not in page.html
    assert page.all("#disabled") == []


async def test_only_what_was_touched_is_changed(app: App) -> None:
    route = await app.route(
        headers={"X-Shop": "geheim"},
        event_types=["order.create", "order.*"],
        payload={"snapshot": {"b": True, "a": ["x"]}, "filter": " data "},
        rate_limit_per_second=1 / 3,
    )
    before = current(app, route).config
    page = await send(app, edit_of(route), {"payload.transform": "id"})
    assert page.location == f"/t/acme/webhooks?done=edited&saved={route['id']}"
    after = current(app, route).config
    assert after.payload.transform == "id"
    assert (after.payload.filter, after.payload.snapshot) == (before.payload.filter, before.payload.snapshot)
    for name in ("name", "target_url", "event_types", "header_names", "headers_id", "ordered", "rate_limit_per_second"):
        assert getattr(after, name) == getattr(before, name), name
    assert len(await app.log()) == 2


async def test_a_header_that_is_left_masked_keeps_its_value(app: App) -> None:
    route = await app.route(headers={"X-Kept": "one", "X-New": "two", "X-Gone": "three"})
    entered = {"headers": f"X-New: 2\r\nx-kept: {MASK}\r\nX-Added: 4"}
    assert (await send(app, edit_of(route), entered)).status == 303
    assert await headers_of(app, route) == {"X-New": "2", "x-kept": "one", "X-Added": "4"}
    assert (await send(app, edit_of(route), {"headers": ""})).status == 303
    assert await headers_of(app, route) == {}


async def test_a_mask_without_a_stored_value_is_refused(app: App) -> None:
    route = await app.route(headers={"X-Shop": "geheim"})
    page = await send(app, edit_of(route), {"headers": f"X-Shop: {MASK}\r\nX-Other: {MASK}"})
    assert (page.status, wrong_fields(page)) == (422, ["headers"])
    assert "X-Other: *** stands for a stored value, and there is none" in page.text
    assert page.form_data()["headers"] == [f"X-Shop: {MASK}\nX-Other: {MASK}"]


async def test_another_name_leaves_key_and_headers_as_they_are(app: App) -> None:
    route = await app.route(headers={"X-Shop": "geheim"})
    renamed = await saved(app, await send(app, edit_of(route), {"name": "Another name"}))
    assert renamed["name"] == "Another name"
    assert renamed["key"] == route["key"]
    assert (await app.ask("GET", path(route, "/key"))).json["verification_key"] == route["verification_key"]
    assert await headers_of(app, route) == {"X-Shop": "geheim"}


async def test_if_nothing_was_changed_nothing_happens_and_it_says_so(app: App) -> None:
    route = await app.route(
        headers={"X-A": "b"}, event_types=["b.c", "a.*"], payload={"snapshot": {"b": True, "a": []}}
    )
    page = await send(app, edit_of(route), {"reason": "just so"})
    assert page.location == f"/t/acme/webhooks?done=unchanged&saved={route['id']}"
    assert len(await app.log()) == 1


async def test_why_something_was_changed_is_kept(app: App) -> None:
    route = await app.route()
    await send(app, edit_of(route), {"name": "b", "reason": "  as the shop is called now "})
    assert (await app.log())[-1]["reason"] == "as the shop is called now"


async def test_a_reason_that_is_too_long_is_reported_with_all_else_that_is_wrong(app: App) -> None:
    route = await app.route()
    page = await send(app, edit_of(route), {"name": "", "payload.filter": "a[", "reason": "y" * 1001})
    assert (page.status, wrong_fields(page)) == (422, ["name", "payload-filter", "reason"])
    assert page.words("#reason-wrong") == ["Is longer than 1000 characters."]
    assert page.form_data()["reason"] == ["y" * 1001]
    assert len(await app.log()) == 1


async def test_a_deleted_webhook_cannot_be_edited(app: App) -> None:
    route = await app.route()
    fields = changed(await fields_of(app, edit_of(route)), {"name": "b", "intent": "save"})
    await app.ask("DELETE", path(route))
    for page in (await get(app, edit_of(route)), await post(app, edit_of(route), fields)):
        assert page.status == 404
        assert "There is no such webhook." in page.text


# ---- two people at the same webhook ----


async def conflicting_save(
    opened: App, route: Mapping[str, Any], mine: Mapping[str, str | Sequence[str]], theirs: Mapping[str, Any]
) -> Page:
    """The answer to my form after somebody else saved while it was open."""
    fields = changed(await fields_of(opened, edit_of(route)), {"intent": "save", **mine})
    done = await opened.ask("PATCH", path(route), {"reason": "I was here", **theirs})
    assert done.status == 200, done.text
    page = await post(opened, edit_of(route), fields)
    assert page.status == 409
    assert len(await opened.log()) == 2
    return page


async def save_again(opened: App, route: Mapping[str, Any], page: Page) -> dict[str, Any]:
    return await saved(opened, await post(opened, edit_of(route), {**page.form_data(), "intent": "save"}))


async def test_the_second_to_save_sees_the_first_change_and_saving_again_keeps_both(app: App) -> None:
    route = await app.route(name="Orders", headers={"X-A": "a"})
    theirs = {"target_url": OTHER, "payload": {"filter": "data"}}
    page = await conflicting_save(app, route, {"name": "Mine", "ordered": "yes"}, theirs)
    (notice,) = page.words(".meanwhile")
    assert notice.startswith("Somebody else changed this webhook meanwhile. Nothing of yours is saved yet")
    assert "“I was here”" in notice
    assert OTHER in notice
    assert "You changed different things: saving again keeps both." in notice
    assert page.one(".meanwhile").has_attr("data-focus")
    assert page.words(".actions .primary") == ["Save again"]
    fields = page.form_data()
    assert (fields["name"], fields["target_url"], fields["payload.filter"]) == (["Mine"], [OTHER], ["data"])
    assert fields["version"] == ["2"]

    both = await save_again(app, route, page)
    assert (both["name"], both["target_url"], both["payload"]["filter"], both["ordered"]) == (
        "Mine", OTHER, "data", True,
    )  # fmt: skip
    assert await headers_of(app, route) == {"X-A": "a"}


async def test_a_field_that_both_changed_shows_mine_and_is_saved_knowingly(app: App) -> None:
    route = await app.route(name="Orders", ordered=False)
    page = await conflicting_save(app, route, {"name": "Mine"}, {"name": "Theirs"})
    assert "You both changed Name: look there. Yours is saved if you save now." in page.text
    assert "Theirs" in page.words(".meanwhile")[0]
    assert page.form_data()["name"] == ["Mine"]
    assert page.words(".actions .primary") == ["Save anyway"]
    assert (await save_again(app, route, page))["name"] == "Mine"


async def test_the_same_wish_twice_is_no_quarrel(app: App) -> None:
    route = await app.route(event_types=["order.create", "order.pay"])
    mine = {"name": "Ours", "event_types": ["order.pay"], "ordered": "yes"}
    page = await conflicting_save(app, route, mine, {"name": "Ours", "event_types": ["order.pay"]})
    assert "saving again keeps both" in page.text
    assert (await save_again(app, route, page))["ordered"] is True


async def test_single_types_and_headers_of_both_are_brought_together(app: App) -> None:
    route = await app.route(event_types=["order.create", "order.pay"], headers={"X-A": "a", "X-B": "b"})
    mine = {"event_types": ["order.create", "order.pay"], "other_types": "cart.create", "headers": "X-A: 1\nX-C: c"}
    theirs = {"event_types": ["order.create", "invoice.*"], "headers": {"X-A": "a", "X-B": "bb", "X-D": "d"}}
    page = await conflicting_save(app, route, mine, theirs)
    assert "You both changed Event types, Custom headers" in page.text
    assert set(checked(page)) == {"order.create", "invoice.*"}
    both = await save_again(app, route, page)
    assert set(both["event_types"]) == {"order.create", "invoice.*", "cart.create"}
    assert await headers_of(app, route) == {"X-A": "1", "X-D": "d", "X-C": "c"}


async def test_a_header_that_both_set_anew_keeps_mine(app: App) -> None:
    route = await app.route(headers={"X-A": "a"})
    page = await conflicting_save(app, route, {"headers": "X-A: mine"}, {"headers": {"X-A": "theirs"}})
    assert "You both changed Custom headers: look there." in page.text
    assert "theirs" not in page.html
    assert page.form_data()["headers"] == ["X-A: mine"]
    await save_again(app, route, page)
    assert await headers_of(app, route) == {"X-A": "mine"}


async def test_a_value_that_only_the_other_set_anew_stays(app: App) -> None:
    route = await app.route(headers={"X-A": "a"})
    page = await conflicting_save(app, route, {"name": "Mine"}, {"headers": {"X-A": "theirs"}})
    assert "saving again keeps both" in page.text
    await save_again(app, route, page)
    assert await headers_of(app, route) == {"X-A": "theirs"}


async def test_what_is_still_wrong_is_reported_when_it_is_saved_again_and_nothing_is_lost(app: App) -> None:
    route = await app.route(name="Orders")
    page = await conflicting_save(app, route, {"payload.filter": "a[", "reason": "mine"}, {"name": "Theirs"})
    assert page.form_data()["reason"] == ["mine"]
    refused = await post(app, edit_of(route), {**page.form_data(), "intent": "save"})
    assert (refused.status, wrong_fields(refused)) == (422, ["payload-filter"])
    fields = refused.form_data()
    assert (fields["payload.filter"], fields["reason"], fields["name"]) == (["a["], ["mine"], ["Theirs"])


async def test_a_third_one_is_shown_too(app: App) -> None:
    route = await app.route(name="Orders")
    first = await conflicting_save(app, route, {"name": "Mine"}, {"ordered": True})
    await app.ask("POST", path(route, "/disable"), {"reason": "pause"})
    second = await post(app, edit_of(route), {**first.form_data(), "intent": "save"})
    assert second.status == 409
    assert "“pause”" in second.words(".meanwhile")[0]
    assert "I was here" not in second.text
    last = await save_again(app, route, second)
    assert (last["name"], last["ordered"], last["status"]) == ("Mine", True, "disabled")


async def test_looking_at_a_preview_does_not_hide_that_somebody_was_faster(app: App) -> None:
    await add_types(app, "order.create")
    route = await app.route()
    fields = changed(await fields_of(app, edit_of(route)), {"name": "Mine"})
    await app.ask("PATCH", path(route), {"target_url": OTHER})
    visible = await post(app, edit_of(route), {**fields, "intent": "preview"})
    assert visible.status == 200
    assert (await post(app, edit_of(route), {**visible.form_data(), "intent": "save"})).status == 409


@pytest.mark.parametrize("version", ["", "0", "7", "-1", "x", "9" * 5000, "٣", "²"])
async def test_a_form_that_does_not_say_which_version_it_showed_is_of_the_present_one(app: App, version: str) -> None:
    route = await app.route()
    fields = changed(await fields_of(app, edit_of(route)), {"name": "b", "version": version, "intent": "save"})
    assert (await post(app, edit_of(route), fields)).location.startswith("/t/acme/webhooks?done=edited&")


# ---- many types ----


@pytest.mark.parametrize("count", [0, 200, 1000])
async def test_with_very_many_types_the_page_stays_small_and_shows_the_chosen_ones(app: App, count: int) -> None:
    names = [f"group_{n % 20:02}.something_that_happened_{n:04}" for n in range(count)]
    await add_types(app, *names, description=LONG_DESCRIPTION)
    chosen = ["group_07.*", *names[::5][:150], "not.listed"]
    route = await app.route(event_types=[name for name in chosen if not name.startswith("group_07.s")])
    for page in (await get(app, NEW), await get(app, edit_of(route))):
        assert len(page.html.encode()) < 100_000
    assert set(checked(page)) == set(route["event_types"])
    assert sum(choice["value"] in names for choice in page.all("input[name=event_types]")) >= min(count, 120)


async def test_no_description_is_too_odd_for_the_page(app: App) -> None:
    names = [f"group_{n % 20:02}.something_that_happened_{n:04}" for n in range(150)]
    await add_types(app, *names, description='"<&>"' * 190)
    assert len((await get(app, NEW)).html.encode()) < 100_000


async def test_without_scripts_types_are_found_and_the_input_is_kept(app: App) -> None:
    names = [f"group_{n % 20:02}.something_that_happened_{n:04}" for n in range(1000)]
    await add_types(app, *names)
    first = await get(app, NEW)
    assert offered(first) == ["*", *(f"group_{n:02}.*" for n in range(20))]
    entered = {"name": "Orders", "headers": "X-A: geheim", "event_types": ["group_03.*"], "find": " HAPPENED_0999"}
    found = await post(app, NEW, changed(first.form_data(), {**entered, "intent": "find"}))
    assert found.status == 200
    assert "group_19.something_that_happened_0999" in offered(found)
    assert checked(found) == ["group_03.*"]
    assert found.all(".notice-bad") == []

    both = ["group_03.*", "group_19.something_that_happened_0999"]
    group = await post(app, NEW, changed(found.form_data(), {"event_types": both, "intent": "find:group_05."}))
    assert sum(name.startswith("group_05.s") for name in offered(group)) == 50
    assert checked(group) == both
    fields = group.form_data()
    assert (fields["name"], fields["headers"]) == (["Orders"], ["X-A: geheim"])
    assert await app.log() == []

    made = await saved(app, await post(app, NEW, {**fields, "target_url": TARGET, "intent": "save"}))
    assert made["event_types"] == both


async def test_enter_saves_nothing_where_types_are_found_by_name(app: App) -> None:
    await add_types(app, *(f"group.something_that_happened_{n:04}" for n in range(1000)))
    first = await get(app, NEW)
    assert first.all("form.webhook-form button")[0]["value"] == "enter"
    fields = changed(first.form_data(), {"name": "a", "target_url": TARGET, "event_types": "*", "intent": "enter"})
    found = await post(app, NEW, {**fields, "find": "_0999"})
    assert "group.something_that_happened_0999" in offered(found)
    assert await app.log() == []
    again = changed(found.form_data(), {"event_types": "*"})
    assert (await post(app, NEW, {**again, "intent": "enter"})).status == 200
    assert await app.log() == [], "it may have been pressed in the field that finds"
    assert (await saved(app, await post(app, NEW, {**again, "intent": "save"})))["name"] == "a"


async def test_a_group_can_be_chosen_but_for_single_types(app: App) -> None:
    await add_types(app, "order.create", "order.cancel", "order.skip", "cart.create")
    route = await app.route(event_types=["order.*", "cart.create"])
    form = await get(app, edit_of(route))
    (button,) = [each["value"] for each in form.all("button[data-singly]")]
    singly = await post(app, edit_of(route), {**form.form_data(), "intent": button})
    assert checked(singly) == ["cart.create", "order.cancel", "order.create", "order.skip"]
    (said,) = [each.get_text() for each in singly.all("[data-single]:not([hidden])")]
    assert "types of order that are added later will not be sent" in said
    kept: dict[str, str | list[str]] = {
        **singly.form_data(),
        "event_types": ["cart.create", "order.create", "order.skip"],
        "intent": "save",
    }
    changed_route = await saved(app, await post(app, edit_of(route), kept))
    assert changed_route["event_types"] == ["cart.create", "order.create", "order.skip"]


async def test_enter_saves_where_all_types_are_shown(app: App) -> None:
    await add_types(app, "order.create")
    entered = {"name": "a", "target_url": TARGET, "event_types": "*", "intent": "enter"}
    assert (await saved(app, await send(app, NEW, entered)))["name"] == "a"


# ---- previews without scripts ----


async def test_a_preview_without_scripts_keeps_the_input_and_saves_nothing(app: App) -> None:
    await add_types(app, "order.create")
    entered = {
        "name": "Orders",
        "event_types": ["order.create"],
        "payload.snapshot": "customer",
        "headers": "X-Shop: geheim",
        "sample_type": "order.create",
        "intent": "preview",
    }
    page = await send(app, NEW, entered)
    assert page.status == 200
    assert "Would be sent." in page.text
    body, request = page.words("#preview pre")
    assert '"customer": { "name": "Ada" }' in body
    assert "X-Shop: ***" in request
    assert page.one("details.advanced").has_attr("open")
    fields = page.form_data()
    assert (fields["name"], fields["headers"], fields["sample_type"]) == (
        ["Orders"], ["X-Shop: geheim"], ["order.create"],
    )  # fmt: skip
    assert page.all(".notice-bad") == []
    assert (await app.log(), await app.events()) == ([], [])


async def test_what_is_wrong_with_a_preview_is_reported_there_and_beside_its_field(app: App) -> None:
    page = await send(app, NEW, {"payload.filter": "a[", "sample_type": "order.create", "intent": "preview"})
    assert "Nothing can be shown yet." in page.words("#preview")[0]
    assert page.one("#payload-filter")["aria-invalid"] == "true"
    assert page.one("#sample_type")["aria-invalid"] == "true"
    assert page.all("#name-wrong") == []


async def test_too_many_previews_take_nothing_from_the_form(app: App) -> None:
    await add_types(app, "order.create")
    fields = changed(await fields_of(app, NEW), {"name": "Orders", "sample_type": "order.create", "intent": "preview"})
    app.client.app[TENANT_LIMITS]._allowances = {RateLimit.PREVIEW: Allowance(burst=1, per_second=0.01)}
    assert "Body" in (await post(app, NEW, fields)).words("#preview")[0]
    page = await post(app, NEW, fields)
    assert re.search(r"try again in \d+ s", page.words("#preview")[0])
    assert page.form_data()["name"] == ["Orders"]


async def test_by_itself_the_first_type_that_the_webhook_gets_is_previewed(app: App) -> None:
    await add_types(app, "cart.create", "order.create", "order.pay")
    route = await app.route(event_types=["order.*"])
    assert (await fields_of(app, edit_of(route)))["sample_type"] == ["order.create"]
    assert (await fields_of(app, NEW))["sample_type"] == [""]


# ---- access, escaping and limits ----


async def test_hostile_names_are_only_text(app: App) -> None:
    await add_types(app, "order.create", description=HOSTILE)
    route = await app.route(name=HOSTILE, payload={"filter": "'</textarea><script>'", "snapshot": {HOSTILE: True}})
    await app.ask("PATCH", path(route), {"name": f"{HOSTILE}2", "reason": HOSTILE})
    stale = changed(await fields_of(app, edit_of(route)), {"version": "1", "name": f"{HOSTILE}3", "intent": "save"})
    entered = {"name": HOSTILE, "target_url": HOSTILE, "other_types": HOSTILE, "headers": HOSTILE, "reason": HOSTILE,
             "payload.filter": HOSTILE, "payload.snapshot": HOSTILE, "rate_limit_per_second": HOSTILE,
             "sample_type": HOSTILE, "sample_event": HOSTILE, "find": HOSTILE, "event_types": HOSTILE}  # fmt: skip
    for page in (
        await get(app, edit_of(route)),
        await get(app, f"{NEW}?copy={route['id']}"),
        await post(app, edit_of(route), stale),
        await send(app, NEW, entered),
        await send(app, NEW, {**entered, "intent": "preview"}),
        await send(app, edit_of(route), {**entered, "intent": f"find:{HOSTILE}"}),
    ):
        assert page.status in (200, 409, 422)
        assert len(page.all("script")) == 1
        assert "alert(1)" in page.text
        assert "{{ 7*7 }}" in page.text


async def test_no_byte_that_a_form_may_send_is_more_than_wrong(app: App) -> None:
    route = await app.route()
    for name in (*await fields_of(app, edit_of(route)), "ordered", "event_types", "find", "intent"):
        for text in ("\0", "a\0b", "\ud7ff\uffff", "\u2028", "é" * 3000):
            fields = await fields_of(app, edit_of(route))
            for intent in ("save", "preview"):
                page = await post(app, edit_of(route), {**fields, "intent": intent, name: text})
                assert page.status in (200, 303, 409, 422), (name, text, intent)


async def test_a_reader_gets_no_form(app: App) -> None:
    route = await app.route()
    headers = bearer(await token(app.database, "auditor:acme")) | {"Accept": "text/html"}
    for where in (NEW, edit_of(route)):
        assert (await get(app, where, headers=headers)).status == 403
        assert (await post(app, where, {"name": "b"}, headers=headers)).status == 403
    assert len(await app.log()) == 1


async def test_a_form_full_of_lines_that_are_wrong_is_answered_shortly(app: App) -> None:
    """There may be tens of thousands of wrong lines; an error for each would keep the daemon busy for seconds."""
    route = await app.route()
    for field in ("headers", "payload.snapshot"):
        for where in (NEW, edit_of(route), "/t/acme/drafts/preview"):
            answer = await post(app, where, {"name": "x", "target_url": TARGET, field: "a:\n" * 30_000})
            assert answer.status in (200, 422), where
            assert "30000 lines, 200 are allowed" in answer.text
            assert len(answer.html) < 250_000


async def test_a_form_full_of_types_is_answered_shortly(app: App) -> None:
    sent = [f"made.up_{number}" for number in range(4900)]
    answer = await post(app, NEW, {"name": "x", "target_url": TARGET, "event_types": sent})
    assert answer.status == 422
    assert "4900 entries, 200 are allowed" in answer.text
    assert len(answer.html) < 150_000


async def test_a_snapshot_that_makes_no_sense_is_reported_in_edits_as_well(app: App) -> None:
    page = await send(app, edit_of(await app.route()), {"payload.snapshot": "customer: "})
    assert page.status == 422
    assert page.words("#payload-snapshot-wrong") == [
        "Line 1 names no field: name some, or leave the colon out for all."
    ]


async def test_a_form_full_of_percent_signs_is_read(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is parsed in a thread, so that the event loop can serve other requests."""
    read_in: list[threading.Thread] = []

    def parsed(raw: bytes, _max_fields: int) -> dict[str, list[str]]:
        read_in.append(threading.current_thread())
        return {"target_url": [raw.decode()]}

    monkeypatch.setattr(form_data, "_parsed", parsed)
    answer = await post(app, "/t/acme/drafts/target", {"target_url": "%" * 100_000})
    assert "longer than" in answer.text
    assert read_in != [threading.main_thread()]
