"""The reaction of a parent to workers that refuse to start, hang or keep dying. Here workers are shell scripts."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from daemon.config import Config, load
from daemon.web.http.listeners import open_listeners
from daemon.workers import watchdog
from daemon.workers.parent import Workers
from tests.support.processes.cli import HERE
from tests.support.until import until

SECONDS = 30.0

# A worker that notes in `told` how many routes a tenant may have now, and refuses the number that it dislikes.
RELUCTANT = f"""exec {sys.executable} -c '
import os, pickle, sys
sys.path.insert(0, "{HERE}")
def read():
    size = int.from_bytes(sys.stdin.buffer.read(4), "big")
    return pickle.loads(sys.stdin.buffer.read(size)) if size else None
orders = read()
config, number = orders.config, orders.number
while config is not None:
    routes = config.limits.routes_per_tenant
    with open("TOLD", "a") as told:
        print(number, routes, file=told)
    if routes == number + 1:
        REFUSE
    else:
        os.write(1, b"ready\\n")
    config = read()
'"""


@asynccontextmanager
async def workers_of(tmp_path: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Workers]:
    """Two workers that run this shell script. Each start writes a line into `starts`."""
    program = tmp_path / "worker"
    program.write_text(f"#!/bin/sh\necho >> {tmp_path}/starts\n{script}\n")
    program.chmod(0o700)
    monkeypatch.setattr("daemon.workers.parent.sys.executable", str(program))
    config = load(None, {"HOME": str(tmp_path)}, listen="127.0.0.1:0")
    listeners = open_listeners(config.server)
    workers = Workers(config, 2, listeners, directory=tmp_path, inherited=())
    try:
        yield workers
    finally:
        workers.kill()
        listeners.close()


async def test_a_worker_that_refuses_to_start_ends_the_whole_with_its_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    were_ready: list[None] = []
    async with workers_of(tmp_path, "exit 78", monkeypatch) as workers, asyncio.timeout(SECONDS):
        assert await workers.run(lambda: were_ready.append(None)) == 78
    assert were_ready == []
    assert (tmp_path / "starts").read_text() == "\n"


async def test_a_worker_that_the_database_refuses_at_its_first_start_ends_no_other_and_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where PostgreSQL starts anew, or has connections for some of the workers only."""
    monkeypatch.setattr("daemon.workers.parent.pause_seconds", lambda _failures: 0.01)
    refused_twice = f"case $(wc -l < {tmp_path}/starts) in 2|3) exit 69;; esac; echo ready; exec cat > /dev/null"
    async with workers_of(tmp_path, refused_twice, monkeypatch) as workers, asyncio.timeout(SECONDS):
        workers._finish_seconds = 0.1
        running = asyncio.create_task(workers.run(lambda: None))
        await asyncio.wait(
            [running, ready := asyncio.create_task(workers.is_ready.wait_set())], return_when="FIRST_COMPLETED"
        )
        assert ready.done()
        assert len((tmp_path / "starts").read_text()) == 4
        workers.stop()
        await running


async def test_a_worker_without_signs_of_life_is_killed_and_one_with_them_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "PING_SECONDS", 0.1)
    silent = f"""exec {sys.executable} -c '
import os, pickle, sys, time
sys.path.insert(0, "{HERE}")
orders = pickle.loads(sys.stdin.buffer.read(int.from_bytes(sys.stdin.buffer.read(4), "big")))
os.write(1, b"ready\\n")
while True:
    if orders.number == 0:
        os.write(orders.watchdog, b".")
    time.sleep(0.02)
'"""
    async with workers_of(tmp_path, silent, monkeypatch) as workers, asyncio.timeout(SECONDS):
        workers._finish_seconds = 0.1
        running = asyncio.create_task(workers.run(lambda: None))
        await workers.is_ready.wait_set()
        first = {number: worker.pid for number, worker in workers._alive.items()}
        await until(lambda: 1 in workers._alive and workers._alive[1].pid != first[1], seconds=SECONDS)
        assert workers._alive[0].pid == first[0]
        workers.stop()
        assert await running == 1


async def test_a_worker_that_does_not_finish_in_time_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    were_ready: list[None] = []
    async with workers_of(tmp_path, "echo ready; exec cat > /dev/null", monkeypatch) as workers:
        workers._finish_seconds = 0.1
        async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
            running = group.create_task(workers.run(lambda: were_ready.append(None)))
            await until(lambda: were_ready, seconds=SECONDS)
            workers.stop()
        assert running.result() == 1
    assert were_ready == [None]


async def test_a_worker_that_keeps_dying_is_started_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even with a code that would have ended the parent if the worker had never been ready."""
    monkeypatch.setattr("daemon.workers.parent.pause_seconds", lambda _failures: 0.01)
    were_ready: list[None] = []
    async with workers_of(tmp_path, "echo ready; exit 69", monkeypatch) as workers:
        async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
            running = group.create_task(workers.run(lambda: were_ready.append(None)))
            await until(lambda: (tmp_path / "starts").exists() and len((tmp_path / "starts").read_text()) > 6)
            workers.stop()
        assert running.done()
    assert were_ready == [None]


@asynccontextmanager
async def ready_workers(tmp_path: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Workers]:
    """Workers that run, and are stopped by the block and end well."""
    async with (
        asyncio.timeout(SECONDS),
        workers_of(tmp_path, script, monkeypatch) as workers,
        asyncio.TaskGroup() as group,
    ):
        running = group.create_task(workers.run(lambda: None))
        await workers.is_ready.wait_set()
        yield workers
    assert running.result() == 0


def with_routes(tmp_path: Path, limit: int) -> Config:
    environ = {"HOME": str(tmp_path), "HOOKLEDGER_LIMITS__ROUTES_PER_TENANT": str(limit)}
    return load(None, environ, listen="127.0.0.1:0")


async def test_workers_go_back_to_the_former_configuration_if_one_of_them_refuses_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = tmp_path / "told"
    script = RELUCTANT.replace("TOLD", str(told)).replace("REFUSE", 'os.write(1, b"refused not me\\n")')
    async with ready_workers(tmp_path, script, monkeypatch) as workers:
        assert await workers.replace(with_routes(tmp_path, 7)) is None
        failure = await workers.replace(with_routes(tmp_path, 2))
        workers.stop()
    assert str(failure) == "worker 1: not me"
    assert told.read_text().splitlines() == ["0 1000", "1 1000", "0 7", "1 7", "0 2", "1 2", "0 7"]


async def test_a_worker_that_dies_of_a_new_configuration_is_started_by_the_former_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("daemon.workers.parent.pause_seconds", lambda _failures: 0.01)
    told = tmp_path / "told"
    script = RELUCTANT.replace("TOLD", str(told)).replace("REFUSE", "sys.exit(1)")
    async with ready_workers(tmp_path, script, monkeypatch) as workers:
        failure = await workers.replace(with_routes(tmp_path, 1))
        await until(lambda: told.read_text().count("0 1000\n") == 2, seconds=SECONDS)
        workers.stop()
    assert str(failure) == "worker 0: it died"
    assert told.read_text().splitlines() == ["0 1000", "1 1000", "0 1", "0 1000"]
    assert "worker.not_returned" not in capsys.readouterr().err


async def test_a_worker_that_does_not_answer_at_a_reload_is_killed_and_started_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daemon.incarnations.longest_replacement_seconds", lambda _former: 0.1)
    monkeypatch.setattr("daemon.workers.worker.GRACE_SECONDS", 0.0)
    monkeypatch.setattr("daemon.workers.parent.pause_seconds", lambda _failures: 0.01)
    async with (
        asyncio.timeout(SECONDS),
        workers_of(tmp_path, "echo ready; cat > /dev/null", monkeypatch) as workers,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(workers.run(lambda: None))
        await workers.is_ready.wait_set()
        failure = await workers.replace(with_routes(tmp_path, 7))
        await until(lambda: len((tmp_path / "starts").read_text()) == 3, seconds=SECONDS)
        workers._finish_seconds = 0.1
        workers.stop()
    assert str(failure) == "worker 0: it did not answer for 0 s, and was killed"


async def test_a_reload_is_refused_while_no_worker_could_try_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with workers_of(tmp_path, "exit 1", monkeypatch) as workers:
        refused = await workers.replace(load(None, {"HOME": str(tmp_path)}, listen="127.0.0.1:0"))
        assert "no worker runs at this moment" in str(refused)


async def test_what_else_a_worker_prints_before_it_is_ready_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = f"head -c 200000 /dev/zero | tr '\\0' x; echo; echo a library says hello; exec {sys.executable} -c '"
    script = RELUCTANT.replace(f"exec {sys.executable} -c '", noise).replace("TOLD", str(tmp_path / "told"))
    async with ready_workers(tmp_path, script.replace("REFUSE", "pass"), monkeypatch) as workers:
        assert await workers.replace(with_routes(tmp_path, 7)) is None
        workers.stop()
