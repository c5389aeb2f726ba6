"""A PostgreSQL for one test, which may kill, freeze and restart it: the embedded one, in a directory of its own.

The one thing to know: signals go to all its processes, found by their parent, since each has a session of its own and
would survive the postmaster for a moment.
"""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from eventstore import embedded
from tests.support.postgres.server_processes import with_children


class Cluster:
    """`url` is the administrator's. It stays the same over restarts."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._server = embedded.start(directory)
        self.url = self._server.url

    def kill(self) -> None:
        """Kills all processes at once, as a failing machine would. Nothing more is written."""
        pids = self._pids()
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for pid in pids:
            with suppress(ChildProcessError):
                os.waitpid(pid, 0)

    def start(self) -> None:
        """Starts the server again after `kill`."""
        server = embedded.start(self.directory)
        self._server.stop()  # releases the killed server's handle; the new server runs on
        self._server = server

    def freeze(self) -> None:
        for pid in self._pids():
            os.kill(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        for pid in self._pids():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def stop(self) -> None:
        with suppress(FileNotFoundError):
            self.thaw()
        self._server.stop()

    def _pids(self) -> list[int]:
        return with_children(int((self.directory / "postgres" / "postmaster.pid").read_text().split()[0]))


@contextmanager
def cluster(directory: Path | None = None) -> Iterator[Cluster]:
    """Runs a server in `directory`, or in a temporary directory that is removed at the end."""
    made = Path(tempfile.mkdtemp(prefix="hookledger-faults-")) if directory is None else directory
    try:
        it = Cluster(made)
        try:
            yield it
        finally:
            it.stop()
    finally:
        if directory is None:
            shutil.rmtree(made)
