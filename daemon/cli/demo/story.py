"""The demo's story: each chapter does something to a route and asserts what the receiver got.

It talks to the daemon over HTTP, as any client does. An assertion that does not hold ends the story with `StoryFailed`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from importlib.resources import files
from typing import Any

import orjson
from aiohttp import ClientSession

from daemon.catalogue import sample_types
from daemon.cli.console.failures import CliError
from daemon.cli.demo.receiver import Receiver

TENANT = "acme-coffee"
ARRIVE_SECONDS = 20.0


class StoryFailed(CliError):
    """The receiver did not get the requests that it should have got."""


class Story:
    """`say` prints a step of the story, `prove` prints what the receiver got."""

    def __init__(
        self, http: ClientSession, receiver: Receiver, *, say: Callable[[str], None], prove: Callable[[str], None]
    ) -> None:
        self._http = http
        self._receiver = receiver
        self._say = say
        self._prove = prove
        self._route: dict[str, Any] = {}
        self._events = _shipped_events()
        self._sent: list[str] = []
        self._skipped: list[str] = []

    async def tell(self) -> None:
        """All chapters, in order. Raises StoryFailed."""
        await self._route_created()
        await self._tested()
        await self._events_arrive(2)
        await self._disabled()
        await self._events_skipped(2)
        await self._enabled()
        await self._events_arrive(2)
        await self._receiver_fails()
        await self._key_rotated()
        await self._explained()

    async def _route_created(self) -> None:
        draft = {
            "name": "Coffee orders",
            "target_url": self._receiver.url,
            "event_types": ["order.*", "subscription.*"],
        }
        self._route = await self._command("POST", f"/v1/tenants/{TENANT}/routes", draft | {"reason": "the demo"})
        self._receiver.keys.append(self._route["verification_key"])
        self._say(f"A route is created for {TENANT}: order.* and subscription.*, to {self._receiver.url}")
        self._prove("the receiver got nothing yet, but knows the verification key now")

    async def _tested(self) -> None:
        await self._command("PUT", "/v1/event-types", {"event_types": orjson.loads(sample_types())})
        sent = await self._command("POST", self._path("test"), {"event_types": ["order.create"]})
        [test] = sent["deliveries"]
        self._say("A test event is sent to it: the example of order.create in the catalogue")
        await self._arrived([test["event"]])
        self._prove(f"the receiver got {test['event']}, signed like any other")

    async def _events_arrive(self, count: int) -> None:
        published = await self._publish(count)
        self._say(f"{count} events happen: {_listing(published)}")
        await self._arrived([event["id"] for event in published])
        self._prove(f"the receiver got {_listing(published)}; every signature verified")

    async def _disabled(self) -> None:
        await self._command("POST", self._path("disable"), {"reason": "moving house"})
        self._say("The route is disabled")

    async def _events_skipped(self, count: int) -> None:
        published = await self._publish(count)
        self._say(f"{count} events happen while it is disabled: {_listing(published)}")
        for event in published:
            explanation = await self._explain(event["id"])
            decision = explanation["decision"]
            _require(decision == "disabled_at_event_time", f"{event['id']} is {decision}")
            self._skipped.append(event["id"])
        self._nothing_else()
        self._prove("the receiver got nothing")

    async def _enabled(self) -> None:
        await self._command("POST", self._path("enable"), {"reason": "moved in"})
        self._say("The route is enabled again")
        self._nothing_else()
        self._prove("the receiver got nothing: what was skipped stays skipped")

    async def _receiver_fails(self) -> None:
        self._receiver.failures = 1
        [event] = await self._publish(1)
        self._say(f"The receiver breaks for a moment, and an event happens: {_listing([event])}")
        await self._arrived([event["id"]])
        requests = [each for each in self._receiver.received if each.event_id == event["id"]]
        statuses = [each.status for each in requests]
        _require(statuses == [503, 200], f"answers were {statuses}")
        _require(len({each.webhook_id for each in requests}) == 1, "the retry had another webhook-id")
        self._prove("the receiver got it, answered 503, got it again with the same webhook-id, answered 200")

    async def _key_rotated(self) -> None:
        rotated = await self._command("POST", self._path("rotate-key"), {"reason": "good practice"})
        old, new = self._receiver.keys[0], rotated["verification_key"]
        self._receiver.keys.append(new)
        [event] = await self._publish(1)
        self._say(f"The key is rotated, and an event happens: {_listing([event])}")
        await self._arrived([event["id"]])
        last = self._receiver.received[-1]
        _require(last.signatures == 2 and last.verified_by == (old, new), "it was not signed by both keys")
        self._prove("the receiver got it with two signatures: the old key verifies it, and so does the new one")

    async def _explained(self) -> None:
        self._nothing_else()
        explanation = await self._explain(self._skipped[0])
        self._say(f"Why did {self._skipped[0]} not arrive? hookledger explain says:")
        self._prove(explanation["detail"])

    async def _publish(self, count: int) -> list[dict[str, Any]]:
        published, self._events = self._events[:count], self._events[count:]
        lines = b"\n".join(orjson.dumps(event) for event in published)
        headers = {"Content-Type": "application/x-ndjson"}
        async with self._http.post("/v1/events", data=lines, headers=headers) as answer:
            stored = await answer.json()
        _require(answer.status == 202 and stored["accepted"] == count, f"publishing was answered with {answer.status}")
        return published

    async def _arrived(self, event_ids: Sequence[str]) -> None:
        """Waits until the receiver has accepted these events, and requires that it got no others."""

        def accepted() -> set[str]:
            return {each.event_id for each in self._receiver.received if each.status == 200}

        self._sent += event_ids
        is_complete = await self._receiver.until(lambda _: set(event_ids) <= accepted(), seconds=ARRIVE_SECONDS)
        missing = ", ".join(sorted(set(event_ids) - accepted()))
        _require(is_complete, f"the receiver did not get {missing} within {ARRIVE_SECONDS:.0f} s")
        self._nothing_else()

    def _nothing_else(self) -> None:
        accepted = [each.event_id for each in self._receiver.received if each.status == 200]
        _require(sorted(accepted) == sorted(self._sent), f"the receiver got {accepted}, and was sent {self._sent}")
        _require(all(each.verified_by for each in self._receiver.received), "a signature did not verify")

    async def _explain(self, event_id: str) -> dict[str, Any]:
        """The daemon's explanation of an event, once the daemon has read the event."""
        query = {"event": event_id, "route": self._route["id"]}
        async with asyncio.timeout(ARRIVE_SECONDS):
            while True:
                async with self._http.get(f"/v1/tenants/{TENANT}/explain", params=query) as answer:
                    explanation: dict[str, Any] = await answer.json()
                if explanation.get("decision") != "not_yet_read":
                    return explanation
                await asyncio.sleep(0.02)

    async def _command(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        async with self._http.request(method, path, json=body) as answer:
            document: dict[str, Any] = await answer.json()
        _require(answer.status in {200, 201, 202}, f"{method} {path} was answered with {answer.status}: {document}")
        return document

    def _path(self, command: str) -> str:
        return f"/v1/tenants/{TENANT}/routes/{self._route['id']}/{command}"


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise StoryFailed(f"the story did not come true: {otherwise}")


def _listing(events: Sequence[dict[str, Any]]) -> str:
    return ", ".join(f"{event['type']} ({event['id']})" for event in events)


def _shipped_events() -> list[dict[str, Any]]:
    text = files("daemon.cli.demo").joinpath("events.ndjson").read_bytes()
    return [orjson.loads(line) for line in text.splitlines()]
