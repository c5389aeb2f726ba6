"""Another version is installed over a running daemon: it starts no process of it, goes on, and says that it must restart.

Each test has a copy of the packages, with a version of its own, that is then replaced by another one.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession, ClientTimeout, TCPConnector

from tests.support.processes.cli import HERE, CommandLine
from tests.support.until import until

SECONDS = 30.0


class Installation:
    """The packages in a folder, installed as some version."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for package in ("daemon", "eventstore"):
            shutil.copytree(HERE / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(HERE / "schema.sql", folder)
        self.install("7.0")

    def install(self, version: str) -> None:
        for former in self.folder.glob("hookledger-*.dist-info"):
            shutil.rmtree(former)
        own = self.folder / f"hookledger-{version}.dist-info"
        own.mkdir()
        (own / "METADATA").write_text(f"Metadata-Version: 2.1\nName: hookledger\nVersion: {version}\n")


class Upgraded:
    """A daemon of version 7.0, and its log."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path, url: str) -> None:
        self.process = process
        self.log = log
        self.url = url

    def has(self, *texts: str) -> bool:
        return any(all(text in line for text in texts) for line in self.log.read_text().splitlines())

    async def until(self, *texts: str) -> None:
        await until(lambda: self.has(*texts), seconds=SECONDS)

    async def warnings(self) -> list[str]:
        async with (
            ClientSession(self.url, connector=TCPConnector(force_close=True), timeout=ClientTimeout(SECONDS)) as http,
            http.get("/v1/status") as answer,
        ):
            assert answer.status == 200
            found: list[str] = (await answer.json())["warnings"]
            return found


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path / "installed")


@asynccontextmanager
async def running(hookledger: CommandLine, installation: Installation, *options: str) -> AsyncIterator[Upgraded]:
    log = hookledger.home / "daemon.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "daemon", "run", "--dev", "--listen", "127.0.0.1:0", *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=file,
            cwd=hookledger.home,
            env={**hookledger.environment, "PYTHONPATH": str(installation.folder)},
        )
    try:
        assert process.stdout is not None
        line = await asyncio.wait_for(asyncio.to_thread(process.stdout.readline), SECONDS)
        url = line.decode().split()[-1]
        assert url.startswith("http://"), log.read_text()
        yield Upgraded(process, log, url)
        assert "Traceback" not in log.read_text()
    finally:
        process.kill()
        process.communicate()


def workers_of(daemon: Upgraded) -> list[int]:
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(daemon.process.pid)], capture_output=True, check=False)
    return sorted(map(int, found.stdout.split()))


async def test_a_worker_of_another_version_is_refused_and_the_others_go_on(
    hookledger: CommandLine, installation: Installation
) -> None:
    async with running(hookledger, installation, "--workers", "2") as daemon:
        assert not any("installed" in each for each in await daemon.warnings())
        installation.install("7.1")
        first, second = workers_of(daemon)
        os.kill(first, signal.SIGKILL)
        await daemon.until("worker.other_version", '"version":"7.0"', '"installed":"7.1"', "restart the daemon")
        await daemon.until("error: this is Hookledger 7.1, and it was started by 7.0")
        assert any(
            "Hookledger 7.1 has been installed" in each and "restart" in each for each in await daemon.warnings()
        )
        os.kill(second, signal.SIGKILL)
        assert await asyncio.to_thread(daemon.process.wait, SECONDS) == 1


async def test_a_worker_is_started_again_once_its_version_is_back(
    hookledger: CommandLine, installation: Installation
) -> None:
    async with running(hookledger, installation, "--workers", "2") as daemon:
        installation.install("7.1")
        os.kill(workers_of(daemon)[0], signal.SIGKILL)
        await daemon.until("worker.other_version")
        installation.install("7.0")
        await until(lambda: daemon.log.read_text().count("daemon.started") == 3, seconds=SECONDS)
        daemon.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(daemon.process.wait, SECONDS) == 0


async def test_a_reload_is_refused_by_a_daemon_whose_files_were_replaced(
    hookledger: CommandLine, installation: Installation
) -> None:
    async with running(hookledger, installation) as daemon:
        installation.install("7.1")
        daemon.process.send_signal(signal.SIGHUP)
        await daemon.until("config.refused", "Hookledger 7.1 has been installed", "try: restart the daemon")
        assert not daemon.has("config.reloaded")
        daemon.process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(daemon.process.wait, SECONDS) == 0
