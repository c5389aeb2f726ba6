"""The demo's receiver: it accepts a request only if its signatures verify, and records every request.

It is written from the documentation of the webhook, with the standard library's hmac and without `daemon.core`: its
verification is independent of the code that signs.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import time

import orjson
from aiohttp import web

TOLERANCE_SECONDS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedWebhook:
    """One request: its event, the known keys that verify it, oldest first, and the status it was answered with."""

    event_id: str
    event_type: str
    webhook_id: str
    signatures: int
    verified_by: tuple[str, ...]
    status: int


@dataclass(slots=True, kw_only=True)
class Receiver:
    """`keys` are the known verification keys, oldest first. The next `failures` requests are answered with 503."""

    url: str = ""
    keys: list[str] = field(default_factory=list)
    failures: int = 0
    received: list[ReceivedWebhook] = field(default_factory=list)
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def until(self, condition: Callable[[list[ReceivedWebhook]], bool], *, seconds: float) -> bool:
        """Waits until `condition` is true of the received requests. False if it is not within `seconds`."""
        async with self._changed:
            try:
                async with asyncio.timeout(seconds):
                    await self._changed.wait_for(lambda: condition(self.received))
            except TimeoutError:
                return False
            return True

    async def receive(self, request: web.Request) -> web.Response:
        """Answers 503 while `failures` is not 0, else 200 to a verified webhook and 400 to any other."""
        body = await request.read()
        verified_by = tuple(key for key in self.keys if verify(dict(request.headers), body, key))
        if self.failures:
            self.failures -= 1
            status = 503
        else:
            status = 200 if verified_by else 400
        event = orjson.loads(body)
        webhook = ReceivedWebhook(
            event_id=event["id"],
            event_type=event["type"],
            webhook_id=request.headers["webhook-id"],
            signatures=request.headers["OrderGroove-Signature"].count("sig="),
            verified_by=verified_by,
            status=status,
        )
        async with self._changed:
            self.received.append(webhook)
            self._changed.notify_all()
        return web.Response(status=status)


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver on loopback, on a free port."""
    receiver = Receiver()
    application = web.Application()
    application.router.add_post("/hooks", receiver.receive)
    runner = web.AppRunner(application, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hooks"
        yield receiver
    finally:
        await runner.cleanup()


def verify(headers: dict[str, str], body: bytes, key: str) -> bool:
    """True if both signatures of the request verify with this key and are at most TOLERANCE_SECONDS old."""
    by_name = {name.lower(): value for name, value in headers.items()}
    try:
        parts = [part.partition("=")[::2] for part in by_name["ordergroove-signature"].split(",")]
        ts = next(value for name, value in parts if name == "ts")
        webhook_id, webhook_ts = by_name["webhook-id"], by_name["webhook-timestamp"]
        standard = by_name["webhook-signature"].split(" ")
    except (KeyError, StopIteration):
        return False
    expected = hmac.digest(key.encode(), ts.encode() + b"." + body, "sha256").hex()
    secret = base64.b64decode(key.removeprefix("whsec_"))
    signed = f"{webhook_id}.{webhook_ts}.".encode() + body
    expected_standard = "v1," + base64.b64encode(hmac.digest(secret, signed, "sha256")).decode()
    return (
        any(name == "sig" and hmac.compare_digest(value, expected) for name, value in parts)
        and any(hmac.compare_digest(value, expected_standard) for value in standard)
        and ts.isdigit()
        and abs(time() - int(ts)) <= TOLERANCE_SECONDS
    )
