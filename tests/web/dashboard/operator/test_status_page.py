"""The status page: first the warnings, then the numbers. tests/web/api/operator/test_status.py tests which warnings there are."""

from __future__ import annotations

import asyncpg

from daemon import __version__
from eventstore.domain_events.events import SHARDS
from tests.support.rows.healths import noted, wait
from tests.support.web.application import App, app, path
from tests.support.web.pages import BROWSER, PART, Page, get, get_all
from tests.support.web.tokens import bearer, token

PLACE = "/operator/status"

# A live process that owns every shard but one, a shard that lags by two hours, and a silent process.
FURNISHED = """
SELECT hookledger.make_tick();
INSERT INTO hookledger.process (owner, host, pid, version, master_key, seen_at)
VALUES ('here:1:a', 'here', 1, '0.1.0', '', clock_timestamp()),
       ('<b>there</b>', '<b>there</b>', 2, '0.0.9', '', clock_timestamp() - interval '1 h');
UPDATE hookledger.lease SET owner = 'here:1:a', epoch = 2, expires_at = clock_timestamp() + interval '1 h' WHERE shard <> 3;
INSERT INTO hookledger.retry (route_id, seq, recorded_at, event_time, tick, shard, failures, due_at, tenant)
VALUES (gen_random_uuid(), 1, now() - interval '90 s', now(), 1, 3, 1, now(), 'acme');
"""


def tiles(page: Page) -> dict[str, str]:
    return dict(zip(page.words(".tiles dt"), page.words(".tiles dd"), strict=True))


def shard(page: Page, number: int) -> list[str]:
    """Owner, retrying, parked and epoch."""
    cells = page.words(f"tbody tr:nth-child({number + 1}) > *")
    assert cells[0] == str(number)
    return [cells[2], *cells[4:]]


async def furnish(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute(FURNISHED)
    await connection.close()


async def test_a_new_installation_says_that_no_process_delivers(database_url: str) -> None:
    async with app(database_url) as opened:
        page = await get(opened, PLACE)
    assert page.status == 200
    assert page.words(".notice-warn strong") == ["This needs a person:"]
    assert page.words(".notice-warn li") == [f"Nobody delivers for shards {', '.join(map(str, range(SHARDS)))}."]
    assert page.words("tbody .pill-bad") == ["Nobody"] * SHARDS
    assert tiles(page) | {"Longest lag": ""} == {
        "Longest lag": "", "Retrying": "0", "Parked": "0", "Oldest waiting": "none", "Events": "0.0 a second", "Requests": "0.0 a second",
        "Webhooks": "0 enabled, 0 disabled",
    }  # fmt: skip
    assert "No process has reported yet." in page.text
    assert "nothing was published yet" in page.text


async def test_warnings_come_first_and_then_the_numbers(database_url: str) -> None:
    async with app(database_url) as opened:
        await opened.route()
        await opened.ask("POST", path(await opened.route(), "/disable"))
        await opened.ask("POST", "/v1/events", {"tenant": "acme", "type": "order.create", "data": {}})
        await furnish(database_url)
        page = await get(opened, PLACE)
    assert page.words(".notice-warn strong") == ["These need a person:"]
    first, second = page.words(".notice-warn li")
    assert first == "Nobody delivers for shard 3."
    assert second.startswith("Process 2 on <b>there</b> was last seen at 20")
    assert page.all("main b") == []
    found = tiles(page)
    assert (found["Retrying"], found["Parked"], found["Webhooks"]) == ("1", "0", "1 enabled, 1 disabled")
    assert found["Oldest waiting"] == "1 min"
    assert shard(page, 3) == ["Nobody", "1", "0", "0"]
    assert shard(page, 4) == ["here:1:a", "0", "0", "2"]
    assert sorted(page.words(".processes .pill")) == ["Alive", "Silent"]
    assert f"process 1 on here, {SHARDS - 1} shards." in page.text
    assert "tick 1, made " in page.text
    assert "3 events, applied up to 3" in page.text
    assert "count until the last of these is sent: it is at most so many." in page.text
    assert __version__ in page.words(".facts dd")


async def test_without_warnings_it_says_so(database_url: str) -> None:
    async with app(database_url) as opened:
        await furnish(database_url)
        await opened.rows("DELETE FROM hookledger.process WHERE pid = 2")
        await opened.rows(
            "UPDATE hookledger.lease SET owner = 'here:1:a', expires_at = clock_timestamp() + interval '1 h'"
        )
        await opened.rows("DELETE FROM hookledger.retry")
        page = await get(opened, PLACE)
    assert page.words(".notice-ok") == [
        "Nothing needs a person. Every shard has an owner and keeps up, and no webhook fails."
    ]
    assert page.all(".notice-warn") == []


async def test_the_numbers_alone_are_a_part_that_is_polled(database_url: str) -> None:
    async with app(database_url) as opened:
        page = await get(opened, PLACE)
        part = await get(opened, PLACE, headers=PART)
    assert page.one("[data-poll]")["data-poll"] == PLACE
    assert "<html" not in part.html
    assert part.words("th[scope=row]") == page.words("th[scope=row]") == [str(number) for number in range(SHARDS)]
    assert part.headers["Cache-Control"] == "no-store"


async def test_an_auditor_of_all_may_look_and_one_of_a_tenant_may_not(app: App) -> None:
    for scope, status in (("auditor", 200), ("auditor:acme", 403)):
        headers = BROWSER | bearer(await token(app.database, scope))
        assert (await get(app, PLACE, headers=headers)).status == status


async def test_without_the_database_it_says_what_that_means(database_url: str) -> None:
    async with app(database_url) as opened:
        await opened.disconnect()
        page = await get(opened, PLACE)
    assert page.status == 503
    assert page.words("h1") == ["The database does not answer"]
    assert "Nothing is lost: events that were accepted are stored" in page.text
    assert page.headers["Retry-After"]


async def test_a_part_that_cannot_be_read_is_named_and_takes_no_other_with_it(database_url: str) -> None:
    holder = await asyncpg.connect(database_url)
    async with app(database_url) as opened:
        await furnish(database_url)
        await holder.execute("BEGIN; LOCK TABLE hookledger.route_recent")
        page = await get(opened, PLACE)
        await holder.execute("ROLLBACK")
    await holder.close()
    assert page.status == 200
    assert page.words(".notice-warn li")[-1].startswith("What is done in a second cannot be read now: PostgreSQL at ")
    assert "Nothing needs a person" not in page.text
    assert (tiles(page)["Retrying"], "Requests" in tiles(page)) == ("1", False)


async def test_webhooks_that_fail_are_shown_over_all_tenants_worst_first(app: App) -> None:
    down, failing = await app.route("acme", name="Orders"), await app.route("globex", name="Stock")
    await noted(app, failing, state="failing", failures=1)
    await noted(app, down)
    await wait(app, down, parked_pairs=3)
    for place in (PLACE, "/operator/failing"):
        page = await get(app, place)
        assert page.words("#failing-webhooks tbody th a") == ["Orders", "Stock"]
        assert page.words("#failing-webhooks td[data-label='Tenant']") == ["acme", "globex"]
        assert page.words("#failing-webhooks td[data-label='Last answer']") == ["500 Internal Server Error"] * 2
        assert page.words("#failing-webhooks td[data-label='Waiting']") == ["3", "0"]
        assert page.words("#failing-webhooks td[data-label='Next probe']")[1] == "nothing waits"
    page = await get(app, PLACE)
    assert "Nothing needs a person" not in page.text
    assert "2 webhooks fail, and nothing gets through to 1 of them." in page.text
    tenants = await get(app, "/operator")
    assert tenants.words("#tenants td[data-label='Failing']") == ["1", "1"]


async def test_shards_are_folded_while_they_are_well(app: App) -> None:
    await app.rows("UPDATE hookledger.lease SET owner = 'here:1:a', expires_at = clock_timestamp() + interval '1 h'")
    page = await get(app, PLACE)
    assert page.words("details > summary")[0] == "All 16 shards have an owner and keep up"
    assert not page.all("#status details[open]")
    await app.rows("UPDATE hookledger.lease SET expires_at = '-infinity' WHERE shard = 3")
    assert (await get(app, PLACE)).all("#status details[open]")


async def test_the_list_of_those_that_fail_has_pages_and_an_end(app: App) -> None:
    assert "Every webhook does well" in (await get(app, "/operator/failing")).text
    for _ in range(51):
        await noted(app, await app.route())
    found = [
        each for page in await get_all(app, "/operator/failing") for each in page.all("#failing-webhooks tbody tr")
    ]
    assert len(found) == 51
