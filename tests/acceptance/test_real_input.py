"""Four hundred realistic events of three tenants, published by the command line, received and verified."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
from standardwebhooks.webhooks import Webhook as StandardWebhook
from svix.webhooks import Webhook as SvixWebhook

from tests.support.processes.cli import CommandLine
from tests.support.processes.running import Running, running
from tests.support.receivers.receiver import Received, Receiver, receiver

SAMPLE = Path(__file__).parents[1] / "data" / "sample_events.ndjson"
EVENTS: list[dict[str, Any]] = [json.loads(line) for line in SAMPLE.read_text().splitlines()]
TENANTS = sorted({event["tenant"] for event in EVENTS})
PATTERNS = ("order.*", "subscription.create", "*")


def matches(pattern: str, event_type: str) -> bool:
    return pattern in ("*", event_type) or (pattern[-2:] == ".*" and event_type.startswith(pattern[:-1]))


def expected(events: list[dict[str, Any]]) -> Counter[tuple[str, str]]:
    """(path, event id) of each request that is due. Events that happened before the routes were created are not."""
    return Counter(
        (f"/{event['tenant']}/{number}", event["id"])
        for event in events
        if "occurred_at" not in event
        for number, pattern in enumerate(PATTERNS)
        if matches(pattern, event["type"])
    )


def arrived(received: list[Received]) -> Counter[tuple[str, str]]:
    return Counter((r.path, json.loads(r.body)["id"]) for r in received)


async def create_routes(daemon: Running, target: Receiver) -> dict[str, dict[str, Any]]:
    """Path → route, for every tenant and pattern."""
    routes = {}
    async with aiohttp.ClientSession() as session:
        for tenant in TENANTS:
            for number, pattern in enumerate(PATTERNS):
                path = f"/{tenant}/{number}"
                draft = {"name": pattern, "target_url": target.url + path, "event_types": [pattern]}
                async with session.post(f"{daemon.url}/v1/tenants/{tenant}/routes", json=draft) as response:
                    assert response.status == 201, await response.text()
                    routes[path] = await response.json()
    return routes


async def publish(hookledger: CommandLine, events: list[dict[str, Any]]) -> None:
    lines = "".join(json.dumps(event) + "\n" for event in events)
    summary = (await asyncio.to_thread(hookledger, "publish", "-", "--json", stdin=lines)).json
    assert summary["accepted"] == len(events), summary


def is_signed(request: Received, key: str) -> bool:
    """Verifies OrderGroove-Signature as a receiver would, in a few lines of its own."""
    timestamp, *signatures = request.headers["OrderGroove-Signature"].split(",")
    signed = timestamp.removeprefix("ts=").encode() + b"." + request.body
    digest = hmac.new(key.encode(), signed, hashlib.sha256).hexdigest()
    return f"sig={digest}" in signatures


async def test_every_expected_request_arrives_once_and_signed_and_no_other(hookledger: CommandLine) -> None:
    async with receiver() as target, running(hookledger) as daemon:
        routes = await create_routes(daemon, target)
        summary = (await asyncio.to_thread(hookledger, "publish", str(SAMPLE), "--json")).json
        assert (summary["accepted"], summary["rejected"]) == (len(EVENTS), 0)
        due = expected(EVENTS)
        await target.count(due.total(), seconds=30)
        assert await daemon.stop() == 0
        assert arrived(target.received) == due
        for request in target.received:
            key = routes[request.path]["verification_key"]
            assert StandardWebhook(key).verify(request.body, request.headers) is not None
            SvixWebhook(key).verify(request.body, request.headers)  # raises if it does not hold
            assert is_signed(request, key)


async def test_a_route_disabled_for_the_middle_third_gets_the_other_two(hookledger: CommandLine) -> None:
    first, middle, last = EVENTS[:133], EVENTS[133:266], EVENTS[266:]
    async with receiver() as target, running(hookledger) as daemon:
        routes = await create_routes(daemon, target)
        path = f"/{TENANTS[0]}/2"
        url = f"{daemon.url}/v1/tenants/{TENANTS[0]}/routes/{routes[path]['id']}"
        await publish(hookledger, first)
        await target.count(expected(first).total(), seconds=30)
        async with aiohttp.ClientSession() as session:
            assert (await session.post(f"{url}/disable")).status == 200
            await publish(hookledger, middle)
            assert (await session.post(f"{url}/enable")).status == 200
        await publish(hookledger, last)
        skipped = Counter({pair: n for pair, n in expected(middle).items() if pair[0] == path})
        due = expected(EVENTS) - skipped
        assert skipped.total() > 20
        await target.count(due.total(), seconds=30)
        assert await daemon.stop() == 0
        assert arrived(target.received) == due
        audit = hookledger("audit", "--json").json
        assert audit["findings"] == [], audit


async def test_what_happens_while_the_daemon_is_stopped_and_a_route_disabled_never_arrives(
    hookledger: CommandLine,
) -> None:
    first, middle, last = EVENTS[:133], EVENTS[133:266], EVENTS[266:]
    path = f"/{TENANTS[0]}/2"
    async with receiver() as target:
        async with running(hookledger) as daemon:
            routes = await create_routes(daemon, target)
            await publish(hookledger, first)
            await target.count(expected(first).total(), seconds=30)
            assert await daemon.stop() == 0
        route = ("--tenant", TENANTS[0], routes[path]["id"])
        hookledger("routes", "disable", *route, "--reason", "maintenance")
        await publish(hookledger, middle)
        hookledger("routes", "enable", *route)
        await publish(hookledger, last)
        skipped = Counter({pair: n for pair, n in expected(middle).items() if pair[0] == path})
        due = expected(EVENTS) - skipped
        async with running(hookledger) as daemon:
            await target.count(due.total(), seconds=30)
            assert await daemon.stop() == 0
        assert arrived(target.received) == due
        event_id = next(iter(skipped))[1]
        explained = hookledger(
            "explain", event_id, "--tenant", TENANTS[0], "--route", routes[path]["id"], "--json"
        ).json
        assert "disabled_at_event_time" in json.dumps(explained)
