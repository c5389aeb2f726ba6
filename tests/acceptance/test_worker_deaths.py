"""The reaction of a parent to workers that refuse to start, hang or keep dying. Here workers are shell scripts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from daemon.config import load
from daemon.web.http.listeners import open_listeners
from daemon.workers.parent import Workers
from tests.support.until import until

SECONDS = 30.0


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
