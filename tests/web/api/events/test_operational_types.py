"""Operational types are offered to those tenants that may get events of them, and to no other."""

from __future__ import annotations

from daemon.catalogue import add_operational
from daemon.operations import OF_INSTALLATION, OF_WEBHOOKS
from eventstore.domain_events import catalogue
from tests.support.web import pages
from tests.support.web.application import App, app
from tests.support.web.sessions import browser
from tests.support.web.tokens import bearer, token

TYPES = "/v1/event-types"
ALL = OF_WEBHOOKS | OF_INSTALLATION


async def names(opened: App, scope: str | None = None) -> set[str]:
    headers = {} if scope is None else bearer(await token(opened.database, scope))
    answer = await opened.ask("GET", f"{TYPES}?limit=200", headers=headers)
    return {each["name"] for each in answer.json["items"]}


async def shown(opened: App, tenant: str) -> set[str]:
    """What its catalogue, the form of a webhook and the filters of its log offer it."""
    await opened.route(tenant)
    log = await pages.get(opened, f"/t/{tenant}/deliveries", headers=await browser(opened, tenant))
    listed = await pages.get(opened, f"/t/{tenant}/event-types")
    form = await pages.get(opened, f"/t/{tenant}/webhooks/new")
    found = {name for name in ALL if name in listed.text}
    assert found == {name for name in ALL if name in form.html} == {name for name in ALL if name in log.html}
    for name in ALL:
        assert (await pages.get(opened, f"/t/{tenant}/event-types/{name}")).status == (200 if name in found else 404)
    return found


async def test_without_telling_tenants_the_operators_tenant_alone_is_offered_them(empty_url: str) -> None:
    async with app(empty_url, operations__tenant="ops") as opened:
        await add_operational(opened.database, ALL)
        assert await names(opened) == await names(opened, "tenant:ops") == ALL
        assert await names(opened, "tenant:acme") == set()
        assert await shown(opened, "ops") == ALL
        assert await shown(opened, "acme") == set()


async def test_tenants_that_are_told_are_offered_those_of_webhooks(empty_url: str) -> None:
    async with app(empty_url, operations__tell_tenants="true") as opened:
        await add_operational(opened.database, ALL)
        assert await names(opened, "tenant:acme") == await shown(opened, "acme") == OF_WEBHOOKS


async def test_an_entry_that_an_operator_has_edited_is_left_alone(app: App) -> None:
    mine = {"name": "hookledger.sealed", "description": "Ours.", "example": {"data": {}}}
    await app.ask("PUT", TYPES, {"event_types": [mine]})
    await add_operational(app.database, ALL)
    rows = {row.name: row.description for row in (await catalogue.entries(app.database))[1]}
    assert rows.keys() == ALL
    assert rows["hookledger.sealed"] == "Ours."


async def test_a_new_catalogue_keeps_those_that_it_does_not_name(empty_url: str) -> None:
    """A platform puts its own types with each release, and knows nothing of ours."""
    async with app(empty_url, operations__tenant="ops") as opened:
        await add_operational(opened.database, ALL)
        own = [{"name": "a.b", "example": {}}, {"name": "hookledger.sealed", "description": "Ours.", "example": {}}]
        await opened.ask("PUT", TYPES, {"event_types": own})
        assert await names(opened) == {"a.b", *ALL}
        asked = await pages.post(opened, "/operator/event-types/list", {"types": ["[]"]})
        assert asked.status == 200
        assert asked.words(".facts dt") == ["Gone"]
        assert asked.words(".facts .tag") == ["a.b"]
        await pages.post(opened, "/operator/event-types/hookledger.sealed/remove", {"opened": [await mark(opened)]})
        assert await names(opened) == {"a.b", *ALL} - {"hookledger.sealed"}


async def mark(opened: App) -> str:
    """What the form to remove an entry was opened with."""
    page = await pages.get(opened, "/operator/event-types/hookledger.sealed/remove")
    return str(page.one("input[name=opened]")["value"])


async def test_pages_of_types_lead_past_those_that_are_not_offered(empty_url: str) -> None:
    async with app(empty_url) as opened:
        own = [{"name": f"{group}.x", "example": {}} for group in ("a", "i", "z")]
        await opened.ask("PUT", TYPES, {"event_types": own})
        await add_operational(opened.database, ALL)
        theirs, found, query = bearer(await token(opened.database, "tenant:acme")), [], "?limit=1"
        while query:
            page = (await opened.ask("GET", TYPES + query, headers=theirs)).json
            found += [item["name"] for item in page["items"]]
            query = f"?limit=1&cursor={page['next']}" if page["next"] else ""
        assert found == ["a.x", "i.x", "z.x"]
