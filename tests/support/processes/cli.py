"""`hookledger …` as users run it: a process of its own, its output streams and its exit code."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.processes.zygote import zygote

HERE = Path(__file__).parents[3]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class CommandLine:
    """Runs commands on one database, with a home directory of their own. None of them may print a traceback."""

    def __init__(self, home: Path, database_url: str | None = None, **settings: str) -> None:
        self.home = home
        self.environment = {
            **os.environ,
            "HOME": str(home),
            "XDG_DATA_HOME": str(home / "share"),
            "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]).strip(os.pathsep),
            "COLUMNS": "120",
            **settings,
        }
        if database_url is not None:
            self.environment["HOOKLEDGER_DATABASE__URL"] = database_url

    def __call__(self, *arguments: str, stdin: str | bytes = b"", code: int | None = 0) -> Ended:
        """Runs a command to its end. `code` is the expected exit code, None for any."""
        with tempfile.TemporaryDirectory(dir=self.home) as folder:
            streams = [Path(folder, name) for name in ("stdin", "stdout", "stderr")]
            streams[0].write_bytes(stdin.encode() if isinstance(stdin, str) else stdin)
            returned = zygote(self.environment).run(
                list(arguments), cwd=self.home, environment=self.environment, streams=streams
            )
            ended = Ended(code=returned, out=streams[1].read_text(), err=streams[2].read_text())
        assert "Traceback" not in ended.err, ended.err
        assert code is None or ended.code == code, (ended.code, ended.out, ended.err)
        return ended

    def start(self, *arguments: str, files: int | None = None) -> subprocess.Popen[str]:
        """Starts a command that does not end by itself. It may have no more than `files` open files."""

        def limit() -> None:
            if files is not None:
                resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))

        return subprocess.Popen(
            [sys.executable, "-m", "daemon", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.home,
            env=self.environment,
            preexec_fn=limit,  # noqa: PLW1509 - it takes no lock that a thread of ours may hold
        )

    def create_route(self, *options: str, tenant: str = "acme") -> dict[str, Any]:
        """Creates a route with the required options and `options`."""
        required = ("--name", "Orders", "--target-url", "https://shop.example/hook", "--event-type", "order.*")
        created: dict[str, Any] = self("routes", "create", "--tenant", tenant, *required, *options, "--json").json
        return created
