"""Neither a create nor an edit accepts a route with a forbidden target, for every recorded case.

The address of a name is checked at each connection, not here: tests/pipeline/sending/test_egress_delivery.py.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.web.application import TARGET, App, app, path
from tests.support.web.pages import get, post

CASES = json.loads((Path(__file__).parents[2] / "data" / "ssrf_cases.json").read_text())
ROUTES = "/v1/tenants/acme/routes"
GOOD = {"name": "shop", "target_url": TARGET, "event_types": ["*"]}


def cases(stage: str, *, with_policy: bool = False) -> list[dict[str, Any]]:
    return [case for case in CASES if case["stage"] == stage and ("policy" in case) is with_policy]


async def refused_in(app: App, found: list[dict[str, Any]]) -> list[int]:
    """The ids of the cases that create and edit both refuse with a message, and that leave no event."""
    route = await app.route()
    events = len(await app.log())
    refused = []
    for case in found:
        changed = {"target_url": case["url"]}
        answers = [await app.ask("POST", ROUTES, GOOD | changed), await app.ask("PATCH", path(route), changed)]
        if all(answer.status == 422 and set(answer.errors) == {"target_url"} for answer in answers):
            refused.append(case["id"])
    assert len(await app.log()) == events
    return refused


async def test_a_target_that_must_not_be_is_refused_in_a_create_and_in_an_edit(app: App) -> None:
    found = cases("register")
    assert await refused_in(app, found) == [case["id"] for case in found]


@pytest.mark.parametrize("case", cases("register", with_policy=True), ids=lambda case: str(case["id"]))
async def test_the_operators_own_networks_decide_before_the_list(empty_url: str, case: dict[str, Any]) -> None:
    settings = {f"egress__{name}": ",".join(nets) for name, nets in case["policy"].items()}
    async with app(empty_url, **settings) as opened:
        assert await refused_in(opened, [case]) == [case["id"]]


async def test_an_edit_that_leaves_the_target_alone_is_not_refused_for_it(empty_url: str) -> None:
    """It may be older than the rules. Each request is held against the rules anyway."""
    target = "http://shop.example.com:9000/hook"
    async with app(empty_url, egress__allow_http="true", egress__ports="9000") as before:
        route = await before.route(target_url=target)
    async with app(empty_url) as opened:
        form = f"/t/acme/webhooks/{route['id']}/edit"
        for changes in ({"name": "one"}, {"name": "two", "target_url": target}):
            edited = await opened.ask("PATCH", path(route), changes)
            assert (edited.status, edited.json["name"], edited.json["target_url"]) == (200, changes["name"], target)
        shown = await opened.ask(
            "POST",
            "/v1/tenants/acme/preview",
            {"route_id": route["id"], "route": {"name": "x"}, "event": {"type": "order.create", "data": {}}},
        )
        assert shown.status == 200, shown.text
        fields = (await get(opened, form)).form_data()
        assert (await post(opened, form, {**fields, "intent": "save", "name": ["three"]})).status == 303
        assert (await opened.ask("GET", path(route))).json["name"] == "three"

        other = target.replace("hook", "other")
        refused = await opened.ask("PATCH", path(route), {"target_url": other})
        assert (refused.status, set(refused.errors)) == (422, {"target_url"})
        assert (await post(opened, form, {**fields, "intent": "save", "target_url": [other]})).status == 409
        fields = (await get(opened, form)).form_data()
        assert (await post(opened, form, {**fields, "intent": "save", "target_url": [other]})).status == 422


async def test_a_name_is_registered_wherever_it_leads_and_kept_as_it_will_be_requested(app: App) -> None:
    for case in cases("resolve"):
        made = await app.ask("POST", ROUTES, GOOD | {"target_url": case["url"]})
        assert made.status == 201, (case, made.text)
        again = await app.ask("PATCH", path(made.json), {"target_url": made.json["target_url"]})
        assert again.json["target_url"] == made.json["target_url"]
        assert again.json["version"] == 1
        assert made.json["target_url"].isascii()


async def test_a_refusal_does_not_repeat_what_may_be_a_secret(app: App) -> None:
    for url in (
        "https://user:canary@shop.example.com/",
        "http://shop.example.com/?token=canary",
        "https://a.com/#canary",
    ):
        answer = await app.ask("POST", ROUTES, GOOD | {"target_url": url})
        assert answer.status == 422
        assert "canary" not in answer.text
