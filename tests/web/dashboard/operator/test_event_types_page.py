"""The catalogue of event types: operators find, add, edit and remove types, also two operators at once."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence

import pytest

from daemon.core.events.catalogue import MAX_TYPES, TypeDraft
from daemon.web.service.events import catalogue_edits
from eventstore.domain_events import catalogue
from eventstore.domain_events.catalogue import TypeRow
from eventstore.postgres.connect import Database
from tests.support.web.application import App, app, path
from tests.support.web.pages import Page, get, post

PLACE = "/operator/event-types"
HOSTILE = '"><script>alert(1)</script>{{ 7*7 }}'
EXAMPLE = {"data": {"total": "1.10"}, "context": {}, "snapshot": {}}


async def add_types(opened: App, *names: str, description: str = "It happens.") -> None:
    await opened.services.catalogue.replace(
        [TypeDraft(name=name, description=description, example=EXAMPLE) for name in names]
    )


async def stored(opened: App) -> dict[str, str]:
    """Descriptions by name."""
    return {each.name: each.description for each in (await catalogue.entries(opened.database))[1]}


async def send(opened: App, where: str, fields: Mapping[str, str]) -> Page:
    """Opens the form, fills it in and sends it."""
    page = await get(opened, where)
    assert page.status == 200, page.text
    return await post(opened, where, {**page.form_data(), **fields})


def listed_names(page: Page) -> list[str]:
    return page.words(".type-rows li code")


def wrong_fields(page: Page) -> list[str]:
    places = [str(link["href"]).removeprefix("#") for link in page.all(".notice-bad a")]
    assert [str(each["id"]) for each in page.all(".wrong")] == [f"{place}-wrong" for place in dict.fromkeys(places)]
    assert all(page.one(f"#{place}")["aria-invalid"] == "true" for place in places)
    return places


# ---- the list ----


async def test_an_empty_catalogue_says_what_it_is_for_and_takes_the_sample(app: App) -> None:
    page = await get(app, PLACE)
    assert page.words(".empty h2") == ["The catalogue is empty"]
    button = page.one(".empty form button")
    done = await post(app, str(page.one(".empty form")["action"]), {str(button["name"]): str(button["value"])})
    assert (done.status, done.location) == (303, f"{PLACE}?done=types_replaced")
    loaded = await get(app, PLACE)
    assert "order.create" in listed_names(loaded)
    assert loaded.all(".empty") == []


async def test_types_stand_in_their_groups_with_those_that_events_had(app: App) -> None:
    await add_types(app, "order.create", "cart.create")
    await catalogue.note_seen(app.database, ["order.odd", "order.create"])
    page = await get(app, PLACE)
    assert page.words(".type-rows h2") == ["cart", "order"]
    assert listed_names(page) == ["cart.create", "order.create", "order.odd"]
    assert page.words(".type-rows li:last-child .muted")[1].startswith("Seen in events, not in the catalogue.")
    assert (
        "2 of at most 1,000 types in the catalogue; 1 more that events had. Events of other types are taken as well."
        in page.text
    )
    adding = await get(app, str(page.one(".type-rows .muted a")["href"]))
    assert adding.form_data()["name"] == ["order.odd"]


async def test_types_are_found_by_name_description_and_group(app: App) -> None:
    await add_types(app, "order.create", "cart.create", "cart.empty")
    await app.services.catalogue.replace([
        TypeDraft(name="order.create", description="Somebody buys.", example={}),
        TypeDraft(name="cart.create", description="A basket is taken.", example={}),
        TypeDraft(name="cart.empty", description="", example={}),
    ])  # fmt: skip
    for query, names in (
        ("q=CREATE", ["cart.create", "order.create"]),
        ("q=buys", ["order.create"]),
        ("group=cart", ["cart.create", "cart.empty"]),
        ("group=cart&q=create", ["cart.create"]),
        ("group=", ["cart.create", "cart.empty", "order.create"]),
    ):
        page = await get(app, f"{PLACE}?{query}")
        assert listed_names(page) == names, query
    assert "1 type found" in (await get(app, f"{PLACE}?q=buys")).text
    assert "No description yet." in (await get(app, f"{PLACE}?q=empty")).text
    none = await get(app, f"{PLACE}?q=<b>nowhere")
    assert none.words(".empty h2") == ["No type fits"]
    assert none.one("#q")["value"] == "<b>nowhere"


async def test_a_long_catalogue_has_pages_and_long_descriptions_are_cut(app: App) -> None:
    names = [f"group_{n // 30}.n{n:03}" for n in range(150)]
    await add_types(app, *names, description="word " * 60)
    first = await get(app, f"{PLACE}?q=n")
    second = await get(app, str(first.one("a[rel=next]")["href"]))
    assert listed_names(first) + listed_names(second) == names
    assert [link["href"] for link in second.all(".pager a")] == [f"{PLACE}?q=n"]
    assert max(len(text) for text in first.words(".type-rows .muted")) <= 160
    assert len(first.html.encode()) < 100_000


async def test_very_many_groups_have_no_list_but_the_search(app: App) -> None:
    await add_types(app, *(f"group_{n}.create" for n in range(40)))
    assert len((await get(app, PLACE)).all("#group option")) == 41
    await add_types(app, *(f"group_{n}.create" for n in range(41)))
    page = await get(app, PLACE)
    assert page.all("#group") == []
    assert page.one("#q")["name"] == "q"


async def test_where_types_are_strict_it_says_what_that_means(empty_url: str) -> None:
    async with app(empty_url, events__strict_types="true") as strict:
        await add_types(strict, "order.create")
        assert "events of a type that is not in the catalogue are refused" in (await get(strict, PLACE)).text
        removal = await get(strict, f"{PLACE}/order.create/remove")
        assert "Types are strict: events of this type are refused from then on." in removal.text


# ---- adding ----


async def test_a_type_is_added_with_its_example(app: App) -> None:
    await add_types(app, "cart.create")
    fields = {
        "name": " order.create ",
        "description": " An order\r\nis placed. ",
        "example": '{"data": {"total": 1.10}}',
    }
    page = await send(app, f"{PLACE}/new", fields)
    assert (page.status, page.location) == (303, f"{PLACE}?done=type_added")
    assert await stored(app) == {"cart.create": "It happens.", "order.create": "An order\nis placed."}
    row = await catalogue.entry(app.database, "order.create")
    assert row is not None
    assert json.loads(row.example) == {"data": {"total": 1.1}, "context": {}, "snapshot": {}}
    assert "order.create" in (await get(app, "/t/acme/webhooks/new")).text


async def test_an_example_may_be_left_out(app: App) -> None:
    assert (await send(app, f"{PLACE}/new", {"name": "order.create", "example": " "})).status == 303
    assert (await send(app, f"{PLACE}/new", {"name": "order.pay"})).status == 303
    assert set(await stored(app)) == {"order.create", "order.pay"}


@pytest.mark.parametrize(
    ("fields", "wrong", "message"),
    [
        ({"name": "Order"}, ["name"], "Must be object.action in lower case"),
        ({"name": ""}, ["name"], "Must be object.action in lower case"),
        ({"name": "cart.create"}, ["name"], "Is in the catalogue already: edit it there."),
        ({"description": "x" * 1001}, ["description"], "Has 1001 characters, 1000 are allowed."),
        ({"description": "a\0b"}, ["description"], "Must not contain control characters: remove U+0000."),
        ({"example": "{"}, ["example"], "Is not valid JSON: "),
        ({"example": "[1]"}, ["example"], "Must be a JSON object."),
        ({"example": '{"dta": {}}'}, ["example"], "dta: is not a field of this request: did you mean data?"),
        ({"example": '{"data": []}'}, ["example"], "data: must be an object"),
        ({"example": '{"data": {}, "data": {}}'}, ["example"], "data: is given more than once"),
        ({"example": '{"data": {"x": "%s"}}' % ("y" * 65536)}, ["example"], "are allowed"),
        ({"name": "a", "description": "x" * 1001, "example": "{"}, ["name", "description", "example"], "Is not valid JSON"),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_reported_at_its_field_and_the_input_is_kept(
    app: App, fields: dict[str, str], wrong: list[str], message: str
) -> None:
    await add_types(app, "cart.create")
    page = await send(app, f"{PLACE}/new", {"name": "order.create", **fields})
    assert page.status == 422
    assert wrong_fields(page) == wrong
    assert message.lower() in " ".join(page.words(".wrong")).lower()
    entered = page.form_data()
    for name, text in fields.items():
        assert entered[name] == [text], name
    assert set(await stored(app)) == {"cart.create"}


async def test_a_full_catalogue_takes_no_more(app: App) -> None:
    await add_types(app, *(f"a.n{n}" for n in range(MAX_TYPES)), description="")
    page = await send(app, f"{PLACE}/new", {"name": "order.create"})
    assert page.status == 422
    assert "the catalogue has 1000 types, which is all it takes" in page.text
    assert len(await stored(app)) == MAX_TYPES


# ---- editing, also by two operators ----


async def test_a_type_is_edited_and_the_others_stay(app: App) -> None:
    await add_types(app, "cart.create", "order.create")
    where = f"{PLACE}/order.create"
    page = await get(app, where)
    assert page.words("h1") == ["order.create"]
    assert json.loads(page.form_data()["example"][0]) == EXAMPLE
    assert page.all("#name") == []
    done = await post(app, where, {**page.form_data(), "description": "Somebody buys."})
    assert (done.status, done.location) == (303, f"{PLACE}?done=type_saved")
    assert await stored(app) == {"cart.create": "It happens.", "order.create": "Somebody buys."}


async def test_two_at_different_types_do_not_disturb_each_other(app: App) -> None:
    await add_types(app, "cart.create", "order.create")
    opened = {name: (await get(app, f"{PLACE}/{name}")).form_data() for name in ("cart.create", "order.create")}
    for name, fields in opened.items():
        done = await post(app, f"{PLACE}/{name}", {**fields, "description": f"Mine of {name}"})
        assert done.status == 303
    assert await stored(app) == {name: f"Mine of {name}" for name in opened}


async def test_the_second_of_two_at_the_same_type_sees_the_change_and_may_save(app: App) -> None:
    await add_types(app, "order.create")
    where = f"{PLACE}/order.create"
    mine = (await get(app, where)).form_data() | {"description": ["Mine"]}
    theirs = (await get(app, where)).form_data() | {"description": ["Theirs"]}
    assert (await post(app, where, theirs)).status == 303

    page = await post(app, where, mine)
    assert page.status == 409
    assert "Somebody else has changed this type since you opened it." in page.words(".notice-warn")[0]
    assert page.words(".notice-warn .whole p") == ["Theirs"]
    assert page.form_data()["description"] == ["Mine"]
    assert page.words(".actions .primary") == ["Save it anyway"]
    assert await stored(app) == {"order.create": "Theirs"}
    assert (await post(app, where, page.form_data())).status == 303
    assert await stored(app) == {"order.create": "Mine"}


async def test_errors_are_reported_before_a_change_by_somebody_else(app: App) -> None:
    await add_types(app, "order.create")
    where = f"{PLACE}/order.create"
    mine = (await get(app, where)).form_data() | {"example": ["{"]}
    await add_types(app, "order.create", description="Theirs")
    wrong = await post(app, where, mine)
    assert (wrong.status, wrong_fields(wrong)) == (422, ["example"])
    assert (await post(app, where, {**wrong.form_data(), "example": "{}"})).status == 409
    assert await stored(app) == {"order.create": "Theirs"}


async def test_a_form_that_does_not_say_what_it_was_opened_with_replaces_nothing(app: App) -> None:
    await add_types(app, "order.create")
    for opened in ("", "x", HOSTILE):
        page = await post(app, f"{PLACE}/order.create", {"description": "Mine", "opened": opened, "example": "{}"})
        assert page.status == 409
    assert (await post(app, f"{PLACE}/order.create/remove", {})).status == 409
    assert await stored(app) == {"order.create": "It happens."}


async def test_a_type_that_was_taken_out_meanwhile_cannot_be_saved(app: App) -> None:
    await add_types(app, "order.create")
    mine = (await get(app, f"{PLACE}/order.create")).form_data()
    await add_types(app)
    page = await post(app, f"{PLACE}/order.create", mine)
    assert page.status == 404
    assert "This event type was taken out of the catalogue meanwhile." in page.text
    for name in ("order.create", "new.", "%00", "a%00b", "é", "x" * 5000):
        assert (await get(app, f"{PLACE}/{name}")).status == 404, name


@pytest.mark.parametrize("conflicts", [1, catalogue_edits.ATTEMPTS])
async def test_a_catalogue_that_changes_in_the_same_moment_is_read_again(
    app: App, monkeypatch: pytest.MonkeyPatch, conflicts: int
) -> None:
    await add_types(app, "cart.create")
    fields = (await get(app, f"{PLACE}/new")).form_data() | {"name": ["order.create"]}
    replace, others = catalogue.replace, [f"other.n{n}" for n in range(conflicts)]
    theirs = [TypeRow(name="cart.create", description="", example="{}")]

    async def contested(database: Database, rows: Sequence[TypeRow], *, edition: int, kept: Collection[str]) -> None:
        if others:  # somebody else adds a type first
            theirs.append(TypeRow(name=others.pop(), description="", example="{}"))
            await replace(database, theirs)
        await replace(database, rows, edition=edition, kept=kept)

    monkeypatch.setattr(catalogue, "replace", contested)
    page = await post(app, f"{PLACE}/new", fields)
    if conflicts < catalogue_edits.ATTEMPTS:
        assert page.status == 303
        assert set(await stored(app)) == {each.name for each in theirs} | {"order.create"}
    else:
        assert page.status == 409
        assert "The catalogue is being changed by many others right now: try again." in page.text
        assert set(await stored(app)) == {each.name for each in theirs}


# ---- removing ----


async def test_before_a_type_is_removed_it_says_whom_that_concerns(app: App) -> None:
    await add_types(app, "order.create")
    where = f"{PLACE}/order.create/remove"
    assert "No webhook is subscribed to it." in (await get(app, where)).text
    await app.route("acme", event_types=["order.create"])
    await app.route("acme", event_types=["order.*", "cart.*"], enabled=False)
    await app.route("globex", event_types=["*", "order.create"])
    await app.route("globex", event_types=["orders.*", "order.create.now"])
    await app.ask("DELETE", path(await app.route("gone")))
    page = await get(app, where)
    assert "3 webhooks of 2 tenants get it: 2 by its name, 1 with its group or with everything." in page.text
    assert "Events of this type are still taken and delivered." in page.text
    assert "2 webhooks name this type, 1 more gets it" in (await get(app, f"{PLACE}/order.create")).text


async def test_a_type_is_removed_and_webhooks_stay_subscribed(app: App) -> None:
    await add_types(app, "cart.create", "order.create")
    route = await app.route(event_types=["order.create"])
    page = await send(app, f"{PLACE}/order.create/remove", {})
    assert (page.status, page.location) == (303, f"{PLACE}?done=type_removed")
    assert set(await stored(app)) == {"cart.create"}
    assert (await app.ask("GET", path(route))).json["event_types"] == ["order.create"]
    assert (await post(app, f"{PLACE}/order.create/remove", {"opened": "x"})).status == 303


async def test_a_type_that_somebody_changed_meanwhile_is_not_removed_unseen(app: App) -> None:
    await add_types(app, "order.create")
    where = f"{PLACE}/order.create/remove"
    mine = (await get(app, where)).form_data()
    await add_types(app, "order.create", description="Theirs")
    page = await post(app, where, mine)
    assert page.status == 409
    assert "Somebody else has changed this type since you opened it. It is still there." in page.text
    assert set(await stored(app)) == {"order.create"}
    assert (await post(app, where, page.form_data())).status == 303
    assert await stored(app) == {}


async def test_descriptions_and_examples_are_only_text(app: App) -> None:
    await app.services.catalogue.replace(
        [TypeDraft(name="order.create", description=HOSTILE, example={"data": {HOSTILE: "</textarea><script>"}})]
    )
    entered = {"name": HOSTILE, "description": HOSTILE, "example": HOSTILE}
    for page in (
        await get(app, PLACE),
        await get(app, f"{PLACE}/order.create"),
        await get(app, f"{PLACE}/new?name={HOSTILE.replace('{', '%7B')}"),
        await post(app, f"{PLACE}/new", entered),
        await post(app, f"{PLACE}/order.create", {**entered, "example": "{}"}),
    ):
        assert page.status in (200, 409, 422)
        assert len(page.all("script")) == 1
        assert "alert(1)" in page.text or "alert(1)" in str(page.form_data())
