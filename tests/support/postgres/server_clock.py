"""A PostgreSQL whose clock can be moved while it runs, by libfaketime; its monotonic clock and its timers go on as ever.

The one thing to know: the clock is read from a file at every look, so a move takes effect at once, for all processes.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from eventstore.postgres import schema
from eventstore.postgres.connect import Database
from tests.support.postgres.replication import Node, binaries

_LIBRARIES = (
    Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"),
    Path("/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1"),
)


class ServerClock:
    """Moves the clock of the server at `url`."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.url = ""
        self.shift(0)

    def shift(self, seconds: float) -> None:
        """Sets the clock to the true time plus `seconds`, which may be negative."""
        written = self._file.with_suffix(".new")
        written.write_text(f"{seconds:+f}\n")
        written.chmod(0o644)
        written.replace(self._file)


@contextmanager
def server_clock(version: str = "18") -> Iterator[ServerClock]:
    """Runs an empty server with such a clock. Without libfaketime the test is skipped."""
    library = next((path for path in _LIBRARIES if path.exists()), None)
    if library is None:
        pytest.skip("libfaketime is not installed (Debian: faketime)")
    directory = Path(tempfile.mkdtemp(prefix="hookledger-clock-"))
    directory.chmod(0o755)
    try:
        clock = ServerClock(directory / "clock")
        node = Node(binaries(version), directory / "server", _environment(library, directory / "clock"))
        try:
            node.create()
            clock.url = node.url
            yield clock
        finally:
            node.kill()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@asynccontextmanager
async def database_of_its_own(clock: ServerClock) -> AsyncIterator[Database]:
    """A new database with the schema on that server, whose clock is set right."""
    clock.shift(0)
    name = f"clock_{uuid4().hex}"
    connection = await asyncpg.connect(clock.url)
    await connection.execute(f"CREATE DATABASE {name}")
    await connection.close()
    database = Database(clock.url.rpartition("/")[0] + f"/{name}")
    await database.open()
    try:
        await schema.migrate(database)
        yield database
    finally:
        await database.close()


def _environment(library: Path, file: Path) -> dict[str, str]:
    return {
        "LD_PRELOAD": os.fspath(library),
        "FAKETIME_TIMESTAMP_FILE": os.fspath(file),
        "FAKETIME_NO_CACHE": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
