"""A daemon whose output streams are full, closed, or read by nobody: it delivers, answers, counts and stops as usual."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from typing import BinaryIO

import pytest
from aiohttp import ClientSession, ClientTimeout

from tests.support.processes.broken_streams import CLOSED, FULL, SECONDS, Started, started
from tests.support.processes.cli import CommandLine
from tests.support.processes.pipes import full_pipe
from tests.support.receivers.receiver import gate, receiver

DROPPED = "hookledger_log_lines_dropped_total"


async def dropped(http: ClientSession) -> float:
    async with http.get("/metrics") as answer:
        found = re.search(rf"^{DROPPED} (\S+)$", await answer.text(), re.MULTILINE)
    return float(found.group(1)) if found else 0.0


async def until_dropped(http: ClientSession, is_enough: Callable[[float], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not is_enough(await dropped(http)):
            await asyncio.sleep(0.05)


async def deliver(it: Started, *, count: int) -> None:
    """Publishes `count` events and waits until all of them are delivered. Each of them is a line of the log."""
    async with receiver() as there, ClientSession(it.url, timeout=ClientTimeout(total=SECONDS)) as http:
        route = {"name": "a route", "target_url": there.url, "event_types": ["*"]}
        async with http.post("/v1/tenants/acme/routes", json=route) as answer:
            assert answer.status == 201
        lines = [json.dumps({"tenant": "acme", "type": "order.create", "data": {"n": n}}) for n in range(count)]
        headers = {"Content-Type": "application/x-ndjson"}
        async with http.post("/v1/events", data="\n".join(lines), headers=headers) as answer:
            assert answer.status == 202
        await there.count(count, seconds=SECONDS)


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("shell", [FULL, CLOSED], ids=["full", "closed"])
async def test_a_log_that_cannot_be_written_costs_the_lines_and_nothing_else(
    hookledger: CommandLine, shell: str, workers: str
) -> None:
    async with started(hookledger, "--workers", workers, shell=shell.format(stream=2)) as it:
        await deliver(it, count=20)
        async with ClientSession(it.url) as http:
            await until_dropped(http, lambda lines: lines > 20)
        assert await it.stop() == 0


async def test_a_log_whose_reader_left_costs_the_lines_and_nothing_else(hookledger: CommandLine) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    async with started(hookledger, stderr=writing) as it:
        os.close(writing)
        await deliver(it, count=20)
        async with ClientSession(it.url) as http:
            await until_dropped(http, lambda lines: lines > 20)
        assert await it.stop() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_log_that_nobody_reads_stops_neither_deliveries_nor_the_end(
    hookledger: CommandLine, workers: str
) -> None:
    with full_pipe() as (_reading, writing):
        async with started(hookledger, "--workers", workers, stderr=writing) as it:
            await deliver(it, count=100)
            assert await it.stop() == 0


async def test_what_waited_for_a_reader_is_there_when_one_comes(hookledger: CommandLine) -> None:
    with full_pipe() as (reading, writing):
        async with started(hookledger, stderr=writing) as it:
            await deliver(it, count=20)
            with os.fdopen(os.dup(reading), "rb") as pipe:
                text = asyncio.create_task(asyncio.to_thread(read_until, pipe, b'"daemon.stopped"'))
                assert await it.stop() == 0
                lines = await asyncio.wait_for(text, SECONDS)
    events = Counter(json.loads(line.lstrip(b"x"))["event"] for line in lines)
    assert events["delivery.attempted"] == 20
    assert events["daemon.started"] == events["daemon.stopped"] == 1


def read_until(pipe: BinaryIO, end: bytes) -> list[bytes]:
    """The lines of a pipe, up to the first one with `end` in it."""
    lines = []
    for line in pipe:
        lines.append(line)
        if end in line:
            break
    return lines


async def test_a_second_signal_ends_a_daemon_whose_log_nobody_reads(hookledger: CommandLine) -> None:
    with full_pipe() as (_reading, writing):
        async with started(hookledger, stderr=writing) as it, receiver() as there:
            opened = gate(there, "/")
            async with ClientSession(it.url) as http:
                route = {"name": "a route", "target_url": there.url + "/", "event_types": ["*"]}
                async with http.post("/v1/tenants/acme/routes", json=route) as created:
                    assert created.status == 201
                event = {"tenant": "acme", "type": "order.create", "data": {}}
                async with http.post("/v1/events", json=event) as published:
                    assert published.status == 202
            await there.count(1, seconds=SECONDS)
            it.process.send_signal(signal.SIGTERM)
            await until_draining(it)
            it.process.send_signal(signal.SIGTERM)
            assert await asyncio.to_thread(it.process.wait, SECONDS) == 1
            opened.set()


async def until_draining(it: Started) -> None:
    async with ClientSession(it.url, timeout=ClientTimeout(total=SECONDS)) as http, asyncio.timeout(SECONDS):
        while True:
            async with http.get("/readyz") as answer:
                if answer.status == 503:
                    return
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("shell", [FULL, CLOSED], ids=["full", "closed"])
async def test_a_daemon_that_cannot_say_its_address_runs_all_the_same(hookledger: CommandLine, shell: str) -> None:
    async with started(hookledger, shell=shell.format(stream=1)) as it:
        await deliver(it, count=1)
        assert await it.stop() == 0


async def test_a_daemon_whose_address_nobody_reads_runs_all_the_same(hookledger: CommandLine) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    async with started(hookledger, stdout=writing) as it:
        os.close(writing)
        await deliver(it, count=1)
        assert await it.stop() == 0
    with full_pipe() as (_reading, full):
        async with started(hookledger, stdout=full) as it:
            await deliver(it, count=1)
            assert await it.stop() == 0


def test_an_error_that_cannot_be_said_keeps_its_exit_code(without_database: CommandLine) -> None:
    command = [sys.executable, "-m", "daemon", "run", "--config", "nowhere.toml"]
    for shell in (FULL, CLOSED):
        ended = subprocess.run(
            ["sh", "-c", shell.format(stream=2), "sh", *command],
            cwd=without_database.home,
            env=without_database.environment,
            stdout=subprocess.DEVNULL,
            timeout=SECONDS,
            check=False,
        )
        assert ended.returncode == 78
