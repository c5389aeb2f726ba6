"""A process that has the command line imported, and forks a command from it in milliseconds.

Each command still is a process of its own, with its own streams, environment, folder and exit code; what it saves is half
a second of imports. That `python -m daemon` starts from nothing is tested where daemons are started (running.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path

_LOOP = """
import json, os, sys
from daemon.cli import audit, main, ops, publish, routes, store
for line in sys.stdin:
    order = json.loads(line)
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.setsid()
            for number, name in enumerate(order["streams"]):
                flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_TRUNC
                os.dup2(os.open(name, flags, 0o600), number)
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
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Zygote:
    def __init__(self, path: str) -> None:
        self._turn = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-c", _LOOP],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path},
        )

    def run(self, arguments: list[str], *, cwd: Path, environment: dict[str, str], streams: list[Path]) -> int:
        """Runs a command to its end, with files for stdin, stdout and stderr; its exit code."""
        order = {
            "arguments": arguments,
            "cwd": str(cwd),
            "environment": environment,
            "streams": [str(name) for name in streams],
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._turn:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
            return int(self._process.stdout.readline())


@cache
def zygote(path: str) -> Zygote:
    """The one of this test run; it ends when its stdin does."""
    return Zygote(path)
