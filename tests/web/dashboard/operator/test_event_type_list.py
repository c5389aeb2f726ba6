"""Replacing the whole catalogue by a pasted list, which is compared with the present catalogue first."""

from __future__ import annotations

import json
from typing import Any

import pytest

from daemon.catalogue import CatalogueDifference, difference, sample_types
from daemon.core.events.catalogue import MAX_TYPES, TypeDraft
from daemon.web.dashboard.form_data import MAX_BODY_BYTES
from eventstore.domain_events import catalogue
from eventstore.domain_events.catalogue import TypeRow
from tests.support.web.application import App
from tests.support.web.pages import Page, get, post

PLACE = "/operator/event-types/list"
HOSTILE = '"><script>alert(1)</script>{{ 7*7 }}'
OLD = [{"name": "cart.create"}, {"name": "order.create", "description": "It happens."}]
NEW = [{"name": "order.create", "description": "Somebody buys."}, {"name": "order.pay"}]


async def replace_catalogue(opened: App, types: list[dict[str, Any]]) -> None:
    answer = await opened.ask("PUT", "/v1/event-types", {"event_types": types})
    assert answer.status == 200, answer.text


async def stored(opened: App) -> dict[str, str]:
    return {each.name: each.description for each in (await catalogue.entries(opened.database))[1]}


async def compared(opened: App, types: object) -> Page:
    page = await post(opened, PLACE, {"types": json.dumps(types), "intent": "compare"})
    assert page.status == 200, page.text
    return page


async def replaced(opened: App, page: Page) -> Page:
    return await post(opened, PLACE, {**page.form_data(), "intent": "replace"})


def difference_on(page: Page) -> dict[str, str]:
    return dict(zip(page.words("dt"), page.words("dd"), strict=True))


async def test_a_list_is_compared_first_and_then_replaces_the_catalogue(app: App) -> None:
    await replace_catalogue(app, OLD)
    empty = await get(app, PLACE)
    assert "there are 2 types in it now, at most 1,000 fit." in empty.text
    assert empty.words("button") == ["Compare with the catalogue"]
    page = await compared(app, NEW)
    assert difference_on(page) == {"New": "1 order.pay", "Different": "1 order.create", "Gone": "1 cart.create"}
    assert "Webhooks stay subscribed to types that go" in page.text
    assert json.loads(page.form_data()["types"][0]) == NEW
    assert await stored(app) == {"cart.create": "", "order.create": "It happens."}

    done = await replaced(app, page)
    assert (done.status, done.location) == (303, "/operator/event-types?done=types_replaced")
    assert await stored(app) == {"order.create": "Somebody buys.", "order.pay": ""}


async def test_a_list_that_changes_nothing_says_so_and_cannot_replace(app: App) -> None:
    await replace_catalogue(app, OLD)
    page = await compared(app, {"event_types": list(reversed(OLD))})
    assert "Nothing: the catalogue is that list already." in page.text
    assert page.words("main button") == ["Compare again"]


async def test_somebody_who_was_faster_is_not_overruled_unseen(app: App) -> None:
    await replace_catalogue(app, OLD)
    page = await compared(app, NEW)
    await replace_catalogue(app, [{"name": "invoice.pay"}])
    refused = await replaced(app, page)
    assert refused.status == 409
    assert "Somebody else has changed the catalogue meanwhile." in refused.words(".notice-warn")[0]
    assert difference_on(refused) == {"New": "2 order.create order.pay", "Gone": "1 invoice.pay"}
    assert json.loads(refused.form_data()["types"][0]) == NEW
    assert await stored(app) == {"invoice.pay": ""}
    assert (await replaced(app, refused)).status == 303
    assert set(await stored(app)) == {"order.create", "order.pay"}


async def test_what_was_not_compared_replaces_nothing(app: App) -> None:
    await replace_catalogue(app, OLD)
    for edition in ("", "0", "x", "-1", "9" * 30, "1.0", "٣"):
        page = await post(app, PLACE, {"types": json.dumps(NEW), "edition": edition, "intent": "replace"})
        assert page.status == 409
    assert set(await stored(app)) == {"cart.create", "order.create"}


async def test_what_is_typed_after_comparing_counts_when_it_replaces(app: App) -> None:
    await replace_catalogue(app, OLD)
    page = await compared(app, NEW)
    done = await post(app, PLACE, {**page.form_data(), "types": '[{"name": "a.b"}]', "intent": "replace"})
    assert done.status == 303
    assert await stored(app) == {"a.b": ""}


async def test_an_empty_list_empties_the_catalogue_after_it_was_shown_what_goes(app: App) -> None:
    await replace_catalogue(app, OLD)
    page = await compared(app, [])
    assert difference_on(page) == {"Gone": "2 cart.create order.create"}
    assert (await replaced(app, page)).status == 303
    assert await stored(app) == {}


async def test_the_sample_goes_into_an_empty_catalogue_and_into_no_other(app: App) -> None:
    names = {each["name"] for each in json.loads(sample_types())}
    await replace_catalogue(app, OLD)
    refused = await post(app, PLACE, {"intent": "sample"})
    assert refused.status == 409
    assert set(await stored(app)) == {"cart.create", "order.create"}
    await replace_catalogue(app, [])
    assert (await post(app, PLACE, {"intent": "sample"})).status == 303
    assert set(await stored(app)) == names


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (" ", "It is empty: paste a JSON list of event types"),
        ("{", "It is not valid JSON: "),
        ("7", "It must be a JSON object or list"),
        ("[" * 2000 + "]" * 2000, "It is n"),
        ('{"event_type": []}', "event_type is not a field of this request: did you mean event_types?"),
        ('[{"name": "Order"}]', "event_types.0.name must be object.action in lower case"),
        ('[{"name": "a.b"}, {"name": "a.b"}]', "event_types.0.name is given more than once"),
        ('[{"name": "a.b", "name": "a.c"}]', "name is given more than once"),
        ('[{"name": "a.b", "group": "b"}]', "event_types.0.group is the part of the name before the first dot"),
        ('[{"name": "a.b", "example": {"data": 1}}]', "event_types.0.example.data must be an object"),
        (json.dumps([{"name": f"a.n{n}"} for n in range(MAX_TYPES + 1)]), "event_types has too many entries, 1000 are allowed"),
    ],
)  # fmt: skip
async def test_what_is_wrong_with_a_list_is_reported_and_the_list_stays(app: App, text: str, message: str) -> None:
    await replace_catalogue(app, OLD)
    page = await post(app, PLACE, {"types": text, "intent": "replace"})
    assert page.status == 422
    assert page.words(".notice-bad strong") == ["Nothing was changed."]
    assert any(line.startswith(message) for line in page.words(".notice-bad li")), page.words(".notice-bad li")
    assert page.form_data()["types"] == [text]
    assert set(await stored(app)) == {"cart.create", "order.create"}


async def test_the_first_of_very_many_errors_are_reported(app: App) -> None:
    page = await post(app, PLACE, {"types": json.dumps([{"name": "X" * 500}] * 90), "intent": "compare"})
    assert len(page.words(".notice-bad li")) == 20
    assert "first at these of 90 places" in page.text
    assert len(page.html.encode()) < 100_000


async def test_a_list_that_is_too_long_for_a_form_is_refused_in_words(app: App) -> None:
    page = await post(app, PLACE, {"types": "x" * MAX_BODY_BYTES, "intent": "compare"})
    assert page.status == 413
    assert page.words("h1") == ["That is too long"]


async def test_long_lists_of_names_are_shown_by_their_beginning(app: App) -> None:
    page = await compared(app, [{"name": f"a.n{n:03}"} for n in range(200)])
    assert difference_on(page)["New"].startswith("200 a.n000 a.n001")
    assert difference_on(page)["New"].endswith("a.n011 and 188 more")


async def test_everything_that_is_pasted_is_escaped(app: App) -> None:
    for types in (
        HOSTILE,
        json.dumps([{"name": HOSTILE, HOSTILE: 1}]),
        json.dumps([{"name": "a.b", "description": HOSTILE}]),
    ):
        page = await post(app, PLACE, {"types": types, "intent": "compare", "edition": HOSTILE})
        assert page.status in (200, 422)
        assert len(page.all("script")) == 1
        assert page.form_data()["types"] == [types]


def test_types_differ_by_description_and_example_with_its_defaults() -> None:
    before = [
        TypeRow(name="a.same", description="", example='{"data":{},"context":{},"snapshot":{}}'),
        TypeRow(name="b.told", description="before", example='{"data":{},"context":{},"snapshot":{}}'),
        TypeRow(name="c.example", description="", example='{"data":{"x":1},"context":{},"snapshot":{}}'),
        TypeRow(name="d.gone", description="", example="{}"),
    ]
    drafts = [
        TypeDraft(name="e.new", example={}),
        TypeDraft(name="c.example", example={"data": {"x": 2}}),
        TypeDraft(name="b.told", description="after", example={}),
        TypeDraft(name="a.same", example={"snapshot": {}}),
    ]
    assert difference(before, drafts) == CatalogueDifference(
        added=["e.new"], changed=["b.told", "c.example"], removed=["d.gone"]
    )
    assert difference(before[:1], drafts[3:]).is_empty
