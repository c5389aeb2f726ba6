"""Every secret of a daemon is a canary: it must not be found in logs, metrics, answers or the database.

The test exercises all code that a secret goes through, failures included. The owner of a route may see what they set:
so the query of the target may be in the route, its log, its history and a request as it was sent, and nowhere else.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import asyncpg
from aiohttp import ClientSession

from tests.support.processes.cli import CommandLine
from tests.support.processes.running import Running, running
from tests.support.receivers.receiver import Receiver, receiver, status

ADMIN = "canary-admin-token-4e1f0d7c"
HEADER = "canary-header-value-93ab51e8"
QUERY = "canary-target-query-5d20c4f6"
PASSWORD = "canary-password-7710b3e2"
PROXY = "canary-proxy-password-0c9a64d1"
MASTER = base64.b64encode(b"canary-master-key-2f8b6e930a7d41").decode()
GIVEN = (ADMIN, HEADER, PASSWORD, PROXY, MASTER, base64.b64decode(MASTER).decode())
BROUGHT = "canary-key-of-an-earlier-provider-ä6c1"
# Paths whose answers may show the target: their callers may see everything of the tenant, or the whole route log.
SHOWS_TARGET = re.compile(r"/v1/(failing|log|tenants/[^/]+/(routes(/[^/]+(/history)?)?|deliveries/[^/]+))$")
KEY_FIELD = "verification_key"
EVENTS = ("evt_ok", "evt_failed", "evt_unmakeable")

_SETTLED = "SELECT count(DISTINCT event_id) FROM hookledger.attempt WHERE outcome IN ('delivered', 'failed')"


@dataclass(kw_only=True)
class RecordingClient:
    """An HTTP client that records its answers: method, path and text."""

    http: ClientSession
    answers: list[tuple[str, str, str]] = field(default_factory=list)

    async def request(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        token = {"Authorization": f"Bearer {ADMIN}"}
        async with self.http.request(method, path, json=body, headers=token | headers) as answer:
            text = await answer.text()
            self.answers.append((method, path.partition("?")[0], text))
        return json.loads(text) if text.startswith(("{", "[")) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SecretDaemon:
    daemon: Running
    client: RecordingClient
    route: dict[str, Any]


def with_password(url: str) -> str:
    """The same database, with a password that the server does not ask for."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user.partition(':')[0]}:{PASSWORD}@{host}"))


@asynccontextmanager
async def secret_daemon(home: Path, database_url: str, there: Receiver, **settings: str) -> AsyncIterator[SecretDaemon]:
    """A daemon whose settings are secrets, and one route with secrets in its target and headers."""
    home.mkdir()
    command = CommandLine(
        home,
        with_password(database_url),
        HOOKLEDGER_SERVER__ADMIN_TOKEN=ADMIN,
        HOOKLEDGER_SIGNING__MASTER_KEY=MASTER,
        HOOKLEDGER_DELIVERY__RETRY_FIRST_SECONDS="0.05",
        HOOKLEDGER_DELIVERY__RETRY_CAP_SECONDS="0.1",
        HOOKLEDGER_DELIVERY__RETRY_ATTEMPTS="2",
        HOOKLEDGER_LOG__LEVEL="debug",
        **settings,
    )
    async with running(command) as daemon, ClientSession(daemon.url) as http:
        client = RecordingClient(http=http)
        body = {
            "name": "shop",
            "target_url": f"{there.url}/hook?token={QUERY}",
            "event_types": ["order.*"],
            "headers": {"Authorization": f"Bearer {HEADER}"},
        }
        route = await client.request("POST", "/v1/tenants/acme/routes", body)
        yield SecretDaemon(daemon=daemon, client=client, route=route)


async def cause_failures(it: SecretDaemon, there: Receiver) -> None:
    """Deliveries that succeed, fail and cannot be rendered, and requests that are refused."""
    client, route_path = it.client, f"/v1/tenants/acme/routes/{it.route['id']}"
    await publish(client, "evt_ok")
    await there.count(1)
    there.answer["/hook"] = status(500, {"X-Echo": "nothing"})
    await publish(client, "evt_failed")
    await there.count(3)
    await client.request("PATCH", route_path, {"payload": {"transform": "sum(data.object)"}})
    await publish(client, "evt_unmakeable")
    await client.request("POST", f"{route_path}/rotate-key", {})
    for key in (f"{BROUGHT}\n", BROUGHT * 9, BROUGHT, BROUGHT):
        await client.request("POST", f"{route_path}/rotate-key", {"verification_key": key, "force": True})
    await client.request("POST", "/v1/tenants/acme/routes", {"verification_key": BROUGHT, "name": ["x"]})
    await client.request(
        "PATCH", route_path, {"headers": {"Authorization": f"Bearer {HEADER}\n"}, "target_url": f"ftp://a/?{QUERY}"}
    )
    await client.request("POST", "/v1/tenants/acme/routes", {"headers": {"Host": HEADER}, "name": ["x"]})
    await client.request("GET", "/v1/tenants", Authorization=f"Bearer {ADMIN}x")
    await client.request("GET", f"/v1/tenants?token={ADMIN}")


async def publish(client: RecordingClient, event_id: str) -> None:
    await client.request(
        "POST", "/v1/events", {"tenant": "acme", "type": "order.create", "id": event_id, "data": {"a": "b"}}
    )


async def until_settled(database_url: str) -> None:
    """Waits until every event has its final outcome."""
    connection = await asyncpg.connect(database_url)
    try:
        async with asyncio.timeout(20):
            while await connection.fetchval(_SETTLED) < len(EVENTS):
                await asyncio.sleep(0.05)
    finally:
        await connection.close()


async def request_everything(it: SecretDaemon) -> None:
    """Sends every GET request that the OpenAPI document lists."""
    document = await it.client.request("GET", "/openapi.json")
    deliveries = await it.client.request("GET", "/v1/tenants/acme/deliveries?limit=1") or {}
    values = {
        "tenant": "acme",
        "route": it.route["id"],
        "delivery": next((each["id"] for each in deliveries.get("items", [])), "none"),
        "event": "evt_failed",
    }
    for event in EVENTS:
        await it.client.request("GET", f"/v1/tenants/acme/explain?event={event}")
    for path, operations in document["paths"].items():
        if "get" in operations and not path.endswith("/key"):
            await it.client.request("GET", re.sub(r"\{(\w+)\}", lambda name: values.get(name[1], "none"), path))


async def rows(database_url: str) -> dict[str, str]:
    """The whole database as text, table by table."""
    connection = await asyncpg.connect(database_url)
    try:
        names = await connection.fetch(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'hookledger' AND table_type = 'BASE TABLE'"
        )
        return {
            name: await connection.fetchval(f"SELECT coalesce(string_agg(t::text, ' '), '') FROM hookledger.{name} t")
            for (name,) in names
        }
    finally:
        await connection.close()


def spelled(secret: str) -> list[str]:
    """The spellings of a text: as in JSON, as bytea of PostgreSQL, and as base64."""
    packed = base64.b64encode(secret.encode()).decode().rstrip("=")
    return [secret, secret.encode().hex(), packed[:-1]]


def found_in(text: str, secrets: tuple[str, ...]) -> list[str]:
    return [secret for secret in secrets if any(spelling in text for spelling in spelled(secret))]


async def test_no_secret_is_found_where_it_should_not_be(tmp_path: Path, database_url: str) -> None:
    async with receiver() as there, secret_daemon(tmp_path / "first", database_url, there) as it:
        await cause_failures(it, there)
        await until_settled(database_url)
        await request_everything(it)
        assert await it.daemon.stop() == 0
        shown = it.route[KEY_FIELD]
        assert all(got.headers["Authorization"] == f"Bearer {HEADER}" for got in there.received)
    keys = (BROUGHT, shown, base64.b64decode(shown.removeprefix("whsec_")).hex())
    stored = await rows(database_url)
    log = it.daemon.log.read_text()
    assert "delivery.attempted" in log
    assert found_in(log, (*GIVEN, QUERY, *keys)) == []
    for method, path, text in it.client.answers:
        is_key = KEY_FIELD in text or path.endswith("/key")
        of_target = () if SHOWS_TARGET.match(path) else (QUERY,)
        assert found_in(text, (*GIVEN, *of_target, *(() if is_key else keys))) == [], (method, path, text)
    assert {"route_event", "route_key", "route_headers"} <= set(stored)
    for name, text in stored.items():
        assert found_in(text, (*GIVEN, *keys, *(() if name == "route_event" else (QUERY,)))) == [], name


async def test_a_proxy_that_fails_and_a_killed_daemon_tell_no_secret_either(tmp_path: Path, database_url: str) -> None:
    proxy = {"HOOKLEDGER_EGRESS__PROXY": f"http://user:{PROXY}@127.0.0.1:1"}
    async with receiver() as there, secret_daemon(tmp_path / "first", database_url, there, **proxy) as it:
        await publish(it.client, "evt_ok")
        async with asyncio.timeout(20):
            while "proxy_error" not in it.daemon.log.read_text():
                await asyncio.sleep(0.05)
        it.daemon.process.send_signal(signal.SIGABRT)
        await asyncio.to_thread(it.daemon.process.wait, 10)
    assert found_in(it.daemon.log.read_text(), (*GIVEN, QUERY)) == []
    assert found_in(json.dumps([text for *_, text in it.client.answers[1:]]), (*GIVEN, QUERY)) == []
    assert found_in(json.dumps(await rows(database_url)), GIVEN) == []
    shown = CommandLine(tmp_path, with_password(database_url), HOOKLEDGER_SERVER__ADMIN_TOKEN=ADMIN, **proxy)(
        "config", "show"
    )
    assert found_in(shown.out + shown.err, (*GIVEN, QUERY)) == []
