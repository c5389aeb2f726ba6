"""The lines of attempts in the log of a real daemon: of successes as many as are asked for, of failures all."""

from __future__ import annotations

import asyncio
import json

import aiohttp

from tests.support.processes.cli import CommandLine
from tests.support.processes.running import running
from tests.support.receivers.receiver import receiver, status

EVENTS = 30


async def metric(url: str, name: str) -> float:
    async with aiohttp.ClientSession() as session, session.get(f"{url}/metrics") as response:
        lines = (await response.text()).splitlines()
    return next(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


async def test_failures_have_all_their_lines_and_successes_are_counted(hookledger: CommandLine) -> None:
    hookledger.environment |= {
        "HOOKLEDGER_LOG__SUCCESSES_PER_SECOND": "0",
        "HOOKLEDGER_DELIVERY__BREAKER_FAILURES": "1000",
        "HOOKLEDGER_DELIVERY__RETRY_ATTEMPTS": "1",
    }
    async with receiver() as there, running(hookledger) as daemon:
        there.answer["/bad"] = status(500)
        for path in ("/good", "/bad"):
            hookledger.create_route("--target-url", there.url + path, "--dev")
        events = (json.dumps({"tenant": "acme", "type": "order.create", "data": {}}) for _ in range(EVENTS))
        hookledger("publish", stdin="\n".join(events))
        await there.count(2 * EVENTS)
        assert await daemon.stop() == 0
        lines = daemon.lines()
    attempts = [line for line in lines if line["event"] == "delivery.attempted"]
    assert [line["outcome"] for line in attempts] == ["failed"] * EVENTS


async def test_what_is_left_out_is_not_taken_for_what_could_not_be_written(hookledger: CommandLine) -> None:
    hookledger.environment["HOOKLEDGER_LOG__SUCCESSES_PER_SECOND"] = "0"
    async with receiver() as there, running(hookledger) as daemon:
        hookledger.create_route("--target-url", there.url, "--dev")
        hookledger("publish", stdin=json.dumps({"tenant": "acme", "type": "order.create", "data": {}}))
        await there.count(1)
        async with asyncio.timeout(60):
            while not await metric(daemon.url, "hookledger_log_lines_left_out_total"):
                await asyncio.sleep(0.05)  # an outcome is durable within a moment
        assert await metric(daemon.url, "hookledger_log_lines_left_out_total") == 1
        assert await metric(daemon.url, "hookledger_log_lines_dropped_total") == 0
