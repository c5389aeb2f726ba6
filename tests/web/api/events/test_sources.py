"""Sources of events in the API and on the pages: how far they are, what was refused, which message an event was."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from eventstore.leases import process as processes
from eventstore.postgres.connect import Database
from eventstore.sources import positions, standing
from eventstore.sources.positions import MessageBatch, Refusal
from tests.support.values.builders import NOON, new_event, process
from tests.support.web import pages
from tests.support.web.application import App
from tests.support.web.tokens import bearer, token

REFUSALS = "/operator/refusals"


@pytest_asyncio.fixture(loop_scope="session")
async def taken(app: App) -> AsyncIterator[Database]:
    """An installation that has taken two messages of three, and refused the other; it waits for two more."""
    database = app.database
    await positions.begin(database, "shop", {("orders", 0): 10})
    position = (await positions.read(database, "shop", ["orders"]))["orders", 0]
    refused = [Refusal(offset=11, reason="no JSON", message_at=NOON, key=b"k\xff", value=b"{")]
    events = [new_event(id="e1"), new_event(id="e2")]
    batch = MessageBatch(partition_id=position.id, begin=10, end=13, events=events, offsets=[10, 12], refusals=refused)
    await positions.take(database, batch)
    await processes.heartbeat(database, process("here:1:a"), {})
    await standing.report(database, "shop", "here:1:a", None)
    await standing.own(database, "here:1:a", {position.id: 15})
    yield database


async def test_the_status_shows_partitions_owners_and_lag(app: App, taken: Database) -> None:
    shown = (await app.ask("GET", "/v1/status")).json
    (partition,) = shown["sources"]["partitions"]
    assert partition.pop("began_at") <= partition.pop("moved_at")
    assert partition == {
        "source": "shop", "topic": "orders", "partition": 0, "owner": "here:1:a", "first_offset": 10, "next_offset": 13,
        "lag": 2, "events": 2, "repeated": 0, "refused": 1, "filtered": 0, "absent": 0, "fault": None,
    }  # fmt: skip
    ((member,), count) = (shown["sources"]["members"], shown["sources"]["refusals"])
    assert ((member["source"], member["owner"], member["fault"]), count) == (("shop", "here:1:a", None), 1)


async def test_what_keeps_a_source_from_being_taken_is_a_warning(app: App, taken: Database) -> None:
    position = (await positions.read(taken, "shop", ["orders"]))["orders", 0]
    await standing.report(taken, "shop", "here:1:a", "no broker answers")
    await positions.stop(taken, position, "it went back")
    warnings = (await app.ask("GET", "/v1/status")).json["warnings"]
    assert "source shop: no broker answers" in warnings
    assert "source shop, orders 0: it went back" in warnings


async def test_refused_messages_are_listed_with_reason_place_and_beginning(app: App, taken: Database) -> None:
    (refusal,) = (await app.ask("GET", "/v1/sources/refusals")).json["items"]
    assert refusal.pop("at") > "2026"
    assert refusal == {
        "source": "shop", "topic": "orders", "partition": 0, "offset": 11, "upto": None, "reason": "no JSON",
        "message_at": "2024-02-29T12:00:00.000000Z", "key": "k\N{REPLACEMENT CHARACTER}", "beginning": "{", "size_bytes": 1,
    }  # fmt: skip


async def test_the_list_of_refused_messages_has_pages(app: App, taken: Database) -> None:
    position = (await positions.read(taken, "shop", ["orders"]))["orders", 0]
    refused = [Refusal(offset=n, reason="r", message_at=None, key=None, value=None) for n in range(13, 18)]
    await positions.take(taken, MessageBatch(partition_id=position.id, begin=13, end=18, refusals=refused))
    found: list[int] = []
    cursor = ""
    while True:
        page = (await app.ask("GET", f"/v1/sources/refusals?limit=2{cursor}")).json
        found += [each["offset"] for each in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert sorted(found) == [11, 13, 14, 15, 16, 17]
    answer = await app.ask("GET", "/v1/sources/refusals?cursor=MS4y")
    assert (answer.status, list(answer.errors)) == (422, ["cursor"])


async def test_an_event_shows_which_message_it_was_to_those_of_the_platform(app: App, taken: Database) -> None:
    path = "/v1/tenants/acme/events/e2"
    place = {"source": "shop", "topic": "orders", "partition": 0, "offset": 12}
    assert (await app.ask("GET", path)).json["message"] == place
    page = (await app.ask("GET", "/t/acme/events/e2", headers={"Accept": "text/html"})).text
    assert "12 of orders, partition 0" in page
    merchant = bearer(await token(app.database, "tenant:acme"))
    assert "message" not in (await app.ask("GET", path, headers=merchant)).json


async def test_an_event_that_was_no_message_says_nothing_of_one(app: App, taken: Database) -> None:
    await app.ask("POST", "/v1/events", {"tenant": "acme", "id": "plain", "type": "order.create", "data": {}})
    assert "message" not in (await app.ask("GET", "/v1/tenants/acme/events/plain")).json


async def test_the_status_page_shows_sources_if_there_are_any(app: App, taken: Database) -> None:
    page = (await app.ask("GET", "/operator/status", headers={"Accept": "text/html"})).text
    assert "Sources of events" in page
    assert "1 refused" in page


async def test_a_page_lists_what_was_refused_and_says_how_to_take_it_again(app: App, taken: Database) -> None:
    position = (await positions.read(taken, "shop", ["orders"]))["orders", 0]
    await positions.pass_gap(taken, position, end=15, reason="Kafka deleted 2 messages")
    page = await pages.get(app, REFUSALS)
    assert page.words("#refusals th[scope=row]") == ["shop orders 0, 13 to 14", "shop orders 0, 11"]
    assert page.words("#refusals td[data-label=Reason]") == ["Kafka deleted 2 messages", "no JSON"]
    assert page.words("#refusals td[data-label='Begins with']") == [
        "Kafka has deleted it", "Key k\N{REPLACEMENT CHARACTER} {",
    ]  # fmt: skip
    assert page.words("main p code") == ["hookledger sources retry shop"]
    status = await pages.get(app, "/operator/status")
    assert [link["href"] for link in status.all("section[aria-labelledby=sources] a")] == [REFUSALS]


async def test_the_page_of_refused_messages_leads_to_the_older_ones(app: App, taken: Database) -> None:
    position = (await positions.read(taken, "shop", ["orders"]))["orders", 0]
    refused = [Refusal(offset=n, reason="r", message_at=None, key=None, value=None) for n in range(13, 73)]
    await positions.take(taken, MessageBatch(partition_id=position.id, begin=13, end=73, refusals=refused))
    found = [each for page in await pages.get_all(app, REFUSALS) for each in page.words("#refusals th[scope=row]")]
    assert sorted(found) == sorted(f"shop orders 0, {n}" for n in (11, *range(13, 73)))
    assert "This is the end" not in (await pages.get(app, f"{REFUSALS}?after=MS4y")).text


async def test_without_refused_messages_the_page_says_so(app: App) -> None:
    assert "No message was refused" in (await pages.get(app, REFUSALS)).text


async def test_the_status_page_says_nothing_of_sources_without_any(app: App) -> None:
    page = (await app.ask("GET", "/operator/status", headers={"Accept": "text/html"})).text
    assert "Sources of events" not in page
