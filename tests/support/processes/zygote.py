"""A process that has imported the product, and forks commands and daemons in milliseconds.

Each command is still a process of its own, with its own streams, environment, folder and exit code. A fork saves half a
second of imports. CommandLine.start tests that `python -m daemon` starts without a zygote.
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

# Variables that an interpreter reads at its start (tests/support/processes/shifted_clock): a fork cannot change them.
_EARLY = ("PYTHONPATH", "SHIFTED_CLOCK")

# The system's authorities are read once for all, and what is there already is not collected, and copied for that, in
# each process: a daemon is ready after 0.21 s of CPU time instead of 0.36. The loop waits for a command. A daemon has a
# watcher process instead, which reports its process id and its exit code.
_LOOP = """
import gc, json, os, socket, sys
from daemon import app
from daemon.cli import main, ops, run, store
from daemon.cli.auditing import audit
from daemon.cli.events import publish
from daemon.cli.routes import commands
from daemon.pipeline.http_client.tls import tls_context

tls_context(None)
gc.collect()
gc.freeze()
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

def watch(order, streams, report):
    child = os.fork()
    if child == 0:
        os.close(report)
        become(order, streams)
    for stream in streams:
        os.close(stream)
    os.write(report, b"%d\\n" % child)
    os.write(report, b"%d\\n" % exit_code(child))
    os._exit(0)

def exit_code(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

for line in sys.stdin:
    order = json.loads(line)
    descriptors = [] if "streams" in order else socket.recv_fds(channel, 1, 4)[1]
    child = os.fork()
    if child == 0:
        if not descriptors:
            become(order, opened(order["streams"]))
        if os.fork() == 0:
            watch(order, descriptors[:3], descriptors[3])
        os._exit(0)
    for each in descriptors:
        os.close(each)
    print(exit_code(child), flush=True)
"""


class Forked:
    """A daemon that was forked from the zygote, with the part of `subprocess.Popen` that tests need."""

    def __init__(self, stdout: IO[bytes], report: IO[bytes]) -> None:
        self.stdout = stdout
        self.returncode: int | None = None
        self._report = report
        self.pid = int(report.readline())

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        if self.returncode is None and select.select([self._report], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Waits for the exit code. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self._report], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("hookledger", timeout or 0)
            self.returncode = int(self._report.readline())
            self._report.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class Zygote:
    def __init__(self, early: dict[str, str]) -> None:
        self._lock = threading.Lock()
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
        """Runs a command to its end, with files for stdin, stdout and stderr. Returns its exit code."""
        order = {"arguments": arguments, "cwd": str(cwd), "environment": environment}
        with self._lock:
            return self._request(order | {"streams": [str(name) for name in streams]})

    def start(self, arguments: list[str], *, cwd: Path, environment: dict[str, str], log: IO[bytes]) -> Forked:
        """Starts a daemon without stdin, with a pipe for stdout and a file for stderr."""
        order = {"arguments": arguments, "cwd": str(cwd), "environment": environment}
        nothing = os.open(os.devnull, os.O_RDONLY)
        (stdout, their_stdout), (report, their_report) = os.pipe(), os.pipe()
        with self._lock:
            socket.send_fds(self._channel, [b"!"], [nothing, their_stdout, log.fileno(), their_report])
            self._request(order)
        for theirs in (nothing, their_stdout, their_report):
            os.close(theirs)
        return Forked(os.fdopen(stdout, "rb"), os.fdopen(report, "rb", buffering=0))

    def _request(self, order: Mapping[str, object]) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline())


def zygote(environment: dict[str, str]) -> Zygote:
    """The zygote of this test run for the early variables of `environment`. It ends when its stdin does."""
    return _zygote(tuple((name, environment[name]) for name in _EARLY if name in environment))


@cache
def _zygote(early: tuple[tuple[str, str], ...]) -> Zygote:
    return Zygote(dict(early))
