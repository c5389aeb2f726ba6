"""A daemon with its pipeline and a receiver, and a merchant's account as it may be after a week, for browser tests.

The path decides how the receiver answers. Retries are quick, so that a delivery fails for good within a test. Deliveries
that must stay pending go to `/busy`, which answers with a Retry-After of an hour.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web
from playwright.async_api import Page

from tests.support.browser.chromium import Visit
from tests.support.processes.cli import CommandLine
from tests.support.receivers.receiver import Received, Receiver, receiver

ROOT = Path(__file__).parents[3]
CATALOGUE = ROOT / "daemon" / "data" / "event_types.json"
SAMPLE = ROOT / "tests" / "data" / "sample_events.ndjson"

QUICK_RETRIES = {
    "HOOKLEDGER_DELIVERY__RETRY_FIRST_SECONDS": "0.2",
    "HOOKLEDGER_DELIVERY__RETRY_ATTEMPTS": "3",
    "HOOKLEDGER_DELIVERY__BREAKER_FAILURES": "1000",
}

LONG_NAME = (
    "Lagerverwaltung Süddeutschland – Bestellungen, Abonnements & Rücksendungen (bitte nicht ohne Rücksprache ändern)"
)
LONG_PATH = "/integrations/ordering/v2/merchants/7dc684477391c94c8286/webhooks/incoming/production/eu-central-1?tenant=acme&team=fulfilment"

# Path prefix → the receiver's answer; other paths get 200.
ANSWERS: Mapping[str, tuple[int, dict[str, str], str]] = {
    "/fail": (500, {"Content-Type": "text/html"}, "<h1>Internal error</h1> order_id must not be null"),
    "/missing": (404, {}, "no such endpoint"),
    "/busy": (503, {"Retry-After": "3600"}, "maintenance, back in an hour"),
    "/gone": (410, {}, "gone"),
    "/slow": (200, {}, "that took a while"),
}
SLOW_SECONDS = 1.5


class Shop(Receiver):
    """A receiver that answers by the prefix of the path, unless `answer` has the path."""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.received.append(Received(request.path, dict(request.headers), await request.read()))
        async with self._news:
            self._news.notify_all()
        if request.path.startswith("/slow"):
            await asyncio.sleep(SLOW_SECONDS)
        if request.path in self.answer:
            return await self.answer[request.path](request)
        for prefix, (status, headers, text) in ANSWERS.items():
            if request.path.startswith(prefix):
                return web.Response(status=status, headers=headers, text=text)
        return web.json_response({"received": True})


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """A running daemon, the URL of its receiver, and a client of its API."""

    url: str
    target: str
    session: aiohttp.ClientSession

    async def ask(self, method: str, path: str, body: object = None) -> Any:
        async with self.session.request(method, self.url + path, json=body) as response:
            assert response.status < 300, (path, response.status, await response.text())
            return await response.json() if response.content_type == "application/json" else None

    async def load_catalogue(self) -> None:
        await self.ask("PUT", "/v1/event-types", json.loads(CATALOGUE.read_text()))

    async def webhook(self, tenant: str, name: str, path: str, types: Sequence[str], **more: Any) -> Webhook:
        draft = {"name": name, "target_url": self.target + path, "event_types": list(types)} | more
        made = await self.ask("POST", f"/v1/tenants/{tenant}/routes", draft)
        return Webhook(live=self, tenant=tenant, id=made["id"], name=name)

    async def publish(self, tenant: str, events: Sequence[dict[str, Any]]) -> list[str]:
        """Publishes events that happen now. Returns their ids."""
        lines = [{**event, "tenant": tenant} for event in events]
        data = "\n".join(json.dumps(line) for line in lines)
        headers = {"Content-Type": "application/x-ndjson"}
        async with self.session.post(f"{self.url}/v1/events", data=data, headers=headers) as response:
            told = await response.json()
        assert told["accepted"] == len(events), told
        return [event["id"] for event in told["events"]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    live: Live
    tenant: str
    id: str
    name: str

    @property
    def page(self) -> str:
        """Its page in the dashboard."""
        return f"/t/{self.tenant}/webhooks/{self.id}"

    async def told(self, of: str = "") -> Any:
        """What the API shows of the webhook, or of a part such as `/key`."""
        return await self.live.ask("GET", f"/v1/tenants/{self.tenant}/routes/{self.id}{of}")

    async def key(self) -> str:
        key: str = (await self.told("/key"))["verification_key"]
        return key

    async def happen(self, *types: str) -> list[str]:
        """Publishes an event of each type and waits for the daemon's decision about it. Returns their ids."""
        ids = await self.live.publish(self.tenant, [example(type) for type in types])
        for id in ids:
            path = f"/v1/tenants/{self.tenant}/explain?event={id}&route={self.id}"
            await _until(partial(self.live.ask, "GET", path), lambda told: told["decision"] != "not_yet_read")
        return ids

    async def command(self, name: str, **body: object) -> Any:
        return await self.live.ask("POST", f"/v1/tenants/{self.tenant}/routes/{self.id}/{name}", body)

    async def edit(self, **changes: object) -> Any:
        return await self.live.ask("PATCH", f"/v1/tenants/{self.tenant}/routes/{self.id}", changes)

    async def delete(self) -> None:
        await self.live.ask("DELETE", f"/v1/tenants/{self.tenant}/routes/{self.id}")

    async def deliveries(self, status: str | None = None) -> list[dict[str, Any]]:
        wanted = f"&status={status}" if status else ""
        told = await self.live.ask("GET", f"/v1/tenants/{self.tenant}/deliveries?route={self.id}{wanted}&limit=200")
        items: list[dict[str, Any]] = told["items"]
        return items

    async def until(self, count: int, status: str | None = None) -> list[dict[str, Any]]:
        """Waits until there are `count` deliveries of that status. Returns them."""
        found: list[dict[str, Any]] = await _until(lambda: self.deliveries(status), lambda it: len(it) >= count)
        return found

    async def until_told_to_wait(self) -> None:
        """Waits for a delivery whose next attempt is in more than five minutes."""
        soon = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
        await _until(
            lambda: self.deliveries("pending"),
            lambda found: any((each["next_attempt_at"] or "") > soon for each in found),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarded:
    """A daemon that requires a token or a session; `hookledger` runs commands on its database."""

    live: Live
    hookledger: CommandLine

    def link(self, tenant: str | None = None) -> str:
        """The path of a sign-in link; without a tenant it is an operator's."""
        made = self.hookledger("login-link", *(() if tenant is None else ("--tenant", tenant)))
        return urlsplit(made.out.strip()).path

    async def signed_in(self, visit: Visit, tenant: str | None = None) -> Page:
        """A page of somebody who has used a new sign-in link."""
        page = await visit.at(self.link(tenant))
        await page.get_by_role("button", name="Sign in").click()
        return page


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What `furnish` has made. `deliveries` is status → id of one delivery. `before` is a time when nothing was disabled or
    deleted yet.
    """

    tenant: str
    active: Webhook
    failing: Webhook
    busy: Webhook
    paused: Webhook
    shaped: Webhook
    long: Webhook
    deleted: Webhook
    deliveries: Mapping[str, str]
    event: str
    before: str


def example(type: str) -> dict[str, Any]:
    """The example event of a type in the catalogue."""
    known = {each["name"]: each["example"] for each in json.loads(CATALOGUE.read_text())}
    return {"type": type, **known[type]}


def samples(count: int | None = None) -> list[dict[str, Any]]:
    """Realistic events without id, tenant and time, so that they happen when they are published."""
    lines = SAMPLE.read_text().splitlines()[:count]
    return [
        {name: part for name, part in json.loads(line).items() if name not in {"id", "tenant", "occurred_at"}}
        for line in lines
    ]


async def furnish(live: Live, tenant: str, *, events: int = 200) -> Account:
    """Makes webhooks of every kind and state, with deliveries that are delivered, failed, pending and suppressed."""
    active = await live.webhook(tenant, "Order sync", "/orders", ["order.*", "subscription.create"])
    failing = await live.webhook(tenant, "Warehouse", "/fail/warehouse", ["subscription.cancel", "item.remove"])
    busy = await live.webhook(tenant, "Mailing list", "/busy/mailing", ["subscriber.*", "subscription.cancel"])
    paused = await live.webhook(tenant, "Analytics (old)", "/busy/analytics", ["subscription.create", "order.reject"])
    shaped = await live.webhook(
        tenant, "Slack: new subscriptions", "/slack", ["subscription.*"],
        payload={"snapshot": {"customer": ["first_name", "email"], "products": True}, "transform": "{text: type, id: id, customer: snapshot.customer}"},
        headers={"X-Team": "growth", "X-Channel": "#new-subscriptions"}, ordered=True, rate_limit_per_second=50,
    )  # fmt: skip
    long = await live.webhook(
        tenant, LONG_NAME, LONG_PATH, ["item.*", "order.create", "order.change_next_order_date", "subscription.cancel"]
    )
    deleted = await live.webhook(tenant, "Trial of last year", "/missing", ["order.cancel", "order.reject"])
    await live.webhook(tenant, "Partner portal", "/gone", ["order.reject"])

    published = samples(events)
    first = await live.publish(tenant, published[: events // 2])
    await busy.until_told_to_wait()
    await paused.until_told_to_wait()
    before = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}"
    await paused.command("disable", reason="moved to the new analytics")
    await active.edit(name="Order sync", event_types=["order.*", "subscription.create", "subscription.cancel"])
    await shaped.command("rotate-key", reason="yearly rotation")
    await deleted.delete()
    await live.publish(tenant, published[events // 2 :])
    by_status = {"failed": failing, "suppressed": paused, "delivered": shaped, "pending": busy}
    deliveries = {status: (await webhook.until(1, status))[0]["id"] for status, webhook in by_status.items()}
    return Account(
        tenant=tenant, active=active, failing=failing, busy=busy, paused=paused, shaped=shaped, long=long,
        deleted=deleted, deliveries=deliveries, event=first[0], before=before,
    )  # fmt: skip


@asynccontextmanager
async def shop() -> AsyncIterator[Receiver]:
    async with receiver(Shop()) as it:
        yield it


async def _until(ask: Callable[[], Any], state: Callable[[Any], bool], *, seconds: float = 60.0) -> Any:
    last: Any = None
    try:
        async with asyncio.timeout(seconds):
            while not state(last := await ask()):
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"the state was not reached within {seconds} s; last: {last}") from None
    return last
