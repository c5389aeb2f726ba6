"""How many routes a tenant may have, and how often it may change them; the administrator is exempt."""

from __future__ import annotations

import asyncio
import re
from collections import Counter

import pytest

from daemon.commands import limits
from tests.support.web.application import TARGET, Answer, app, path
from tests.support.web.pages import get, post
from tests.support.web.sessions import browser
from tests.support.web.tokens import bearer, token

ROUTES = "/v1/tenants/acme/routes"
BODY = {"name": "a route", "target_url": TARGET, "event_types": ["*"]}
NEW = "/t/acme/webhooks/new"


async def test_a_tenant_has_no_more_routes_than_it_may_and_is_told_count_limit_and_key(empty_url: str) -> None:
    async with app(empty_url, limits__routes_per_tenant="2") as opened:
        mine = bearer(await token(opened.database, "tenant:acme"))
        theirs = bearer(await token(opened.database, "tenant:globex"))
        made = [await opened.ask("POST", ROUTES, BODY, headers=mine) for _ in range(3)]
        assert [answer.status for answer in made] == [201, 201, 409]
        assert "acme has 2 routes" in made[2].json["detail"]
        assert "limits.routes_per_tenant allows 2" in made[2].json["detail"]
        assert (await opened.ask("POST", "/v1/tenants/globex/routes", BODY, headers=theirs)).status == 201
        assert (await opened.ask("DELETE", path(made[0].json), headers=mine)).status == 204
        assert [(await opened.ask("POST", ROUTES, BODY, headers=mine)).status for _ in range(2)] == [201, 409]
        assert (await opened.ask("POST", ROUTES, BODY)).status == 201, "the administrator is exempt"


async def test_creations_at_the_same_moment_do_not_pass_the_limit(empty_url: str) -> None:
    async with app(empty_url, limits__routes_per_tenant="3") as opened, app(empty_url) as other:
        mine = bearer(await token(opened.database, "tenant:acme"))
        other.services.commands._executor._quota = opened.services.commands._executor._quota
        doors = (opened, other)
        answers = await asyncio.gather(*(doors[n % 2].ask("POST", ROUTES, BODY, headers=mine) for n in range(12)))
        assert Counter(answer.status for answer in answers) == {201: 3, 409: 9}
        assert len(await opened.log()) == 3


async def test_the_form_says_which_limit_was_reached_and_keeps_what_was_typed(empty_url: str) -> None:
    async with app(empty_url, limits__routes_per_tenant="1") as opened:
        await opened.route()
        merchant = await browser(opened, "acme")
        fields = (await get(opened, NEW, headers=merchant)).form_data()
        entered: dict[str, str | list[str]] = {
            "name": "Typed in",
            "target_url": TARGET,
            "event_types": ["*"],
            "intent": "save",
        }
        page = await post(opened, NEW, {**fields, **entered}, headers=merchant)
        assert page.status == 409
        assert page.words(".notice-bad li") == [
            "There is 1 webhook here, and no more than 1 may be: delete one that is not needed."
        ]
        assert page.one("input[name=name]")["value"] == "Typed in"


async def test_the_limits_do_not_hold_for_the_administrator_in_the_dashboard_either(empty_url: str) -> None:
    async with app(empty_url, limits__routes_per_tenant="1", limits__commands_per_minute="1") as opened:
        await opened.route()
        operator = await browser(opened, None)
        for name in ("one", "more"):
            fields = (await get(opened, NEW, headers=operator)).form_data()
            entered: dict[str, str | list[str]] = {"name": name, "target_url": TARGET, "event_types": ["*"]}
            page = await post(opened, NEW, {**fields, **entered, "intent": "save"}, headers=operator)
            assert page.status == 303, page.words(".notice-bad")


async def test_commands_beyond_the_rate_are_put_off_and_those_of_others_are_not(empty_url: str) -> None:
    async with app(empty_url, limits__commands_per_minute="3") as opened:
        mine = bearer(await token(opened.database, "tenant:acme"))
        route = (await opened.ask("POST", ROUTES, BODY, headers=mine)).json
        other = await opened.route("globex")
        answers = [
            await opened.ask("POST", path(route, f"/{command}"), headers=mine)
            for command in ("disable", "enable", "disable")
        ]
        assert [answer.status for answer in answers] == [200, 200, 429]
        assert 0 < int(answers[2].headers["Retry-After"]) <= 20
        assert "limits.commands_per_minute allows 3" in answers[2].json["detail"]
        theirs = bearer(await token(opened.database, "tenant:globex"))
        assert (await opened.ask("POST", path(other, "/disable"), headers=theirs)).status == 200
        assert (await opened.ask("POST", path(route, "/disable"))).status == 200, "the administrator is exempt"
        assert (await opened.ask("GET", path(route), headers=mine)).status == 200


async def test_what_the_configurations_of_a_tenant_have_taken_is_limited(
    empty_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every process has all that there ever were, also after it was started anew."""
    monkeypatch.setattr(limits, "MAX_CONFIG_BYTES", 20_000)
    async with app(empty_url) as opened:
        mine = bearer(await token(opened.database, "tenant:acme"))
        theirs = bearer(await token(opened.database, "tenant:globex"))
        route = (await opened.ask("POST", ROUTES, BODY, headers=mine)).json

        async def edited(number: int, headers: dict[str, str]) -> Answer:
            types = [f"of{number}.t{each}" for each in range(100)]
            return await opened.ask("PATCH", path(route), {"event_types": types}, headers=headers)

        answers = [await edited(number, mine) for number in range(4)]
        assert [answer.status for answer in answers] == [200, 200, 200, 409]
        assert "none is ever forgotten" in answers[3].json["detail"]
        assert (await opened.ask("POST", ROUTES, BODY, headers=mine)).status == 409
        assert (await opened.ask("POST", path(route, "/disable"), headers=mine)).status == 200
        assert (await opened.ask("POST", "/v1/tenants/globex/routes", BODY, headers=theirs)).status == 201
        assert (await edited(5, {})).status == 200, "the administrator is exempt"
        merchant = await browser(opened, "acme")
        fields = (await get(opened, NEW, headers=merchant)).form_data()
        entered: dict[str, str | list[str]] = {**fields, "name": "Typed in", "target_url": TARGET, "intent": "save"}
        entered["event_types"] = ["*"]
        page = await post(opened, NEW, entered, headers=merchant)
        assert page.status == 409
        assert page.words(".notice-bad li")[0].startswith("The settings that the webhooks here have had take more than")
        assert page.one("input[name=name]")["value"] == "Typed in"
        assert (await opened.ask("DELETE", path(route), headers=mine)).status == 204
        assert (await opened.ask("POST", ROUTES, BODY, headers=mine)).status == 409


async def test_the_dashboard_puts_commands_off_with_a_sentence(empty_url: str) -> None:
    async with app(empty_url, limits__commands_per_minute="1") as opened:
        route = await opened.route()
        merchant = await browser(opened, "acme")
        page = f"/t/acme/webhooks/{route['id']}"
        statuses = [(await post(opened, f"{page}/{to}", {}, headers=merchant)).status for to in ("disable", "enable")]
        assert statuses == [303, 429]
        edit = (await get(opened, f"{page}/edit", headers=merchant)).form_data()
        late = await post(opened, f"{page}/edit", {**edit, "name": "Typed in", "intent": "save"}, headers=merchant)
        assert late.status == 429
        said = r"There were many changes in a short time, and 1 a minute are allowed: try again in \d+ s\."
        assert re.fullmatch(said, late.words(".notice-bad li")[0])
        refused = await post(opened, f"{page}/enable", {}, headers=merchant)
        assert refused.status == 429
        assert "there were many changes in a short time" in refused.text.lower()
        assert "commands_per_minute" not in refused.text
        assert int(late.headers["Retry-After"]) > 0
        assert late.one("input[name=name]")["value"] == "Typed in"
