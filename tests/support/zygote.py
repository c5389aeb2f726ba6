"""A process that has imported the product, and forks commands and daemons from it in milliseconds.

Each still is a process of its own, with its own streams, environment, folder and exit code; what it saves is half a
second of imports. That `python -m daemon` starts from nothing is tested by CommandLine.start.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import IO

# What an interpreter reads at its very beginning (tests/support/shifted_clock), too early for a fork.
_EARLY = ("PYTHONPATH", "SHIFTED_CLOCK")

# A command is waited for here. A daemon has a keeper, for whom nobody waits, and who says how it ended.
_LOOP = """
import json, os, socket, sys
from daemon import app
from daemon.cli import audit, main, ops, publish, routes, run, store

channel = socket.socket(fileno=int(sys.argv[1]))

def opened(names):
    modes = (os.O_RDONLY, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    return [os.open(name, mode, 0o600) for name, mode in zip(names, modes)]

def become(order, streams):
    code = 70
    try:
        os.setsid()
        channel.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        sys.stdin = open(0, closefd=False)
        os.chdir(order["cwd"])
        os.environ.clear()
        os.environ.update(order["environment"])
        sys.argv = ["hookledger", *order["arguments"]]
        try:
            main.entry()
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)

def keep(order, streams, said):
    child = os.fork()
    if child == 0:
        os.close(said)
        become(order, streams)
    for stream in streams:
        os.close(stream)
    os.write(said, b"%d\\n" % child)
    os.write(said, b"%d\\n" % ended(child))
    os._exit(0)

def ended(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

for line in sys.stdin:
    order = json.loads(line)
    given = [] if "streams" in order else socket.recv_fds(channel, 1, 4)[1]
    child = os.fork()
    if child == 0:
        if not given:
            become(order, opened(order["streams"]))
        if os.fork() == 0:
            keep(order, given[:3], given[3])
        os._exit(0)
    for each in given:
        os.close(each)
    print(ended(child), flush=True)
"""


class Forked:
    """A daemon that was started here: of `subprocess.Popen`, what tests need."""

    def __init__(self, stdout: IO[bytes], said: IO[bytes]) -> None:
        self.stdout = stdout
        self.returncode: int | None = None
        self._said = said
        self.pid = int(said.readline())

    def poll(self) -> int | None:
        """The exit code; None while it runs."""
        if self.returncode is None and select.select([self._said], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, once there is one."""
        if self.returncode is None:
            if not select.select([self._said], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("hookledger", timeout or 0)
            self.returncode = int(self._said.readline())
            self._said.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Zygote:
    def __init__(self, early: dict[str, str]) -> None:
        self._turn = threading.Lock()
        self._channel, theirs = socket.socketpair()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _LOOP, str(theirs.fileno())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            pass_fds=[theirs.fileno()],
            env={**os.environ, **early},
        )
        theirs.close()

    def run(self, arguments: list[str], *, cwd: Path, environment: dict[str, str], streams: list[Path]) -> int:
        """Runs a command to its end, with files for stdin, stdout and stderr; its exit code."""
        order = {"arguments": arguments, "cwd": str(cwd), "environment": environment}
        with self._turn:
            return self._obeyed(order | {"streams": [str(name) for name in streams]})

    def start(self, arguments: list[str], *, cwd: Path, environment: dict[str, str], log: IO[bytes]) -> Forked:
        """Starts a daemon without stdin, with a pipe for stdout and a file for stderr."""
        order = {"arguments": arguments, "cwd": str(cwd), "environment": environment}
        nothing = os.open(os.devnull, os.O_RDONLY)
        (stdout, their_stdout), (said, their_said) = os.pipe(), os.pipe()
        with self._turn:
            socket.send_fds(self._channel, [b"!"], [nothing, their_stdout, log.fileno(), their_said])
            self._obeyed(order)
        for theirs in (nothing, their_stdout, their_said):
            os.close(theirs)
        return Forked(os.fdopen(stdout, "rb"), os.fdopen(said, "rb", buffering=0))

    def _obeyed(self, order: Mapping[str, object]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


def zygote(environment: dict[str, str]) -> Zygote:
    """The one of this test run for such an environment; it ends when its stdin does."""
    return _zygote(tuple((name, environment[name]) for name in _EARLY if name in environment))


@cache
def _zygote(early: tuple[tuple[str, str], ...]) -> Zygote:
    return Zygote(dict(early))
