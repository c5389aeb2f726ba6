"""A daemon whose embedded PostgreSQL is killed, as by the kernel's out-of-memory killer: it starts the server again."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from daemon import store
from eventstore.postgres.connect import Database
from tests.support.processes.cli import CommandLine
from tests.support.processes.few_files import no_file_left
from tests.support.processes.running import publish, running
from tests.support.receivers.receiver import receiver
from tests.support.until import until

SECONDS = 60.0


def kill_server(data_dir: Path) -> None:
    os.kill(int((data_dir / "postgres/postmaster.pid").read_text().split()[0]), signal.SIGKILL)


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_server_that_was_killed_is_started_again_and_nothing_is_lost(
    tmp_path: Path, data_dir: Path, workers: str
) -> None:
    hookledger = CommandLine(tmp_path, HOOKLEDGER_DATABASE__DATA_DIR=str(data_dir))
    async with receiver() as there, running(hookledger, "--workers", workers) as daemon:
        hookledger("routes", "create", "--tenant", "acme", "--name", "a", "--url", there.url, "-e", "*", "--dev")
        await publish(daemon, "before")
        kill_server(data_dir)
        await until(lambda: daemon.events("embedded.started_again"), seconds=SECONDS)
        await publish(daemon, "after")
        await there.until(lambda: {json.loads(got.body)["id"] for got in there.received} == {"before", "after"})
        assert len(daemon.events("embedded.ended")) == 1
        assert await daemon.stop() == 0
    assert not (data_dir / "postgres/postmaster.pid").exists()


async def test_a_server_that_cannot_be_started_is_tried_again(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(store, "RETRY_SECONDS", 0.01)
    version = data_dir / "postgres/PG_VERSION"
    with capture_logs() as logged:

        def named(event: str) -> list[str]:
            return [line.get("cause", "") for line in logged if line["event"] == event]

        async with store.embedded_server(data_dir) as server:
            version.rename(data_dir / "elsewhere")
            kill_server(data_dir)
            await until(lambda: len(named("embedded.not_started")) >= 2, seconds=SECONDS)
            (data_dir / "elsewhere").rename(version)
            await until(lambda: named("embedded.started_again"), seconds=SECONDS)
            async with store.opened(Database(server.url, pool_size=1)) as database, database.connection() as connection:
                assert await connection.fetchval("SELECT 1") == 1
    assert all(named("embedded.not_started"))


async def test_a_server_is_watched_though_no_file_and_no_thread_was_left_for_a_while(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(store, "RETRY_SECONDS", 0.01)
    threads = asyncio.to_thread

    async def no_thread(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with capture_logs() as logged:

        def named(event: str) -> list[str]:
            return [line.get("cause", "") for line in logged if line["event"] == event]

        async with store.embedded_server(data_dir) as server:
            with no_file_left():
                await until(lambda: len(named("embedded.unwatched")) >= 2, seconds=SECONDS)
            monkeypatch.setattr(asyncio, "to_thread", no_thread)
            kill_server(data_dir)
            await until(lambda: len(named("embedded.not_started")) >= 2, seconds=SECONDS)
            monkeypatch.setattr(asyncio, "to_thread", threads)
            await until(lambda: named("embedded.started_again"), seconds=SECONDS)
            async with store.opened(Database(server.url, pool_size=1)) as database, database.connection() as connection:
                assert await connection.fetchval("SELECT 1") == 1
    assert "Too many open files" in named("embedded.unwatched")[0]
