"""When too many queries run at once, the rest is refused with a sentence: as a problem, or as a page."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import pytest

from tests.support.postgres.queries import until_waiting
from tests.support.web.application import App, app
from tests.support.web.pages import get

READERS = 24


@asynccontextmanager
async def stuck(opened: App, url: str, *tenants: str) -> AsyncIterator[list[asyncio.Task[int]]]:
    """Lists of deliveries of these tenants that the database does not answer, READERS for each tenant."""
    locking = await asyncpg.connect(url)
    await locking.execute("BEGIN; LOCK TABLE hookledger.attempt")
    readers = [asyncio.create_task(_read(opened, tenant)) for tenant in tenants for _ in range(READERS)]
    await until_waiting(locking, count=2 * len(tenants))
    yield readers
    await locking.execute("ROLLBACK")
    await asyncio.gather(*readers)
    await locking.close()


async def _read(opened: App, tenant: str) -> int:
    return (await opened.ask("GET", f"/v1/tenants/{tenant}/deliveries")).status


async def test_the_slow_reads_of_one_tenant_leave_others_theirs(app: App, empty_url: str) -> None:
    async with stuck(app, empty_url, "acme") as readers:
        assert (await app.ask("GET", "/v1/tenants/beta/events")).status == 200
        assert (await app.ask("GET", "/v1/status")).status == 200
        published = await app.ask("POST", "/v1/events", {"tenant": "acme", "type": "a.b", "data": {}})
        assert published.status == 202
        assert (await app.route("acme"))["version"] == 1
        refused = await app.ask("GET", "/v1/tenants/acme/deliveries")
        assert (refused.status, refused.headers["Retry-After"]) == (503, "2")
        assert refused.json["detail"].startswith("too many of your queries are running at once: try again in a moment")
    assert {reader.result() for reader in readers} <= {200, 503}
    assert app.services.metrics.queries_refused.labels("tenant")._value.get() >= 1


async def test_if_several_tenants_take_all_places_everybody_is_told(app: App, empty_url: str) -> None:
    async with stuck(app, empty_url, "acme", "beta"):
        answer = await app.ask("GET", "/v1/tenants/gamma/events")
        assert answer.status == 503
        assert answer.json["detail"].startswith("too many queries of all are running at once")
        assert (await app.ask("POST", "/v1/events", {"tenant": "acme", "type": "a.b", "data": {}})).status == 202
    assert (await app.ask("GET", "/v1/tenants/gamma/events")).status == 200


async def test_a_page_says_so_in_words_for_people(app: App, empty_url: str) -> None:
    async with stuck(app, empty_url, "acme"):
        page = await get(app, "/t/acme/deliveries")
        assert (page.status, page.words("h1")) == (503, ["One moment, please"])
        assert page.headers["Retry-After"] == "2"
        assert "Too many of your queries are running at once" in page.text
        assert "Nothing was changed" in page.text


@pytest.mark.parametrize("tenant", ["acme", None])
async def test_operators_have_places_beside_those_of_a_tenant(database_url: str, tenant: str | None) -> None:
    """A tenant whose queries are stuck is one that operators want to look at."""
    async with app(database_url, server__admin_token="a" * 40) as opened:
        admin = {"Authorization": f"Bearer {'a' * 40}"}
        token = await opened.ask("POST", "/v1/tokens", {"scope": "tenant:acme", "name": "their own"}, headers=admin)
        own = {"Authorization": f"Bearer {token.json['token']}"}
        locking = await asyncpg.connect(database_url)
        await locking.execute("BEGIN; LOCK TABLE hookledger.attempt")
        readers = [
            asyncio.create_task(opened.ask("GET", "/v1/tenants/acme/deliveries", headers=own)) for _ in range(READERS)
        ]
        await until_waiting(locking, count=2)
        where = "/v1/status" if tenant is None else f"/v1/tenants/{tenant}/events"
        assert (await opened.ask("GET", where, headers=admin)).status == 200
        await locking.execute("ROLLBACK")
        await locking.close()
        await asyncio.gather(*readers)
