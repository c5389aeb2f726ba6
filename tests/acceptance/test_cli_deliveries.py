"""`hookledger deliveries`: the log at a terminal, and sending one or a period again."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from tests.support.processes.cli import CommandLine
from tests.support.processes.running import publish, running
from tests.support.receivers.receiver import once, receiver, status
from tests.support.until import until

ACME = ("--tenant", "acme")


def ago(**times: int) -> str:
    return (datetime.now(UTC) - timedelta(**times)).isoformat()


async def test_deliveries_are_listed_shown_and_sent_again(hookledger: CommandLine) -> None:
    async with receiver() as there, running(hookledger) as daemon:
        there.answer["/gone"] = once(status(400))
        route = hookledger.create_route("--target-url", f"{there.url}/gone", "--dev")["id"]
        await publish(daemon, "first")
        await there.count(1)
        await publish(daemon, "second")
        await there.count(2)

        def listed(*options: str) -> list[dict[str, Any]]:
            found: list[dict[str, Any]] = hookledger("deliveries", "list", *ACME, *options, "--json").json
            return found

        await until(lambda: [each["status"] for each in listed()] == ["delivered", "pending"])
        second, first = listed()
        assert (second["event"]["id"], first["event"]["id"]) == ("second", "first")
        assert [each["id"] for each in listed("--status", "retrying")] == [first["id"]]
        assert [each["id"] for each in listed("--event", "second")] == [second["id"]]
        assert [each["id"] for each in listed("--limit", "1")] == [second["id"]]
        assert [each["id"] for each in listed("--route", route, "-e", "order.create")] == [second["id"], first["id"]]
        assert listed("-e", "order.remove") == []
        table = hookledger("deliveries", "list", *ACME).out.splitlines()
        assert [re.split(r"  +", line.strip())[5:8] for line in table[1:]] == [
            ["delivered", "1", "204"],
            ["pending", "1", "400"],
        ]

        shown = hookledger("deliveries", "show", first["id"], *ACME)
        assert re.search(r"status\s+pending", shown.out)
        assert re.search(r"1\s+\S+ \S+\s+\d+\s+retrying\s+400", shown.out)
        (attempt,) = hookledger("deliveries", "show", first["id"], *ACME, "--json").json["attempts"]
        assert attempt["request"]["headers"]["webhook-id"] == first["id"]
        assert attempt["response"]["body"] == "status 400"

        said = hookledger("deliveries", "retry", first["id"], *ACME, "--reason", "it is mended")
        assert "it is due now" in said.err
        again = (await there.count(3))[-1]
        assert again.headers["webhook-id"] == first["id"]
        once_more = hookledger("deliveries", "retry", second["id"], *ACME, "--json")
        assert (once_more.json, once_more.err) == ({"id": second["id"], "state": "due"}, "")
        await there.count(4)
        await until(lambda: listed("--status", "retrying") == [])
        assert re.search(r"sent by hand\s+\S+ \S+ by cli:", hookledger("deliveries", "show", first["id"], *ACME).out)
        assert await daemon.stop() == 0


async def test_a_period_is_counted_asked_for_and_sent_again(hookledger: CommandLine) -> None:
    async with receiver() as there, running(hookledger) as daemon:
        route = hookledger.create_route("--target-url", f"{there.url}/ok", "--dev")["id"]
        for event in ("first", "second"):
            await publish(daemon, event)
        await there.count(2)
        since = ("--from", ago(hours=1))
        replay = ("deliveries", "replay", route, *since)

        def counted(*options: str) -> int:
            return int(hookledger(*replay, "--dry-run", *options, "--json").json["count"])

        await until(lambda: counted("--status", "all") == 2)
        assert counted() == 0
        assert "is never sent" in hookledger(*replay, "--to", ago(minutes=30), code=1).err
        assert "there is nothing to send again" in hookledger(*replay, code=1).err
        for answer in ("n\n", "\n", "what\n"):
            asked = hookledger(*replay, "--status", "all", code=1, stdin=answer).err
            assert re.search(r"2 deliveries of events from \S+ \S+ on would be sent again", asked)
            assert "\nerror: nothing was sent\n" in asked
        assert "there are no replays" in hookledger("deliveries", "replays", route).out

        begun = hookledger(*replay, "--status", "all", "--reason", "we lost them", "--json", stdin="y\n").json
        assert (begun["total"], begun["reason"]) == (2, "we lost them")
        again = (await there.count(4))[2:]
        assert {each.headers["webhook-id"] for each in again} == {
            each.headers["webhook-id"] for each in there.received[:2]
        }

        def states() -> list[str]:
            return [each["state"] for each in hookledger("deliveries", "replays", route, "--json").json]

        await until(lambda: states() == ["done"])
        cancel = ("deliveries", "cancel-replay", route, begun["id"])
        assert "there is nothing left to cancel" in hookledger(*cancel, code=1).err
        assert await daemon.stop() == 0


def test_a_replay_waits_for_a_daemon_and_can_be_cancelled(hookledger: CommandLine) -> None:
    route = hookledger.create_route()["id"]
    replay = ("deliveries", "replay", route, "--from", ago(hours=1), "--status", "all", "--yes")
    begun = hookledger(*replay, "--json").json
    assert begun["state"] in {"running", "done"}
    for wrong, said in (
        (("deliveries", "replay", route, "--from", ago(hours=1), "--to", ago(hours=2)), "--from must be before --to"),
        (("deliveries", "replay", str(uuid4()), "--from", ago(hours=1), "--yes"), "there is no route"),
        (("deliveries", "replay", route, "--from", ago(hours=1), "--tenant", "globex", "--yes"), "there is no route"),
        (("deliveries", "replays", str(uuid4())), "there is no route"),
        (("deliveries", "cancel-replay", route, str(uuid4())), "has no replay"),
    ):
        assert said in hookledger(*wrong, code=None).err
    hookledger("routes", "disable", route)
    assert "disabled" in hookledger(*replay, code=None).err


def test_what_is_not_there_is_said(hookledger: CommandLine) -> None:
    assert "there are no such deliveries" in hookledger("deliveries", "list", *ACME).out
    assert "error: a text is not UTF-8" in hookledger("deliveries", "list", "--tenant", "\udcff", code=1).err
    nothing = str(uuid4())
    for command in ("show", "retry"):
        for event in ((), ("--event", "evt_1")):
            ended = hookledger("deliveries", command, nothing, *ACME, *event, code=1)
            assert f"tenant acme has no delivery {nothing}" in ended.err
            assert "hookledger deliveries list --tenant acme" in ended.err
        assert "must be object.action" in hookledger("deliveries", "list", *ACME, "-e", "Order", code=2).err
        assert "is no delivery id" in hookledger("deliveries", command, "no", *ACME, code=2).err


async def test_what_happened_while_a_webhook_was_disabled_is_not_sent(hookledger: CommandLine) -> None:
    async with receiver() as there, running(hookledger) as daemon:
        route = hookledger.create_route("--target-url", there.url, "--dev")["id"]
        await publish(daemon, "sent")
        await there.count(1)
        await until(lambda: hookledger("deliveries", "list", *ACME, "--status", "delivered", "--json").json)
        (delivered,) = hookledger("deliveries", "list", *ACME, "--json").json
        hookledger("routes", "disable", route)
        assert "disabled" in hookledger("deliveries", "retry", delivered["id"], *ACME, code=1).err
        assert await daemon.stop() == 0
