"""The page of API tokens: a new token is shown once, and each can be revoked."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest

from daemon.web.dashboard.operator.tokens import LIVES
from tests.support.rows.credentials import authenticate
from tests.support.web.application import App, app
from tests.support.web.pages import BROWSER, Page, get, post
from tests.support.web.tokens import bearer, id_in, token

PLACE = "/operator/tokens"
HOSTILE = '"><script>alert(1)</script>{{ 7*7 }}'


def text_on(page: Page) -> str:
    """The token that the page shows."""
    assert page.status == 200, page.text
    return str(page.one('pre[aria-label="Token"]').get_text()).strip()


def rows(page: Page) -> list[list[str]]:
    """Name with id, scope and state of each listed token."""
    count = len(page.all("#tokens tbody tr"))
    return [page.words(f"#tokens tbody tr:nth-child({n}) > :nth-child(-n+3)") for n in range(1, count + 1)]


async def create(opened: App, **fields: str) -> Page:
    """Opens the page, fills in the form and sends it."""
    return await post(opened, PLACE, {**(await get(opened, PLACE)).form_data("#new-token"), **fields})


async def expiry_of(opened: App, text: str) -> datetime | None:
    (row,) = await opened.rows("SELECT expires_at FROM hookledger.api_token WHERE id = $1", id_in(text))
    found: datetime | None = row["expires_at"]
    return found


async def test_without_tokens_it_says_what_they_are_for(app: App) -> None:
    page = await get(app, PLACE)
    assert page.words(".empty h2") == ["No tokens yet"]
    assert [str(each["value"]) for each in page.all("input[name=scope]")] == [
        "producer",
        "tenant",
        "auditor",
        "metrics",
        "admin",
    ]
    assert page.form_data("#new-token") == {
        "name": [""], "scope": ["producer"], "tenant": [""], "expires": ["90d"], "expires_other": [""],
    }  # fmt: skip


async def test_a_token_is_shown_once_and_works(empty_url: str) -> None:
    async with app(empty_url, server__admin_token="correct horse") as guarded:
        operator = BROWSER | bearer("correct horse")
        fields = {"name": " Shop backend ", "scope": "producer", "tenant": "acme", "expires": "30d"}
        page = await post(guarded, PLACE, fields, headers=operator)
        text = text_on(page)
        assert page.words("h1") == ["Copy the token now"]
        assert f"Authorization: Bearer {text}" in page.text
        assert (page.words("dd"))[:2] == ["Shop backend", "producer:acme"]
        assert page.headers["Cache-Control"] == "no-store"
        left = (await expiry_of(guarded, text) or datetime.max.replace(tzinfo=UTC)) - datetime.now(UTC)
        assert timedelta(days=29, hours=23) < left <= timedelta(days=30)
        event = {"type": "order.create", "data": {}}
        assert (await guarded.ask("POST", "/v1/events", event, headers=bearer(text))).status == 202

        listed = await get(guarded, PLACE, headers=operator)
        assert rows(listed) == [[f"Shop backend {id_in(text)}", "producer:acme", rows(listed)[0][2]]]
        assert rows(listed)[0][2].startswith("Active until ")
        assert text not in listed.html
        assert text.rpartition("_")[2] not in listed.html


@pytest.mark.parametrize(
    ("fields", "scope"),
    [
        ({"scope": "admin"}, "admin"),
        ({"scope": "metrics"}, "metrics"),
        ({"scope": "tenant", "tenant": " acme "}, "tenant:acme"),
        ({"scope": "auditor"}, "auditor"),
        ({"scope": "auditor", "tenant": "acme"}, "auditor:acme"),
    ],
)
async def test_each_kind_can_be_made(app: App, fields: dict[str, str], scope: str) -> None:
    text = text_on(await create(app, **fields))
    assert rows(await get(app, PLACE))[0][1] == scope
    answer = await app.ask("GET", "/v1/session", headers=bearer(text))
    assert answer.json["scope"] == scope


@pytest.mark.parametrize(
    ("fields", "life"),
    [
        ({"expires": "never"}, None),
        ({"expires": "365d"}, timedelta(days=365)),
        ({"expires": "other", "expires_other": " 12h "}, timedelta(hours=12)),
        ({"expires": "30d", "expires_other": "12h"}, timedelta(days=30)),
    ],
)
async def test_it_lives_as_long_as_was_chosen(app: App, fields: dict[str, str], life: timedelta | None) -> None:
    page = await create(app, **fields)
    expires_at = await expiry_of(app, text_on(page))
    if life is None:
        assert expires_at is None
        assert "never; it is good until it is revoked" in page.text
    else:
        assert expires_at is not None
        assert timedelta(0) <= datetime.now(UTC) + life - expires_at < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("fields", "wrong", "message"),
    [
        ({"scope": ""}, {"scope"}, "Is not known"),
        ({"scope": "adm"}, {"scope"}, "Is not known: did you mean admin?"),
        ({"scope": "tenant"}, {"tenant"}, "Is missing: name the tenant that it stands for."),
        ({"scope": "metrics", "tenant": "acme"}, {"tenant"}, "Must be left out: metrics stands for no tenant."),
        ({"tenant": "two words"}, {"tenant"}, "Must be 1 to 128 printable ASCII characters"),
        ({"expires": "other", "expires_other": "soon"}, {"expires"}, "Must be a time like 2027-01-31T08:00:00Z, a date, or a span like 30d."),
        ({"expires": "other", "expires_other": "2020-01-01"}, {"expires"}, "Is over already."),
        ({"expires": "other"}, {"expires"}, "Must be a time like"),
        ({"name": "a\u0007"}, {"name"}, "Must not contain control characters: remove U+0007."),
        ({"name": "x" * 201, "scope": "x", "expires": "2020-01-01"}, {"name", "scope", "expires"}, "Is over already."),
    ],
)  # fmt: skip
async def test_what_is_wrong_is_reported_at_its_field_and_the_input_is_kept(
    app: App, fields: dict[str, str], wrong: set[str], message: str
) -> None:
    page = await create(app, **({"name": "Shop"} | fields))
    assert page.status == 422
    assert {str(each["id"]) for each in page.all(".wrong")} == {f"{name}-wrong" for name in wrong}
    assert {str(link["href"]) for link in page.all(".notice-bad a")} == {f"#{name}" for name in wrong}
    assert all(page.one(f"#{name}")["aria-invalid"] == "true" for name in wrong)
    assert message in " ".join(page.words(".wrong"))
    entered = page.form_data("#new-token")
    for name in fields.keys() & {"name", "tenant", "expires_other"}:
        assert entered[name] == [fields[name]]
    assert page.words("#expires [selected]") == [
        LIVES[each] for each in [fields.get("expires", "90d")] if each in LIVES
    ]
    assert await app.rows("SELECT id FROM hookledger.api_token") == []


async def test_the_newest_come_first_and_a_long_list_has_pages(app: App) -> None:
    texts = [await token(app.database, "metrics", name=f"token {number:02}") for number in range(52)]
    first = await get(app, PLACE)
    second = await get(app, str(first.one("a[rel=next]")["href"]))
    names = [row[0].split()[1] for row in rows(first) + rows(second)]
    assert names == [f"{number:02}" for number in reversed(range(52))]
    assert [link["href"] for link in second.all(".pager a")] == [PLACE]
    past_the_end = str(first.one("a[rel=next]")["href"])
    await app.rows("DELETE FROM hookledger.api_token WHERE id = ANY($1::text[])", [id_in(text) for text in texts[:2]])
    assert (await get(app, past_the_end)).words(".empty h2") == ["No older tokens"]


async def test_an_address_that_no_page_has_given_out_leads_to_the_beginning(app: App) -> None:
    for after in ("eA", "MjAyNi0wMS0wMVQwMDowMDowMFogeA"):  # "x", and a moment without an id
        page = await get(app, f"{PLACE}?after={after}")
        assert (page.status, page.location) == (303, PLACE)
    for after in ("", "%00", "!"):
        assert (await get(app, f"{PLACE}?after={after}")).status == 200


async def test_a_token_is_revoked_after_a_confirmation(app: App) -> None:
    text = await token(app.database, "producer:acme", name="Old shop")
    place = f"{PLACE}/{id_in(text)}/revoke"
    assert (await get(app, PLACE)).one("#tokens a")["href"] == place
    assert (await app.ask("GET", "/v1/session", headers=bearer(text))).status == 200

    page = await get(app, place)
    assert page.words("h1") == ["Revoke “Old shop”?"]
    assert "producer:acme" in page.words("dd")
    assert "answered with 401" in page.text
    done = await post(app, place, page.form_data("main form"))
    assert (done.status, done.location) == (303, f"{PLACE}?done=token_revoked")
    assert (await app.ask("GET", "/v1/session", headers=bearer(text))).status == 401

    listed = await get(app, done.location)
    assert "nothing it is shown to lets it in any more" in listed.words("[data-notice]")[0]
    assert rows(listed)[0][2].startswith("Revoked ")
    assert listed.all("#tokens a") == []
    again = await get(app, place)
    assert again.words("h1") == ["“Old shop” opens nothing any more"]
    assert "This token was revoked" in again.text
    assert again.all("main form") == []
    assert (await post(app, place)).status == 303


async def test_it_says_if_somebody_depends_on_a_token(app: App) -> None:
    text = await token(app.database, "metrics")
    place = f"{PLACE}/{id_in(text)}/revoke"
    assert "depends on it" not in (await get(app, place)).text
    await app.rows("UPDATE hookledger.api_token SET last_used_at = now() - interval '3 h' WHERE id = $1", id_in(text))
    page = await get(app, place)
    assert "3 h ago: somebody depends on it" in page.text
    assert page.words("h1") == [f"Revoke “{id_in(text)}”?"]


async def test_one_that_has_expired_says_so_and_cannot_be_ended_again(app: App) -> None:
    text = await token(app.database, "metrics", name="Old", expires="1h")
    await app.rows(
        "UPDATE hookledger.api_token SET created_at = now() - interval '2 h', expires_at = now() - interval '1 h'"
    )
    async with app.database.connection() as connection:
        await authenticate(connection)
    assert rows(await get(app, PLACE))[0][2].startswith("Expired since ")
    page = await get(app, f"{PLACE}/{id_in(text)}/revoke")
    assert "This token has expired 1 h ago. There is nothing to do." in page.text
    assert page.all("main form") == []


async def test_a_token_that_is_not_there_is_no_page(app: App) -> None:
    text = await token(app.database, "metrics")
    for token_id in ("0" * 12, "x", "..%2f..", "%00", text):
        for page in (await get(app, f"{PLACE}/{token_id}/revoke"), await post(app, f"{PLACE}/{token_id}/revoke")):
            assert page.status == 404
            assert "There is no such token." in page.text
            assert text not in page.html
    assert (await app.ask("GET", "/v1/session", headers=bearer(text))).status == 200


async def test_names_are_only_text(app: App) -> None:
    made = await create(app, name=HOSTILE)
    token_id = id_in(text_on(made))
    wrong = await create(app, name=HOSTILE, tenant=HOSTILE, expires=HOSTILE, expires_other=HOSTILE)
    for page in (made, wrong, await get(app, PLACE), await get(app, f"{PLACE}/{token_id}/revoke")):
        assert len(page.all("script")) == 1
        assert HOSTILE in page.html.replace("&lt;", "<").replace("&gt;", ">").replace("&#34;", '"')


async def test_operators_get_the_words_of_their_other_pages(app: App) -> None:
    assert not re.search(r"\baccounts?\b", (await get(app, PLACE)).text)
