"""Path and query: everything that is wrong with them is in one answer, for each endpoint that declares them."""

from __future__ import annotations

import pytest

from daemon.web.http.endpoints import Declaration, declared
from tests.support.web.application import App, path

NO_VALUE = {
    "limit": ("0", "must be a number from 1 to 200"),
    "cursor": ("!", "is not a cursor of this API: use next as it was given"),
    "status": ("nonsense", "must be "),
    "interval": ("nonsense", "must be day or hour"),
    "as_of": ("yesterday", "must be an RFC 3339 time"),
    "since": ("yesterday", "must be an RFC 3339 time"),
    "until": ("2026-02-30T00:00:00Z", "must be an RFC 3339 time"),
    "type": ("No Type", "must be object.action"),
}

LISTS = ["/v1/tenants", "/v1/tokens", "/v1/event-types"]


def declarations(app: App) -> dict[str, Declaration]:
    """The endpoints of GET that have such parameters, by path."""
    found = {}
    for route in app.client.app.router.routes():
        declaration = declared(route.handler)
        assert route.resource is not None
        if route.method == "GET" and declaration and any(each.name in NO_VALUE for each in declaration.query):
            found[route.resource.canonical] = declaration
    return found


async def test_each_parameter_of_each_endpoint_is_told_if_it_is_wrong(app: App) -> None:
    made = await app.route()
    places = declarations(app)
    assert set(places) >= {*LISTS, "/v1/tenants/{tenant}/routes", "/v1/tenants/{tenant}/deliveries"}
    for template, declaration in places.items():
        given = {each.name: NO_VALUE[each.name][0] for each in declaration.query if each.name in NO_VALUE}
        where = template.format(tenant="acme", route=made["id"])
        answer = await app.ask("GET", where, params=given | {"another": "1"})
        assert answer.status == 422, where
        missing = {each.name for each in declaration.query if each.is_required}
        assert answer.errors.keys() == given.keys() | missing | {"another"}, where
        for name in given:
            assert answer.errors[name].startswith(NO_VALUE[name][1]), (where, name)


async def test_the_tenant_is_told_along_with_the_query(app: App) -> None:
    answer = await app.ask("GET", "/v1/tenants/%00/routes?limit=x&status=so&statsu=enabled")
    assert answer.errors.keys() == {"tenant", "limit", "status", "statsu"}
    assert answer.errors["statsu"] == "is not a query parameter of this path: did you mean status?"


async def test_what_is_missing_is_told_along_with_the_rest(app: App) -> None:
    answer = await app.ask("GET", "/v1/tenants/acme/explain?limit=0")
    assert answer.errors.keys() == {"event", "limit"}


@pytest.mark.parametrize("limit", ["1", "200", "007"])
async def test_numbers_are_taken_as_they_are_written(app: App, limit: str) -> None:
    assert (await app.ask("GET", f"/v1/tenants/acme/routes?limit={limit}")).status == 200


@pytest.mark.parametrize(
    "limit", ["", "0", "201", "-1", "1.0", "1e2", "\N{ARABIC-INDIC DIGIT ONE}", "0001", "1" * 5000]
)
async def test_other_numbers_are_not(app: App, limit: str) -> None:
    made = await app.route()
    answer = await app.ask("GET", path(made, "/history"), params={"limit": limit})
    assert answer.errors == {"limit": "must be a number from 1 to 200"}
