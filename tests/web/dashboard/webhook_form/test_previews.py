"""The live parts of the form: the request that would be sent, and the verdict on the target."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from daemon.core.events.catalogue import TypeDraft
from daemon.core.gcra import Allowance
from daemon.deliveries.preview import PLACEHOLDER_KEY
from daemon.web.access.limits import TENANT_LIMITS
from daemon.web.dashboard.webhook_form.previews import MAX_CHARACTERS
from daemon.web.http.endpoints import RateLimit
from daemon.web.http.shapes import MASK
from tests.support.web.application import TARGET, App, app, path
from tests.support.web.pages import PART, Page, get, post
from tests.support.web.tokens import bearer, token

PREVIEW = "/t/acme/drafts/preview"
VERDICT = "/t/acme/drafts/target"
HOSTILE = '"><script>alert(1)</script>{{ 7*7 }}'
EXAMPLE = {
    "data": {"total": "19.90"},
    "context": {"source": "api"},
    "snapshot": {"customer": {"name": "Ada", "age": 36}},
}
SAMPLE = json.loads((Path(__file__).parents[4] / "daemon" / "data" / "event_types.json").read_text())
CASES = json.loads((Path(__file__).parents[3] / "data" / "ssrf_cases.json").read_text())


async def add_types(opened: App, *names: str) -> None:
    await opened.services.catalogue.replace([TypeDraft(name=name, example=EXAMPLE) for name in names])


async def preview(opened: App, fields: Mapping[str, str | list[str]], tenant: str = "acme") -> Page:
    return await post(opened, PREVIEW.replace("acme", tenant), {"event_types": "*", **fields}, headers=PART)


async def verdict(opened: App, url: str, **more: str) -> Page:
    return await post(opened, VERDICT, {"target_url": url, **more}, headers=PART)


def previewed(page: Page) -> tuple[dict[str, Any], str]:
    """The body and the headers of the previewed request."""
    assert page.status == 200, page.text
    body, head = (str(each.get_text()) for each in page.all("pre"))
    return json.loads(body), head


def problems_on(page: Page) -> list[str]:
    """The problems that prevent a preview; then there is none."""
    assert page.words(".verdict-bad strong") == ["Nothing can be shown yet."]
    assert page.all("pre") == []
    return page.words(".verdict-bad li")


async def test_the_example_of_a_filter_fits_the_sample_catalogue(app: App) -> None:
    page = await get(app, "/t/acme/webhooks/new")
    (example,) = page.words("#payload-filter-hint code")
    with_total = [entry for entry in SAMPLE if "total" in entry["example"]["data"]]
    assert len(with_total) >= 10
    await app.services.catalogue.replace([TypeDraft(name=it["name"], example=it["example"]) for it in with_total])
    for entry in with_total:
        shown = await preview(app, {"payload.filter": example, "sample_type": entry["name"]})
        is_more = float(entry["example"]["data"]["total"]) > 100
        assert shown.all(".verdict-bad") == []
        assert is_more == ("the filter does not let this event pass" not in shown.text), entry["name"]


async def test_a_filter_that_compares_a_text_with_a_number_is_told_what_to_do(app: App) -> None:
    await add_types(app, "order.create")
    shown = await preview(app, {"payload.filter": "data.object.total > `100`", "sample_type": "order.create"})
    assert "compares a text with a number: make a number of the text with to_number()" in shown.text


async def test_the_example_of_a_type_is_shown_as_it_would_be_sent(app: App) -> None:
    await add_types(app, "order.create")
    fields = {"sample_type": "order.create", "target_url": TARGET, "payload.snapshot": "customer: name"}
    page = await preview(app, fields)
    assert "<html" not in page.html
    assert page.words(".verdict") == ["Would be sent."]
    body, head = previewed(page)
    assert (body["type"], body["data"], body["context"], body["snapshot"]) == (
        "order.create", {"object": EXAMPLE["data"]}, EXAMPLE["context"], {"customer": {"name": "Ada"}},
    )  # fmt: skip
    assert head.startswith(f"POST {TARGET}\nAccept: */*\nAccept-Encoding: identity\nContent-Type: application/json\n")
    assert "OrderGroove-Signature: ts=" in head
    assert (await app.log(), await app.events(), app.hurried) == ([], [], [])


async def test_the_size_is_that_of_what_is_sent_and_not_of_what_is_laid_out(app: App) -> None:
    await add_types(app, "order.create")
    page = await preview(app, {"sample_type": "order.create", "payload.transform": "{ a: id, b: [id] }"})
    assert page.all("pre")[0].get_text() == '{\n  "a": "evt_example",\n  "b": [\n    "evt_example"\n  ]\n}'
    assert "without these blanks and line ends: 39 B." in page.text


async def test_the_preview_begins_with_an_example_of_a_subscribed_type(app: App) -> None:
    await add_types(app, "cart.create", "order.cancel", "order.create")
    page = await preview(app, {"sample_type": "", "event_types": ["cart.*", "order.create"]})
    assert previewed(page)[0]["type"] == "cart.create"


async def test_a_pasted_event_goes_before_the_example_and_keeps_its_figures(app: App) -> None:
    event = '{"type": "cart.create", "id": "evt_7", "data": {"n": 1.10, "big": 12345678901234567890123}}'
    page = await preview(app, {"sample_type": "order.create", "sample_event": event})
    body = page.all("pre")[0].get_text()
    assert '"n": 1.10' in body
    assert '"big": 12345678901234567890123' in body
    assert previewed(page)[0]["id"] == "evt_7"


async def test_a_pasted_body_is_the_event_that_it_is_of(app: App) -> None:
    await add_types(app, "order.create")
    example, _ = previewed(await preview(app, {"sample_type": "order.create"}))
    text = json.dumps(example | {"id": "evt_7", "data": {"object": {"n": 5}}}).replace("5", "5.00")
    page = await preview(app, {"sample_event": text, "payload.filter": "data.object.n == `5`"})
    assert "Would be sent." in page.text
    body, _ = previewed(page)
    assert (body["id"], body["type"], body["data"]) == ("evt_7", "order.create", {"object": {"n": 5}})
    assert '"n": 5.00' in page.all("pre")[0].get_text()


@pytest.mark.parametrize(
    "pasted",
    [
        '{"type": "a.b", "created": 1, "data": {"object": 1, "other": 2}}',
        '{"type": "a.b", "created": 1, "data": []}',
        f'{{"type": "a.b", "created": 1, "data": {{"object": {"[" * 900}{"]" * 900}}}}}',
    ],
)
async def test_what_is_no_body_of_ours_is_read_as_an_event(app: App, pasted: str) -> None:
    page = await preview(app, {"sample_event": pasted})
    assert page.status == 200
    assert problems_on(page)[0].startswith("Pasted event: ")


async def test_data_with_an_object_of_its_own_is_that_of_an_event(app: App) -> None:
    page = await preview(app, {"sample_event": '{"type": "a.b", "data": {"object": {"n": 1}}}'})
    assert previewed(page)[0]["data"] == {"object": {"object": {"n": 1}}}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"payload.filter": "a["}, "Filter: "),
        ({"payload.filter": "sum(data)"}, "Filter: "),
        ({"payload.transform": "nope(@)"}, "Transform: "),
        ({"payload.transform": "abs(id)"}, "Transform: "),
        ({"payload.snapshot": "customer:"}, "Snapshot: line 1 names no field"),
        ({"headers": "X-Shop"}, "Custom headers: line 1 is not of the form Name: value"),
        ({"sample_type": "", "event_types": []}, "Example: choose a type, or paste an event"),
        ({"sample_type": "order.craete"}, "did you mean order.create?"),
        ({"sample_type": "Order"}, "Example: must be object.action in lower case"),
        ({"sample_event": "{"}, "Pasted event: "),
        ({"sample_event": '{"type": "order.create"}'}, "Pasted event: data is missing: give an object"),
        ({"sample_event": '{"tenant": "globex", "type": "a.b", "data": {}}'}, "Pasted event: tenant "),
    ],
)
async def test_what_is_wrong_is_reported_with_a_link_to_its_field(
    app: App, fields: dict[str, str], message: str
) -> None:
    await add_types(app, "order.create")
    page = await preview(app, {"sample_type": "order.create"} | fields)
    (problem,) = problems_on(page)
    assert message in problem
    (link,) = page.all(".verdict-bad a")
    assert str(link["href"]).removeprefix("#") in {name.replace(".", "-") for name in fields}


async def test_all_that_is_wrong_is_reported_at_once_but_not_what_a_preview_does_not_need(app: App) -> None:
    fields = {"name": "", "target_url": "nowhere", "rate_limit_per_second": "fast", "event_types": "Order",
              "payload.filter": "a[", "payload.transform": "b[", "headers": "Host: x", "sample_event": "[]"}  # fmt: skip
    page = await preview(app, fields)
    assert [each.get_text() for each in page.all(".verdict-bad a")] == [
        "Filter", "Transform", "Pasted event", "Custom headers",
    ]  # fmt: skip


async def test_a_header_that_no_webhook_may_have_is_reported_by_its_name_at_its_field(app: App) -> None:
    await add_types(app, "order.create")
    page = await preview(app, {"sample_type": "order.create", "headers": "Host: geheim"})
    assert problems_on(page) == ["Custom headers: Host: this header is set by us, or reserved"]
    assert page.one(".verdict-bad a")["href"] == "#headers"


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"event_types": "cart.*"}, "the webhook does not subscribe to order.create"),
        ({"payload.filter": "data.object.total == 'x'"}, "the filter does not let this event pass"),
        ({"disabled": "yes"}, "the webhook is disabled"),
    ],
)
async def test_what_would_not_be_sent_is_shown_with_the_reason(app: App, fields: dict[str, str], reason: str) -> None:
    await add_types(app, "order.create")
    page = await preview(app, {"sample_type": "order.create"} | fields)
    assert page.words(".verdict") == [f"Would not be sent: {reason}."]
    assert previewed(page)[0]["type"] == "order.create"


async def test_a_disabled_webhook_would_not_send_even_if_the_form_says_enabled(app: App) -> None:
    await add_types(app, "order.create")
    route = await app.route(enabled=False)
    page = await preview(app, {"sample_type": "order.create", "route": route["id"]})
    assert page.words(".verdict") == ["Would not be sent: the webhook is disabled."]


async def test_values_of_headers_are_masked_and_no_key_signs(app: App) -> None:
    await add_types(app, "order.create")
    route = await app.route(headers={"X-Stored": "geheim"})
    entered = {"sample_type": "order.create", "headers": f"X-Stored: {MASK}\r\nX-New: canary", "route": route["id"]}
    page = await preview(app, entered)
    head = previewed(page)[1]
    assert f"X-Stored: {MASK}\nX-New: {MASK}" in head
    for secret in ("geheim", "canary", route["verification_key"], PLACEHOLDER_KEY.text):
        assert secret not in page.html
    assert "the signatures are made with a placeholder key" in page.text
    (unknown,) = problems_on(await preview(app, entered | {"route": ""}))
    assert "stands for a stored value, and there is none" in unknown


async def test_a_long_body_is_shown_by_its_beginning(app: App) -> None:
    event = json.dumps({"type": "a.b", "data": {"text": "x" * 200_000}})
    page = await preview(app, {"sample_event": event})
    assert "195.4 KiB. Only its beginning is shown." in page.text
    assert len(page.all("pre")[0].get_text()) == MAX_CHARACTERS


async def test_unknown_webhooks_and_those_of_others_are_not_previewed(app: App) -> None:
    await add_types(app, "order.create")
    foreign, deleted = await app.route("globex", headers={"X-A": "b"}), await app.route()
    await app.ask("DELETE", path(deleted))
    for route_id in (foreign["id"], deleted["id"], "00000000-0000-0000-0000-000000000000", "x"):
        page = await preview(app, {"sample_type": "order.create", "headers": f"X-A: {MASK}", "route": route_id})
        assert page.status == 404
        assert "There is no such webhook." in page.text


async def test_too_many_previews_are_put_off_for_this_tenant(app: App) -> None:
    await add_types(app, "order.create")
    app.client.app[TENANT_LIMITS]._allowances = {RateLimit.PREVIEW: Allowance(burst=2, per_second=0.01)}
    answers = [await preview(app, {"sample_type": "order.create"}) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert "<html" not in answers[2].html
    assert f"try again in {answers[2].headers['Retry-After']} s" in answers[2].text
    assert 0 < int(answers[2].headers["Retry-After"]) <= 100
    assert (await preview(app, {"sample_type": "order.create"}, "globex")).status == 200


async def test_everything_that_is_pasted_is_escaped(app: App) -> None:
    event = json.dumps({"type": "a.b", "data": {HOSTILE: HOSTILE}})
    for fields in (
        {"sample_event": event, "target_url": HOSTILE},
        {"sample_event": HOSTILE},
        {"sample_type": HOSTILE},
        {"sample_event": event, "payload.filter": HOSTILE, "payload.snapshot": f"{HOSTILE}: a: b", "headers": HOSTILE},
    ):
        page = await preview(app, fields)
        assert page.status == 200
        assert page.all("script") == []


# ---- the target ----


async def test_a_good_target_is_said_to_be_one(app: App) -> None:
    page = await verdict(app, f" {TARGET} ")
    assert "<html" not in page.html
    assert page.words(".verdict-ok") == [
        "This target may be used. The address behind the name is checked again before each request."
    ]
    assert page.all(".verdict-warn") == []


async def test_where_requests_really_go_is_said_if_it_is_written_otherwise(app: App) -> None:
    page = await verdict(app, "HTTPS://Bücher.Example.com:443/a b".replace(" ", "%20"))
    assert page.words(".verdict-ok code") == ["https://xn--bcher-kva.example.com/a%20b"]


@pytest.mark.parametrize("case", [case for case in CASES if case["stage"] == "register" and "policy" not in case][::6],
                         ids=lambda case: str(case["id"]))  # fmt: skip
async def test_a_target_that_must_not_be_is_refused_with_the_reason(app: App, case: dict[str, Any]) -> None:
    url = str(case["url"])
    page = await verdict(app, url)
    if url.strip() != url:  # blanks around a field are removed
        assert page.all(".verdict-ok")
        return
    assert page.words(".verdict strong") == ["This target cannot be used."]
    assert page.words(".verdict-bad")[0].endswith(".")
    assert page.all(".verdict-ok") == []


async def test_the_verdict_is_by_the_operators_rules(empty_url: str) -> None:
    async with app(empty_url, egress__allow_http="true", egress__ports="8080") as opened:
        assert (await verdict(opened, "http://shop.example.com:8080/")).all(".verdict-ok")
        assert "Port 443 is not allowed here (8080)" in (await verdict(opened, TARGET)).text


async def test_before_anything_is_typed_there_is_no_verdict(app: App) -> None:
    for url in ("", "  "):
        page = await verdict(app, url)
        assert (page.status, page.text) == (200, "")


async def test_other_webhooks_with_the_same_target_are_named(app: App) -> None:
    one = await app.route(name="Orders")
    assert (await verdict(app, TARGET)).words(".verdict-warn") == [
        "Orders already sends there: the server would receive an event from each of them."
    ]
    assert (await verdict(app, TARGET, route=one["id"])).all(".verdict-warn") == []
    await app.route(name="Carts", enabled=False)
    assert "Orders, Carts already send there" in (await verdict(app, TARGET)).text
    for name in ("Third", "Fourth", "Fifth"):
        await app.route(name=name)
    assert "Orders, Carts, Third and 2 more already send there" in (await verdict(app, TARGET)).text


async def test_webhooks_that_are_deleted_elsewhere_or_anothers_are_not_named(app: App) -> None:
    await app.route("globex", name="Theirs")
    await app.route(name="Elsewhere", target_url="https://other.example.com/")
    await app.ask("DELETE", path(await app.route(name="Gone")))
    assert (await verdict(app, TARGET)).all(".verdict-warn") == []


async def test_names_and_targets_are_only_text(app: App) -> None:
    await app.route(name=HOSTILE)
    page = await verdict(app, TARGET)
    assert HOSTILE in page.text
    assert page.all("script") == []
    assert (await verdict(app, f"https://{HOSTILE}/")).all("script") == []


async def test_a_reader_gets_neither(app: App) -> None:
    headers = PART | bearer(await token(app.database, "auditor:acme"))
    for where in (PREVIEW, VERDICT):
        assert (await post(app, where, {"target_url": TARGET}, headers=headers)).status == 403
