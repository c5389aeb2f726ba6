"""The live tail of the log of deliveries: which messages an EventSource gets, and when the stream ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import ClientResponse
from bs4 import BeautifulSoup

from daemon import deliveries
from daemon.deliveries import DeliveryFilter
from daemon.web.dashboard.logs import live
from eventstore import domain_events
from eventstore.postgres.errors import StoreUnavailable
from tests.support.rows.recorded import recorded
from tests.support.until import until
from tests.support.values.builders import new_event
from tests.support.web import pages, sessions
from tests.support.web.application import Answer, App
from tests.support.web.application import app as opened_door
from tests.support.web.tokens import bearer, id_in, token

LOG = "/t/acme/deliveries"
HOSTILE = '"><script>alert(1)</script>{{ 7*7 }}'

# What a stream without news sends: an event that page.js hears.
HEARTBEAT = "event: heartbeat\ndata: still here\n\n"
# Time to wait for a message that should come at once.
SECONDS = 10

EVENT_SOURCE = {"Accept": "text/event-stream", "Sec-Fetch-Site": "same-origin"}


async def publish_events(app: App, *ids: str, **more: Any) -> None:
    await domain_events.publish(app.database, [new_event(id=each, **more) for each in ids])


class Tail:
    """The stream that an EventSource reads."""

    def __init__(self, response: ClientResponse) -> None:
        self.response = response

    async def hear(self) -> str | None:
        """The next message or heartbeat; None at the end of the stream."""
        async with asyncio.timeout(SECONDS):
            block = await self.response.content.readuntil(b"\n\n")
        return block.decode() or None

    async def end(self) -> None:
        """Reads to the end of the stream."""
        async with asyncio.timeout(SECONDS):
            while await self.hear() is not None:
                pass

    async def message(self) -> BeautifulSoup:
        """The next message."""
        async with asyncio.timeout(SECONDS):
            while (heard := await self.hear()) is not None and heard == HEARTBEAT:
                pass
        assert heard is not None
        lines = heard.splitlines()
        assert all(line.startswith("data: ") for line in lines[:-1]), lines
        return BeautifulSoup("\n".join(line.removeprefix("data: ") for line in lines), "html.parser")


@asynccontextmanager
async def listening(app: App, query: str = "", *, headers: Mapping[str, str] = EVENT_SOURCE) -> AsyncIterator[Tail]:
    async with app.client.get(f"{LOG}/live{query}", headers=headers) as response:
        assert response.status == 200, await response.text()
        yield Tail(response)


async def refused(app: App, query: str = "", *, headers: Mapping[str, str] = EVENT_SOURCE) -> Answer:
    """The answer to a listener who is refused."""
    async with asyncio.timeout(SECONDS):
        return await app.ask("GET", f"{LOG}/live{query}", headers=headers)


def heard_ids(part: BeautifulSoup) -> list[str]:
    return [each.get_text() for each in part.select(".row-id")]


@pytest.fixture
def fast_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads the log again at once, with a heartbeat after each read."""
    monkeypatch.setattr(live, "POLL_SECONDS", 0.005)
    monkeypatch.setattr(live, "HEARTBEAT_SECONDS", 0.0)


@pytest.fixture
def single_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads the log once, with a heartbeat, and not again during the test."""
    monkeypatch.setattr(live, "POLL_SECONDS", 1000.0)
    monkeypatch.setattr(live, "HEARTBEAT_SECONDS", 0.0)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[deliveries.DeliveryFilter]:
    """The filters by which the log was read, in order."""
    found: list[deliveries.DeliveryFilter] = []
    page = deliveries.page

    async def record_read(
        database: Any, index: Any, delivery_filter: deliveries.DeliveryFilter, **more: Any
    ) -> deliveries.DeliveryPage:
        found.append(delivery_filter)
        return await page(database, index, delivery_filter, **more)

    monkeypatch.setattr(deliveries, "page", record_read)
    return found


async def test_a_listener_gets_the_newest_at_once_and_again_after_a_change(
    app: App, fast_polling: None, reads: list[deliveries.DeliveryFilter]
) -> None:
    await app.route()
    await publish_events(app, "e1")
    async with listening(app) as tail:
        assert tail.response.headers["Content-Type"] == "text/event-stream"
        assert heard_ids(await tail.message()) == ["e1"]
        for _ in range(3):
            assert await tail.hear() == HEARTBEAT
        assert len(reads) > 1
        await publish_events(app, "e2")
        assert heard_ids(await tail.message()) == ["e2", "e1"]


async def test_a_change_of_what_is_listed_already_is_news_too(app: App, fast_polling: None) -> None:
    it = await recorded(app)
    async with listening(app) as tail:
        assert "Not tried yet" in (await tail.message()).get_text()
        await it.record(it.row("delivered"))
        assert "200 OK" in (await tail.message()).get_text()


async def test_only_what_fits_the_filter_is_news(app: App, fast_polling: None) -> None:
    await app.route()
    async with listening(app, "?type=order.pay") as tail:
        assert "No delivery fits" in (await tail.message()).get_text()
        await publish_events(app, "other", type="order.create")
        for _ in range(5):
            assert await tail.hear() == HEARTBEAT
        await publish_events(app, "wanted", type="order.pay")
        assert heard_ids(await tail.message()) == ["wanted"]


async def test_live_rows_are_those_of_the_page(app: App, single_read: None) -> None:
    await app.route(name=HOSTILE)
    await publish_events(app, HOSTILE)
    page = await pages.get(app, f"{LOG}?live=1")
    async with listening(app) as tail:
        part = await tail.message()
    assert part.select("script") == []
    assert heard_ids(part) == [HOSTILE]
    rows = [" ".join(each.get_text().split()) for each in part.select("tr")]
    assert rows == [" ".join(each.get_text().split()) for each in page.all("#rows tr")]


async def test_a_silent_log_is_heard_from_now_and_then(
    app: App, reads: list[deliveries.DeliveryFilter], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy would close an idle connection; yet not every read sends a heartbeat."""
    monkeypatch.setattr(live, "POLL_SECONDS", 0.005)
    monkeypatch.setattr(live, "HEARTBEAT_SECONDS", 0.3)
    await app.route()
    async with listening(app) as tail:
        await tail.message()
        before = len(reads)
        assert await tail.hear() == HEARTBEAT
        assert len(reads) > before + 1


async def test_however_many_listen_a_filter_is_read_once(
    app: App, single_read: None, reads: list[deliveries.DeliveryFilter]
) -> None:
    await app.route()
    await publish_events(app, "e1")
    async with listening(app) as one, listening(app) as two, listening(app, "?status=failed") as three:
        assert heard_ids(await one.message()) == heard_ids(await two.message()) == ["e1"]
        await three.message()
        assert [each.status for each in reads] == [None, "failed"]
        (feed,) = [
            each for delivery_filter, each in app.client.app[live.FEEDS]._open.items() if delivery_filter.status is None
        ]
        assert feed.listeners == 2
        await publish_events(app, "e2")
        async with listening(app) as late:
            assert heard_ids(await late.message()) == ["e1"]  # it was read less than a second ago
        feed._read_at -= live.POLL_SECONDS
        async with listening(app) as later, listening(app) as last:
            assert heard_ids(await later.message()) == heard_ids(await last.message()) == ["e2", "e1"]
        assert [each.status for each in reads] == [None, "failed", None]


async def test_an_unavailable_database_is_not_read_more_often(
    app: App, single_read: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[None] = []

    async def fails(*_: Any, **__: Any) -> deliveries.DeliveryPage:
        calls.append(None)
        raise StoreUnavailable("gone")

    await app.route()
    monkeypatch.setattr(deliveries, "page", fails)
    async with listening(app) as one, listening(app) as two:
        assert await one.hear() == await two.hear() == HEARTBEAT
    assert calls == [None]


async def test_once_the_database_answers_again_so_does_the_tail(
    app: App, fast_polling: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    await app.route()
    await publish_events(app, "e1")
    page, failures = deliveries.page, iter(range(3))

    async def fails_at_first(*given: Any, **more: Any) -> deliveries.DeliveryPage:
        if next(failures, None) is not None:
            raise StoreUnavailable("gone")
        return await page(*given, **more)

    monkeypatch.setattr(deliveries, "page", fails_at_first)
    async with listening(app) as tail:
        assert await tail.hear() == HEARTBEAT
        assert heard_ids(await tail.message()) == ["e1"]


async def test_a_listener_who_leaves_is_forgotten(app: App, fast_polling: None) -> None:
    await app.route()
    feeds = app.client.app[live.FEEDS]
    async with listening(app) as tail:
        await tail.message()
        assert len(feeds._open) == 1
        tail.response.close()
        await until(lambda: not feeds._open)


async def test_too_many_listeners_are_sent_away_until_one_leaves(
    app: App, fast_polling: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MAX_LISTENERS", 2)
    await app.route()
    feeds = app.client.app[live.FEEDS]
    async with listening(app) as one, listening(app, "?status=failed"):
        answer = await refused(app)
        assert (answer.status, answer.headers["Retry-After"]) == (503, "30")
        assert answer.json["detail"] == "too many are following live now: refresh the page instead"
        one.response.close()
        await until(lambda: sum(feed.listeners for feed in feeds._open.values()) == 1)
        async with listening(app) as next_one:
            await next_one.message()


async def test_one_tenant_cannot_take_all_of_the_capacity(
    app: App, fast_polling: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "MAX_LISTENERS_OF_TENANT", 1)
    await app.route()
    await app.route("globex")
    feeds = app.client.app[live.FEEDS]
    async with listening(app):
        assert (await refused(app)).status == 503
        with feeds.listening(DeliveryFilter(tenant="globex")) as feed:
            assert feed.listeners == 1


async def test_a_listener_ends_after_some_minutes(
    app: App, monkeypatch: pytest.MonkeyPatch, fast_polling: None
) -> None:
    monkeypatch.setattr(live, "MAX_STREAM_SECONDS", 0.05)
    await app.route()
    async with listening(app) as tail:
        await tail.message()
        await tail.end()


async def test_when_the_process_stops_listeners_end_at_once_and_none_begins(app: App, single_read: None) -> None:
    await app.route()
    async with listening(app) as tail:
        await tail.message()
        await app.client.app.shutdown()
        assert await tail.hear() is None
    assert (await refused(app)).status == 503


async def test_it_ends_with_the_token_of_the_listener(
    app: App, fast_polling: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "CHECK_SECONDS", 0.0)
    await app.route()
    text = await token(app.database, "auditor:acme")
    async with listening(app, headers=EVENT_SOURCE | bearer(text)) as tail:
        await tail.message()
        assert await tail.hear() == HEARTBEAT
        assert (await app.ask("DELETE", f"/v1/tokens/{id_in(text)}")).status == 204
        await tail.end()


async def test_it_ends_with_the_session_of_the_listener(
    empty_url: str, fast_polling: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "CHECK_SECONDS", 0.0)
    async with opened_door(empty_url, server__admin_token="correct horse battery staple") as app:
        browser = await sessions.browser(app, "acme")
        async with listening(app, headers=browser | EVENT_SOURCE) as tail:
            await tail.message()
            assert await tail.hear() == HEARTBEAT
            assert (await pages.post(app, "/logout", headers=browser)).status == 303
            await tail.end()
        assert (await refused(app, headers=browser | EVENT_SOURCE)).status == 401


async def test_a_filter_that_is_wrong_cannot_be_followed(app: App) -> None:
    await app.route()
    answer = await refused(app, "?status=lost&since=x")
    assert (answer.status, sorted(answer.errors)) == (422, ["since", "status"])


async def test_a_client_that_is_no_event_source_gets_the_newest_rows_once(app: App) -> None:
    await app.route()
    await publish_events(app, "e1", type="order.pay")
    await publish_events(app, "e2")
    part = await pages.get(app, f"{LOG}/live?type=order.pay", headers=pages.PART)
    assert part.status == 200
    assert "<html" not in part.html
    assert part.words(".row-id") == ["e1"]


async def test_a_head_request_gets_no_rows(app: App) -> None:
    """On a kept-alive connection the rows would be taken for the next answer."""
    await publish_events(app, "e1")
    async with asyncio.timeout(SECONDS):
        answer = await app.ask("HEAD", f"{LOG}/live", headers=EVENT_SOURCE)
    assert answer.status == 200
    assert answer.headers["Content-Type"].startswith("text/html")
