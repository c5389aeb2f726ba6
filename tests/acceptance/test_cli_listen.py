"""`hookledger listen` against a real daemon: every event once and in order, whatever happens to the connection."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from subprocess import Popen
from typing import Any

import aiohttp
import asyncpg
import pytest
from aiohttp import web

from daemon.core.webhook.signing import verify
from tests.support.processes.cli import CommandLine
from tests.support.processes.running import Running, running
from tests.support.receivers.receiver import Received, gate, receiver, status
from tests.support.until import until

SECONDS = 60.0
ADMIN = "hl_admin_0123456789abcdef0123456789abcdef"
TABLES = """
SELECT c.relname FROM pg_class c
 WHERE c.relnamespace = 'hookledger'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
"""


@dataclass
class Listening:
    """A `hookledger listen --json` that has begun."""

    process: Popen[str]
    key: str

    async def line(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        text = await asyncio.wait_for(asyncio.to_thread(self.process.stdout.readline), SECONDS)
        assert text, await self.said()
        line: dict[str, Any] = json.loads(text)
        return line

    async def lines(self, number: int) -> list[dict[str, Any]]:
        return [await self.line() for _ in range(number)]

    async def said(self) -> str:
        """What it wrote to stderr until its end."""
        assert self.process.stderr is not None
        return await asyncio.wait_for(asyncio.to_thread(self.process.stderr.read), SECONDS)

    async def stop(self, number: int = signal.SIGINT) -> str:
        """Ends it as a person does. Returns what it wrote to stderr."""
        self.process.send_signal(number)
        said = await self.said()
        assert await asyncio.to_thread(self.process.wait, SECONDS) == 0, said
        return said


@asynccontextmanager
async def listening(
    hookledger: CommandLine, daemon: Running, to: str, *options: str, tenant: str = "acme"
) -> AsyncIterator[Listening]:
    process = hookledger.start(
        "listen", "--tenant", tenant, "--forward-to", to, "--url", daemon.url, "--json", *options
    )
    try:
        begun = Listening(process, "")
        begun.key = (await begun.line())["verification_key"]
        yield begun
    finally:
        process.kill()
        process.communicate()


async def publish(
    daemon: Running, *events: dict[str, Any], tenant: str = "acme", token: str | None = None
) -> list[str]:
    headers = {"Content-Type": "application/x-ndjson"} | ({} if token is None else {"Authorization": f"Bearer {token}"})
    lines = "\n".join(json.dumps({"tenant": tenant, "type": "order.create", "data": {}} | event) for event in events)
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{daemon.url}/v1/events", data=lines, headers=headers) as response,
    ):
        told = await response.json()
    assert told["accepted"] == len(events), told
    return [event["id"] for event in told["events"]]


def ids_of(received: list[Received]) -> list[str]:
    return [json.loads(each.body)["id"] for each in received]


async def test_events_are_posted_as_webhooks_in_order_and_each_answer_is_told(hookledger: CommandLine) -> None:
    async with running(hookledger) as daemon, receiver() as there:
        there.answer["/hook"] = status(202)
        await publish(daemon, {"id": "before"})
        async with listening(hookledger, daemon, f"{there.url}/hook", "--ordered") as it:
            assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", it.key)
            ids = await publish(daemon, *({"data": {"total": 1.5, "n": n}} for n in range(20)))
            ids += await publish(daemon, {"data": {}, "type": "customer.create"})
            lines = await it.lines(len(ids))
            said = await it.stop()
    assert ids_of(there.received) == ids
    assert [(line["id"], line["status"], line["error"]) for line in lines] == [(id, 202, None) for id in ids]
    assert {line["type"] for line in lines} == {"order.create", "customer.create"}
    assert f"{len(ids)} requests: {len(ids)} succeeded, 0 failed" in said
    for request in there.received:
        assert verify(request.body, request.headers, it.key, now=time.time())
        assert request.headers["Hookledger-Hops"] == "1"
    body = json.loads(there.received[0].body)
    assert (body["type"], body["data"]["object"], body["snapshot"]) == ("order.create", {"total": 1.5, "n": 0}, {})


async def test_several_workers_give_each_event_once(hookledger: CommandLine) -> None:
    async with running(hookledger, "--workers", "2") as daemon, receiver() as there:
        async with listening(hookledger, daemon, there.url, "--ordered") as it:
            ids = [(await publish(daemon, {}))[0] for _ in range(30)]
            assert [line["id"] for line in await it.lines(len(ids))] == ids
        async with listening(hookledger, daemon, there.url) as it:
            (last,) = await publish(daemon, {})
            assert (await it.line())["id"] == last


async def test_types_and_groups_are_chosen_as_by_a_route(hookledger: CommandLine) -> None:
    chosen = ("-e", "order.pay,customer.*", "-e", "item.add", "--ordered")
    async with (
        running(hookledger) as daemon,
        receiver() as there,
        listening(hookledger, daemon, there.url, *chosen) as it,
    ):
        types = ["order.create", "order.pay", "customer.create", "item.add", "item.remove", "customer.a.b"]
        await publish(daemon, *({"type": each} for each in types))
        await publish(daemon, {"type": "item.add", "backfill": True}, {"type": "item.add", "id": "last"})
        lines = await it.lines(5)
    assert {line["type"] for line in lines} == {"order.pay", "customer.create", "item.add", "customer.a.b"}
    assert lines[-1]["id"] == "last", "imported events are sent to nobody"


async def test_a_route_gives_its_types_filter_and_payload(hookledger: CommandLine) -> None:
    async with running(hookledger) as daemon, receiver() as there:
        route = hookledger.create_route(
            "--filter",
            "data.object.total > `10`",
            "--transform",
            "{id: id, total: data.object.total}",
            "--header",
            "X-A: b",
        )
        hookledger("routes", "disable", route["id"])
        async with listening(hookledger, daemon, there.url, "--route", route["id"]) as it:
            await publish(daemon, {"data": {"total": 5}}, {"type": "customer.create", "data": {"total": 50}})
            (id,) = await publish(daemon, {"data": {"total": 50}})
            assert (await it.line())["id"] == id
            assert "own headers are not sent, since their values are secret: X-A" in await it.stop()
    (request,) = there.received
    assert json.loads(request.body) == {"id": id, "total": 50}
    assert "X-A" not in request.headers


async def test_as_many_types_as_a_route_may_have_are_chosen(hookledger: CommandLine) -> None:
    types = [f"{'a' * 100}.t{number}" for number in range(199)]
    async with running(hookledger) as daemon, receiver() as there:
        route = hookledger.create_route(*(part for each in types for part in ("--event-type", each)))
        async with listening(hookledger, daemon, there.url, "--route", route["id"]) as it:
            await publish(daemon, {"type": "other.type"}, {"type": types[-1], "id": "chosen"})
            assert (await it.line())["id"] == "chosen"


async def test_a_test_event_comes_to_its_route_alone(hookledger: CommandLine) -> None:
    async with running(hookledger) as daemon, receiver() as there:
        hookledger("event-types", "load", "--sample")
        route = hookledger.create_route("--filter", "data.object.none")
        async with (
            listening(hookledger, daemon, f"{there.url}/all") as everything,
            listening(hookledger, daemon, f"{there.url}/route", "--route", route["id"]) as it,
        ):
            path = f"{daemon.url}/v1/tenants/acme/routes/{route['id']}/test"
            async with aiohttp.ClientSession() as session, session.post(path, json={"event_types": ["order.create"]}):
                assert (await it.line())["type"] == "order.create"
            await publish(daemon, {"id": "last"})
            assert (await everything.line())["id"] == "last"
    (request,) = there.at("/route")
    assert request.headers["Hookledger-Test"] == "true"


async def test_a_log_that_has_lost_the_place_is_gone_on_with(without_database: CommandLine) -> None:
    """As of a database that was restored while somebody listens."""
    sender = {"signing_header": "X-Signature", "standard_webhooks": False, "user_agent": "x", "max_body_bytes": 1000}
    item = {
        "id": "evt_1", "type": "a.b", "event_time": "2026-11-23T08:00:00.000000Z", "backfill": False,
        "test_route": None, "hops": 0, "data": {}, "context": {}, "snapshot": {},
    }  # fmt: skip
    answers = [
        web.json_response({"items": [], "next": "first", "sender": sender}),
        web.json_response({"detail": "gone"}, status=410),
        web.json_response({"items": [], "next": "second", "sender": sender}),
        web.json_response({"detail": "too many"}, status=503, headers={"Retry-After": "0"}),
        web.json_response({"items": [item], "next": "third"}),
    ]
    asked: list[str] = []

    async def feed(request: web.Request) -> web.StreamResponse:
        asked.append(request.query.get("cursor", ""))
        if not answers:
            await asyncio.Event().wait()
        return answers.pop(0)

    async with receiver() as there:
        there.answer["/v1/tenants/acme/feed"] = feed
        fake = Running(process=None, url=there.url, log=without_database.home)  # type: ignore[arg-type] # only its URL
        async with listening(without_database, fake, f"{there.url}/hook") as it:
            assert (await it.line())["id"] == "evt_1"
            await until(lambda: len(asked) == 6)
            said = await it.stop()
        (request,) = there.at("/hook")
    assert asked == ["", "first", "", "second", "second", "third"]
    assert "the log no longer has what came" in said
    assert "X-Signature" in request.headers
    assert "webhook-id" not in request.headers


async def test_nothing_is_lost_and_nothing_comes_twice_when_the_daemon_is_killed(hookledger: CommandLine) -> None:
    async with receiver() as there, running(hookledger) as daemon:
        address = daemon.url.removeprefix("http://")
        async with listening(hookledger, daemon, there.url, "--ordered") as it:
            ids = await publish(daemon, {}, {})
            await it.lines(2)
            ids += await publish(daemon, {}, {}, {})
            daemon.kill()
            # In SQL, as a producer does while no daemon runs.
            hookledger("publish", stdin='{"tenant": "acme", "type": "order.create", "id": "meanwhile", "data": {}}')
            async with running(hookledger, "--listen", address) as again:
                ids += ["meanwhile", *await publish(again, {}, {})]
                await there.count(len(ids))
                assert await again.stop() == 0
                async with running(hookledger, "--listen", address) as third:
                    ids += await publish(third, {})
                    lines = await it.lines(len(ids) - 2)
                    await it.stop()
    assert ids_of(there.received) == ids
    assert [line["id"] for line in lines] == ids[2:]


async def test_a_program_that_stands_still_gets_everything_afterwards(hookledger: CommandLine) -> None:
    async with running(hookledger) as daemon, receiver() as there:
        opened = gate(there, "/hook", 200)
        async with listening(hookledger, daemon, f"{there.url}/hook", "--ordered", "--timeout", "300") as it:
            ids = []
            for _ in range(5):
                ids += await publish(daemon, *({"data": {"text": "x" * 1000}} for _ in range(100)))
            await there.count(1)
            opened.set()
            assert [line["id"] for line in await it.lines(len(ids))] == ids
    assert ids_of(there.received) == ids


async def test_a_receiver_that_is_down_is_told_and_nothing_is_repeated_unless_asked(hookledger: CommandLine) -> None:
    async with running(hookledger) as daemon:
        async with receiver() as there:
            url = there.url
            there.answer["/bad"] = status(500)
            async with listening(hookledger, daemon, f"{url}/bad", "--retries", "1") as it:
                (id,) = await publish(daemon, {})
                assert [(line["id"], line["status"]) for line in await it.lines(2)] == [(id, 500), (id, 500)]
            first, second = there.received
            assert first.headers["webhook-id"] == second.headers["webhook-id"]
        async with listening(hookledger, daemon, url) as it:
            ids = await publish(daemon, {}, {})
            lines = await it.lines(2)
            assert {line["id"] for line in lines} == set(ids)
            assert {(line["status"], line["error"]) for line in lines} == {(None, "connect_refused")}
            assert "2 requests: 0 succeeded, 2 failed" in await it.stop(signal.SIGTERM)


async def test_another_tenants_events_are_not_seen_and_a_revoked_token_ends_it(hookledger: CommandLine) -> None:
    hookledger.environment["HOOKLEDGER_SERVER__ADMIN_TOKEN"] = ADMIN
    made = hookledger("token", "create", "--scope", "auditor:acme", "--name", "home", "--json").json
    async with running(hookledger) as daemon, receiver() as there:
        options = ("--token", made["token"])
        async with listening(hookledger, daemon, there.url, *options) as it:
            await publish(daemon, {"id": "theirs"}, tenant="globex", token=ADMIN)
            await publish(daemon, {"id": "ours"}, token=ADMIN)
            assert (await it.line())["id"] == "ours"
            hookledger("token", "revoke", made["id"])
            await until(lambda: it.process.poll() is not None)
            await publish(daemon, {"id": "late"}, token=ADMIN)
            said = await it.said()
            assert it.process.returncode == 1
        assert "answers 401" in said
        assert "try: pass --token" in said
        assert ids_of(there.received) == ["ours"]
        for tenant, token, message in (
            ("globex", made["token"], "answers 401: this token was revoked"),
            ("acme", "", "answers 401"),
        ):
            ended = hookledger(
                "listen", "--tenant", tenant, "--forward-to", there.url, "--url", daemon.url, "--token", token, code=1
            )
            assert message in ended.err
        other = hookledger("token", "create", "--scope", "tenant:acme", "--name", "a", "--json").json
        ended = hookledger(
            "listen", "--tenant", "globex", "--forward-to", there.url, "--url", daemon.url, "--token", other["token"], code=1,
        )  # fmt: skip
        assert "answers 404: there is no such tenant" in ended.err


async def test_nothing_is_left_of_it_in_any_table(hookledger: CommandLine, database_url: str) -> None:
    hookledger.environment["HOOKLEDGER_SEAL__EVERY_SECONDS"] = "86400"
    connection = await asyncpg.connect(database_url)

    async def counts() -> dict[str, int]:
        names = [row["relname"] for row in await connection.fetch(TABLES)]
        found = {name: await connection.fetchval(f"SELECT count(*) FROM hookledger.{name}") for name in names}
        assert found.pop("domain_event") > 0
        assert found.pop("tick") > 0
        del found["domain_event_midnight"]  # has a row for each event within an hour of midnight
        return found

    async with running(hookledger) as daemon, receiver() as there:
        async with listening(hookledger, daemon, there.url) as it:  # waits until the daemon has settled
            await publish(daemon, {})
            await it.line()
        before = await counts()
        async with listening(hookledger, daemon, there.url) as it:
            await publish(daemon, {}, {}, {})
            await it.lines(3)
            await it.stop()
        assert await counts() == before
    await connection.close()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--tenant", "acme", "--forward-to", "ftp://here"), 2, "does not begin with https:// or http://"),
        (("--tenant", "acme", "--forward-to", "localhost:70000"), 2, "is not a number from 1 to 65535"),
        (("--tenant", "a b", "--forward-to", "localhost"), 2, "tenant"),
        (("--tenant", "acme", "--forward-to", "localhost", "-e", "Order"), 2, "'Order' is no event type"),
        (("--tenant", "acme", "--forward-to", "localhost", "--url", "localhost:1"), 2, "'localhost:1' is no URL"),
        (("--tenant", "acme", "--forward-to", "localhost", "--url", "http://[1"), 1, "is no URL"),
        (("--tenant", "acme", "--forward-to", "localhost", "--url", "http://127.0.0.1:1"), 1, "does not answer"),
        (("--tenant", "acme", "--forward-to", "localhost", "-e", "a.b", "--route", "0" * 32), 2, "leave --event-type out"),
        (("--tenant", "acme", "--forward-to", "localhost", "--token", "hl_a\nb"), 2, "characters that no token has"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_said_at_once(
    without_database: CommandLine, options: tuple[str, ...], code: int, message: str
) -> None:
    ended = without_database("listen", *options, code=code)
    assert message in ended.err
    assert "try: " in ended.err


def test_without_a_daemon_there_is_only_its_error(without_database: CommandLine) -> None:
    url = "http://127.0.0.1:1"
    given = ("--tenant", "acme", "--forward-to", "localhost", "--url", url)
    assert without_database("listen", *given, code=1).err.splitlines() == [
        f"error: {url} does not answer: Connection refused",
        "try: see whether the daemon runs, and where it listens: --url",
    ]


async def test_a_server_that_is_no_daemon_is_recognised(without_database: CommandLine) -> None:
    async with receiver() as there:
        there.answer["/v1/tenants/acme/feed"] = status(200)
        process = without_database.start("listen", "--tenant", "acme", "--forward-to", there.url, "--url", there.url)
        said = await asyncio.to_thread(process.communicate)
    assert process.returncode == 1
    assert "answers, but not as a Hookledger daemon does" in said[1]
