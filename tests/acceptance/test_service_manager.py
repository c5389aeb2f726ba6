"""A daemon under a service manager: it says when it is ready, that its event loop turns, and that it stops."""

from __future__ import annotations

import asyncio
import itertools
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from ctypes.util import find_library
from datetime import UTC, datetime
from pathlib import Path

import pytest

from daemon import __version__
from daemon.core.webhook.payload import FilterResult, PayloadEvent
from daemon.expressions import messages
from daemon.expressions.messages import FilterJob, FilterReply
from daemon.runtime import service_manager
from tests.support.processes.cli import CommandLine
from tests.support.processes.few_files import no_file_left

UNIT = Path(__file__).parents[2] / "deploy" / "hookledger.service"
SECONDS = 30.0
MOST_EXPOSURE = 1.5
# NOTIFY_BUFFER_MAX of systemd, which is PIPE_BUF.
MANAGER_TAKES_BYTES = 4096


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket of the service manager."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(SECONDS)
        yield listening


def told(manager: socket.socket) -> str:
    return manager.recv(4096).decode()


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_daemon_says_that_it_is_ready_and_alive_and_that_it_stops(
    hookledger: CommandLine, manager: socket.socket, workers: str
) -> None:
    hookledger.environment |= {"NOTIFY_SOCKET": manager.getsockname(), "WATCHDOG_USEC": "300000"}
    process = hookledger.start("run", "--dev", "--listen", "127.0.0.1:0", "--workers", workers)
    try:
        states = []
        while "READY=1" not in states:
            states.append(await asyncio.to_thread(told, manager))
        assert set(states) <= {"READY=1", "WATCHDOG=1"}
        assert await asyncio.to_thread(told, manager) == "WATCHDOG=1"
        process.send_signal(signal.SIGTERM)
        while (state := await asyncio.to_thread(told, manager)) == "WATCHDOG=1":
            pass
        assert state == "STOPPING=1"
        assert await asyncio.to_thread(process.wait, SECONDS) == 0
    finally:
        process.kill()
        process.communicate()


async def test_a_loop_that_does_not_turn_gives_no_sign_of_life(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.getsockname())
    monkeypatch.setenv("WATCHDOG_USEC", "30000")
    manager.setblocking(False)

    def signs() -> int:
        count = 0
        with pytest.raises(BlockingIOError):
            for count in itertools.count():  # noqa: B007 - the last one is the answer
                assert told(manager) == "WATCHDOG=1"
        return count

    async def main() -> tuple[int, int]:
        turning = 0
        while turning < 3:
            await asyncio.sleep(0.001)
            turning += signs()
        threading.Event().wait(0.2)
        return turning, signs()

    turning, stuck = await service_manager.watched(main())
    assert turning >= 3
    assert stuck == 0


def test_a_process_that_has_no_file_left_still_gives_signs_of_life(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.getsockname())
    service_manager.tell(service_manager.READY)
    assert told(manager) == "READY=1"
    with no_file_left():
        with pytest.raises(OSError, match="Too many open files"):
            socket.socket()
        service_manager.tell("WATCHDOG=1")
    assert told(manager) == "WATCHDOG=1"


@pytest.mark.parametrize("address", ["", "/nowhere/at/all", "relative", "@hookledger-nobody-listens"])
def test_nobody_who_listens_is_no_error(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    service_manager.tell(service_manager.READY)


def test_a_reload_that_found_much_has_ended_for_a_manager_that_takes_no_long_message(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", manager.getsockname())
    for problems in ("é" * 100_000, "a" + "é" * 100_000):
        service_manager.tell_reloaded(problems)
        message = manager.recv(1 << 20)
        assert len(message) < MANAGER_TAKES_BYTES
        assert message.startswith(b"READY=1\nSTATUS=")
        assert message.decode().endswith("éé …")
    service_manager.tell_reloaded("no file /etc/\udcff")
    assert manager.recv(4096) == b"READY=1\nSTATUS=no file /etc/\\udcff"


@pytest.mark.parametrize(
    ("microseconds", "pid", "seconds"),
    [("2000000", None, 2.0), ("", None, None), ("x", None, None), ("0", None, None), ("2000000", "1", None)],
)
def test_only_the_process_that_is_watched_gives_signs_of_life(
    monkeypatch: pytest.MonkeyPatch, microseconds: str, pid: str | None, seconds: float | None
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/notify")
    monkeypatch.setenv("WATCHDOG_USEC", microseconds)
    if pid is not None:
        monkeypatch.setenv("WATCHDOG_PID", pid)
    assert service_manager._watchdog_seconds() == seconds


def test_the_unit_reloads_what_it_runs_by_once_that_is_in_order() -> None:
    unit = UNIT.read_text()
    (start,) = re.findall(r"^ExecStart=(.+)$", unit, re.MULTILINE)
    check, hangup = re.findall(r"^ExecReload=(.+)$", unit, re.MULTILINE)
    assert check == start.replace(" run ", " config check ")
    assert hangup == "/bin/kill -HUP $MAINPID"


def test_the_unit_is_sandboxed() -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed: the unit's sandbox was not rated")
    rated = subprocess.run(
        [analyze, "security", "--offline=true", str(UNIT)], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    exposure = re.search(r"exposure level for hookledger.service: (\d+\.\d)", rated)
    assert exposure is not None, rated
    assert float(exposure[1]) <= MOST_EXPOSURE


@pytest.mark.parametrize("forbidden", ["", "SystemCallFilter=~@resources"])
def test_the_unit_leaves_the_evaluation_process_what_it_calls(tmp_path: Path, forbidden: str) -> None:
    """It is started for the first heavy filter: nobody would see at the start of the daemon that it cannot be. It goes
    without a lower priority where that is forbidden, as by the unit of earlier versions.
    """
    if shutil.which("systemd-analyze") is None or find_library("seccomp") is None:
        pytest.skip("systemd-analyze or libseccomp is not installed: the unit's system calls were not tried")
    event = PayloadEvent(
        event_id="evt_1", event_type="a.b", created=datetime.now(UTC), data=b"{}", context=None, snapshot=None
    )
    job = FilterJob(event=event, filters=("id == 'evt_1'",))
    unit = tmp_path / UNIT.name
    unit.write_text(f"{UNIT.read_text()}\n{forbidden}\n")
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "tests.support.processes.system_calls", str(unit)),
            *(sys.executable, "-P", "-m", "daemon.expressions.process", __version__),
        ],
        cwd=UNIT.parents[1],
        env={**os.environ, "PYTHONPATH": str(UNIT.parents[1])},
        input=messages.encode_job(job),
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert ended.stderr == b""
    head, _ = messages.LENGTHS.unpack_from(ended.stdout)
    start = messages.LENGTHS.size
    reply = messages.read_reply(job, ended.stdout[start : start + head], ended.stdout[start + head :])
    assert isinstance(reply, FilterReply)
    assert reply.results == (FilterResult.PASSES,)
