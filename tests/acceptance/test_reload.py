"""SIGHUP: the configuration is read anew, and applied without an interruption or refused as a whole."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import shutil
import signal
import socket
import sys
import tempfile
import time
from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest
from aiohttp import ClientSession, ClientTimeout, TCPConnector

from tests.support.processes.cli import CommandLine
from tests.support.processes.reloading import SECONDS, reload
from tests.support.processes.running import Running, running
from tests.support.until import until

IN_ONE_PROCESS_AND_IN_TWO = pytest.mark.parametrize("workers", ["1", "2"])


class Answers:
    """Asks a daemon by a new connection each time, so that any incarnation of any worker may answer."""

    def __init__(self, daemon: Running) -> None:
        self._url = daemon.url

    async def status(self, path: str, *, token: str = "") -> int:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connector = TCPConnector(force_close=True)
        async with (
            ClientSession(self._url, connector=connector, timeout=ClientTimeout(total=SECONDS)) as http,
            http.get(path, headers=headers) as answer,
        ):
            await answer.read()
            return answer.status

    async def statuses(self, path: str, *, token: str = "") -> set[int]:
        return {await self.status(path, token=token) for _ in range(12)}


@pytest.fixture
def file(hookledger: CommandLine) -> Path:
    """The configuration file of the daemon."""
    path = hookledger.home / "hookledger.toml"
    path.write_text("")
    hookledger.environment["HOOKLEDGER_CONFIG"] = str(path)
    return path


@IN_ONE_PROCESS_AND_IN_TWO
async def test_a_reload_takes_what_stands_in_the_files_now_secrets_too(
    hookledger: CommandLine, file: Path, workers: str
) -> None:
    secret = hookledger.home / "admin_token"
    secret.write_text("a" * 40)
    hookledger.environment["HOOKLEDGER_SERVER__ADMIN_TOKEN_FILE"] = str(secret)
    async with running(hookledger, "--workers", workers) as daemon:
        answers = Answers(daemon)
        assert await answers.statuses("/v1/status", token="a" * 40) == {200}
        secret.write_text("b" * 40)
        file.write_text('[log]\nlevel = "debug"\n[limits]\nroutes_per_tenant = 7\n')
        told = await reload(daemon)
        assert (told["event"], told["level"]) == ("config.reloaded", "info")
        assert told["changed"] == ["server.admin_token", "limits.routes_per_tenant", "log.level"]
        assert await answers.statuses("/v1/status", token="a" * 40) == {401}
        assert await answers.statuses("/v1/status", token="b" * 40) == {200}
        # A worker that is started later is started by it, too.
        for line in daemon.events("worker.started")[-1:]:
            os.kill(line["pid"], signal.SIGKILL)
            await until(lambda: len(daemon.events("daemon.started")) == int(workers) + 1, seconds=SECONDS)
            assert await answers.statuses("/v1/status", token="a" * 40) == {401}
        assert (await reload(daemon))["changed"] == []
        assert await daemon.stop() == 0
        text = daemon.log.read_text()
        assert "a" * 40 not in text
        assert "b" * 40 not in text


async def test_what_was_read_from_a_pipe_cannot_be_read_anew_and_so_a_reload_is_refused(
    hookledger: CommandLine, file: Path
) -> None:
    """As with `--config <(…)`: there is nothing left in it, and no key at all would be the new configuration."""
    secret = hookledger.home / "admin_token"
    hookledger.environment["HOOKLEDGER_SERVER__ADMIN_TOKEN_FILE"] = str(secret)
    file.unlink()
    os.mkfifo(file)
    os.mkfifo(secret)
    async with AsyncExitStack() as stack:
        group = await stack.enter_async_context(asyncio.TaskGroup())
        group.create_task(asyncio.to_thread(file.write_text, "[limits]\nroutes_per_tenant = 7\n"))
        group.create_task(asyncio.to_thread(secret.write_text, "a" * 40))
        daemon = await stack.enter_async_context(running(hookledger))
        told = await reload(daemon)
        assert told["event"] == "config.refused"
        reason = "it is a pipe, which cannot be read a second time; restart the daemon"
        assert told["problems"] == [f"{file}: {reason}", f"HOOKLEDGER_SERVER__ADMIN_TOKEN_FILE: {secret}: {reason}"]
        answers = Answers(daemon)
        assert await answers.statuses("/v1/status") == {401}
        assert await answers.statuses("/v1/status", token="a" * 40) == {200}
        assert await daemon.stop() == 0


@IN_ONE_PROCESS_AND_IN_TWO
async def test_a_configuration_with_an_error_is_refused_in_the_words_of_a_start_and_changes_nothing(
    hookledger: CommandLine, file: Path, workers: str
) -> None:
    async with running(hookledger, "--workers", workers) as daemon:
        answers = Answers(daemon)
        file.write_text('[dashboard]\nname = "Hooks"\n[log]\nlevle = "info"\n[delivery]\nconcurrency = 0\n')
        told = await reload(daemon)
        assert (told["event"], told["level"]) == ("config.refused", "error")
        assert len(told["problems"]) == 2
        said = hookledger("config", "check", code=78).err
        assert [f"error: {problem}" for problem in told["problems"]] == said.splitlines()
        file.unlink()
        (missing,) = (await reload(daemon))["problems"]
        assert missing == f"{file}: No such file or directory; check the path given with --config"
        assert await answers.statuses("/readyz") == {200}
        assert daemon.events("worker.died", "daemon.stopping") == []
        file.write_text("")
        assert (await reload(daemon))["changed"] == []
        assert await daemon.stop() == 0


@IN_ONE_PROCESS_AND_IN_TWO
async def test_a_reload_that_would_take_a_restart_is_refused_as_a_whole(
    hookledger: CommandLine, file: Path, workers: str
) -> None:
    async with running(hookledger, "--workers", workers) as daemon:
        file.write_text(
            '[server]\nadmin_token = "secret"\nops_listen = "127.0.0.1:0"\n[database]\ndata_dir = "/else"\n'
        )
        told = await reload(daemon)
        assert told["event"] == "config.refused"
        assert [problem.partition(":")[0] for problem in told["problems"]] == ["server.ops_listen", "database.data_dir"]
        assert all("restart" in problem for problem in told["problems"])
        assert await Answers(daemon).statuses("/v1/status") == {200}, "the token is not asked for"
        assert await daemon.stop() == 0


@IN_ONE_PROCESS_AND_IN_TWO
async def test_what_only_a_start_would_find_is_refused_too(hookledger: CommandLine, file: Path, workers: str) -> None:
    authorities = hookledger.home / "ca.pem"
    authorities.write_text("this is no certificate")
    async with running(hookledger, "--workers", workers) as daemon:
        file.write_text(f'[egress]\nextra_ca_file = "{authorities}"\n')
        told = await reload(daemon)
        assert told["event"] == "config.refused"
        assert told["problems"], "it says why"
        assert await Answers(daemon).statuses("/readyz") == {200}
        file.write_text("")
        assert (await reload(daemon))["event"] == "config.reloaded"
        assert await daemon.stop() == 0


@IN_ONE_PROCESS_AND_IN_TWO
async def test_a_request_during_reloads_is_answered_by_one_that_is_ready(
    hookledger: CommandLine, file: Path, workers: str
) -> None:
    async with running(hookledger, "--workers", workers) as daemon:
        answers, seen = Answers(daemon), set()
        reloads = asyncio.create_task(_reload_often(daemon, 3))
        while not reloads.done():
            seen.add(await answers.status("/readyz"))
        await reloads
        assert seen == {200}
        assert await daemon.stop() == 0


async def _reload_often(daemon: Running, times: int) -> None:
    for _ in range(times):
        assert (await reload(daemon))["event"] == "config.reloaded"


async def test_signals_during_a_reload_lead_to_one_more_together(hookledger: CommandLine, file: Path) -> None:
    async with running(hookledger) as daemon:
        for _ in range(20):
            daemon.process.send_signal(signal.SIGHUP)
        file.write_text("[limits]\nroutes_per_tenant = 7\n")
        daemon.process.send_signal(signal.SIGHUP)

        def changes() -> list[list[str]]:
            return [line["changed"] for line in daemon.events("config.reloaded")]

        await until(lambda: ["limits.routes_per_tenant"] in changes(), seconds=SECONDS)
        assert await daemon.stop() == 0
        assert len(daemon.events("config.reloaded")) <= 4


@IN_ONE_PROCESS_AND_IN_TWO
async def test_a_signal_during_the_start_is_kept_until_the_daemon_is_ready(
    hookledger: CommandLine, file: Path, workers: str
) -> None:
    process = hookledger.start("run", "--dev", "--listen", "127.0.0.1:0", "--workers", workers)
    try:
        status = Path(f"/proc/{process.pid}/status")
        await until(lambda: _does_not_die_of_hangup(status.read_text()), seconds=SECONDS)
        process.send_signal(signal.SIGHUP)
        assert process.stdout is not None
        assert process.stderr is not None
        assert (await asyncio.to_thread(process.stdout.readline)).startswith("ready: ")
        while json.loads(await asyncio.to_thread(process.stderr.readline))["event"] != "config.reloaded":
            pass
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, SECONDS) == 0
    finally:
        process.kill()
        process.communicate()


def _does_not_die_of_hangup(status: str) -> bool:
    """Whether SIGHUP is blocked or caught."""
    masks = re.findall(r"^Sig(?:Blk|Cgt):\s+([0-9a-f]+)$", status, re.MULTILINE)
    return any(int(mask, 16) & 1 << signal.SIGHUP - 1 for mask in masks)


@IN_ONE_PROCESS_AND_IN_TWO
async def test_a_stop_in_the_middle_of_a_reload_is_a_stop(hookledger: CommandLine, file: Path, workers: str) -> None:
    async with running(hookledger, "--workers", workers) as daemon:
        daemon.process.send_signal(signal.SIGHUP)
        assert await daemon.stop() == 0
        assert daemon.events("config.refused", "daemon.killed", "worker.died") == []


async def test_the_embedded_server_stays_up(tmp_path: Path) -> None:
    data_dir = Path(tempfile.mkdtemp(prefix="hookledger-test-"))  # its parents are readable to the server's user
    try:
        hookledger = CommandLine(tmp_path, HOOKLEDGER_DATABASE__DATA_DIR=str(data_dir))
        for workers in ("1", "2"):
            async with running(hookledger, "--workers", workers) as daemon:
                server = (data_dir / "postgres/postmaster.pid").read_text()
                await reload(daemon)
                assert (await reload(daemon))["event"] == "config.reloaded"
                assert (data_dir / "postgres/postmaster.pid").read_text() == server
                assert await daemon.stop() == 0
            assert not (data_dir / "postgres/postmaster.pid").exists()
    finally:
        shutil.rmtree(data_dir)


async def test_a_service_manager_is_told_of_a_reload_and_how_it_went(hookledger: CommandLine, file: Path) -> None:
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as manager:
        manager.bind(str(hookledger.home / "notify"))
        manager.settimeout(SECONDS)
        hookledger.environment["NOTIFY_SOCKET"] = manager.getsockname()

        async def told() -> dict[str, str]:
            lines = (await asyncio.to_thread(manager.recv, 4096)).decode().splitlines()
            return dict(line.split("=", 1) for line in lines)

        async with running(hookledger) as daemon:
            assert await told() == {"READY": "1"}
            before = time.monotonic_ns() // 1000
            for content, status in (
                ("[limits]\nroutes_per_tenant = 7\n", "configuration reloaded: limits.routes_per_tenant"),
                ("[limits]\nroutes_per_tenant = 0\n", "new configuration refused, the former one goes on: "),
            ):
                file.write_text(content)
                daemon.process.send_signal(signal.SIGHUP)
                begun = await told()
                assert begun["RELOADING"] == "1"
                assert before <= int(begun["MONOTONIC_USEC"]) <= time.monotonic_ns() // 1000
                ended = await told()
                assert ended["READY"] == "1"
                assert ended["STATUS"].startswith(status)
                assert "limits.routes_per_tenant" in ended["STATUS"]
            assert await daemon.stop() == 0
            assert await told() == {"STOPPING": "1"}


def run_in_a_terminal(hookledger: CommandLine, *, by_nohup: bool) -> tuple[int, int]:
    """The process id of a daemon, and the other end of its terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(hookledger.home)
        os.dup2(os.open("daemon.log", os.O_WRONLY | os.O_CREAT, 0o600), 2)
        signal.signal(signal.SIGHUP, signal.SIG_IGN if by_nohup else signal.SIG_DFL)
        arguments = ["-m", "daemon", "run", "--dev", "--listen", "127.0.0.1:0"]
        os.execve(sys.executable, [sys.executable, *arguments], hookledger.environment)
    return pid, terminal


@pytest.mark.parametrize("by_nohup", [False, True])
async def test_a_terminal_that_is_closed_stops_the_daemon_unless_nohup_started_it(
    hookledger: CommandLine, *, by_nohup: bool
) -> None:
    pid, terminal = run_in_a_terminal(hookledger, by_nohup=by_nohup)
    try:
        assert b"ready: " in await asyncio.to_thread(os.read, terminal, 4096)
        os.close(terminal)
        if by_nohup:
            log = hookledger.home / "daemon.log"
            await until(lambda: '"config.reloaded"' in log.read_text(), seconds=SECONDS)
            os.kill(pid, signal.SIGTERM)
        _, status = await asyncio.wait_for(asyncio.to_thread(os.waitpid, pid, 0), SECONDS)
        assert os.waitstatus_to_exitcode(status) == 0
    except BaseException:
        os.kill(pid, signal.SIGKILL)
        raise
    lines = (hookledger.home / "daemon.log").read_text().splitlines()
    names = [json.loads(line)["event"] for line in lines]
    assert names[-1] == "daemon.stopped"
    assert ("config.reloaded" in names) == by_nohup
