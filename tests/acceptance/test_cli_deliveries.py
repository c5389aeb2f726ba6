"""`hookledger deliveries`: the log at a terminal, and sending one again."""

from __future__ import annotations

import re
from typing import Any
from uuid import uuid4

from tests.support.processes.cli import CommandLine
from tests.support.processes.running import publish, running
from tests.support.receivers.receiver import once, receiver, status
from tests.support.until import until

ACME = ("--tenant", "acme")


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
        await until(lambda: listed("--status", "retrying") == [])
        assert re.search(r"sent by hand\s+\S+ \S+ by cli:", hookledger("deliveries", "show", first["id"], *ACME).out)
        assert await daemon.stop() == 0


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
