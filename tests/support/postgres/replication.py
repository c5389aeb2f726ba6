"""A primary and a standby that streams from it, of one PostgreSQL version or another; the standby can be promoted.

The one thing to know: `hold` keeps the standby behind from now on, so what is promoted then lacks what came after it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import asyncpg
import pytest

from eventstore.embedded.paths import find_account, prepare
from tests.support.postgres.server_processes import fast_directory, free_port, with_children

END_SECONDS = 30
# Fast to start and to promote; nothing here survives a power cut anyway.
SETTINGS = {
    "shared_buffers": "32MB",
    "max_connections": "100",
    "wal_level": "replica",
    "max_wal_senders": "5",
    "wal_keep_size": "256MB",
    "hot_standby": "on",
    "wal_receiver_timeout": "2s",
    "wal_retrieve_retry_interval": "100ms",
    "timezone": "UTC",
}


DEBIAN = Path("/usr/lib/postgresql/15/bin")
VERSIONS = ("18", "15")


def binaries(version: str) -> Path:
    """The programs of the wheel's PostgreSQL 18, or of Debian's 15; without that the test is skipped."""
    if version == "15":
        if not (DEBIAN / "postgres").exists():
            pytest.skip("PostgreSQL 15 is not installed")
        return DEBIAN
    with tempfile.TemporaryDirectory() as directory:
        return prepare(Path(directory)).binaries


class Node:
    """One server. `url` is its administrator's, over TCP. `environment` is what its processes get besides the usual."""

    def __init__(self, binaries: Path, directory: Path, environment: Mapping[str, str] | None = None) -> None:
        self._binaries = binaries
        self._environment = {"PATH": os.defpath, "LC_ALL": "C", **(environment or {})}
        self._account = find_account()
        self.data = directory / "data"
        self.port = free_port()
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        directory.mkdir(mode=0o700)
        if self._account.is_system_user:
            os.chown(directory, self._account.uid, self._account.gid)

    def create(self) -> None:
        """Makes an empty cluster that others may copy, and starts it."""
        self._run(
            "initdb", "--pgdata", self.data, "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"
        )
        with (self.data / "postgresql.conf").open("a") as config:
            config.writelines(f"{name} = '{value}'\n" for name, value in SETTINGS.items())
        with (self.data / "pg_hba.conf").open("a") as access:
            access.write("host replication all 127.0.0.1/32 trust\n")
        self.start()

    def copy(self, primary: Node) -> None:
        """Becomes a standby of that server, and starts."""
        self._run("pg_basebackup", "-D", self.data, "-d", primary.url, "-R", "--checkpoint=fast", "--wal-method=stream")
        self.start()

    def start(self) -> None:
        options = f"-p {self.port} -k {self.data} -h 127.0.0.1"
        self._run("pg_ctl", "-D", self.data, "-w", "-t", "30", "-l", self.data / "log", "-o", options, "start")

    def stop(self, mode: str = "fast") -> None:
        self._run("pg_ctl", "-D", self.data, "-w", "-t", "30", "-m", mode, "stop")

    def promote(self) -> None:
        self._run("pg_ctl", "-D", self.data, "-w", "-t", "30", "promote")

    def kill(self) -> None:
        """Kills it as a failing machine would: nothing more is written or sent."""
        with suppress(FileNotFoundError, ProcessLookupError):
            group = with_children(int((self.data / "postmaster.pid").read_text().split()[0]))
            for pid in group:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            until = time.monotonic() + END_SECONDS
            while any(Path(f"/proc/{pid}").exists() and not _is_zombie(pid) for pid in group):
                assert time.monotonic() < until
                time.sleep(0.02)
            (self.data / "postmaster.pid").unlink()

    async def hold(self) -> None:
        """Stops receiving from the primary, for good."""
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute("ALTER SYSTEM SET primary_conninfo = ''")
            await connection.execute("SELECT pg_reload_conf()")
            while await connection.fetchval("SELECT count(*) FROM pg_stat_wal_receiver"):
                await asyncio.sleep(0.01)
        finally:
            await connection.close()

    async def until_caught_up(self, primary: Node) -> None:
        """Returns once it has replayed all that the primary has written so far."""
        there, here = await asyncpg.connect(primary.url), await asyncpg.connect(self.url)
        try:
            written = await there.fetchval("SELECT pg_current_wal_lsn()::text")
            while not await here.fetchval(
                "SELECT coalesce(pg_last_wal_replay_lsn() >= $1::text::pg_lsn, false)", written
            ):
                await asyncio.sleep(0.01)
        finally:
            await there.close()
            await here.close()

    def _run(self, program: str, *arguments: object) -> None:
        command = [str(self._binaries / program), *map(str, arguments)]
        done = subprocess.run(
            command,
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=120,
            cwd="/",
            env=self._environment,
            start_new_session=True,
            **self._account.credentials,
        )
        assert done.returncode == 0, done.stdout.decode(errors="replace")


@contextmanager
def replicated(version: str) -> Iterator[tuple[Node, Node]]:
    """A primary and its standby, both running."""
    directory = Path(tempfile.mkdtemp(prefix="hookledger-replicated-", dir=fast_directory()))
    directory.chmod(0o755)
    primary, standby = (Node(binaries(version), directory / name) for name in ("a", "b"))
    try:
        primary.create()
        standby.copy(primary)
        yield primary, standby
    finally:
        primary.kill()
        standby.kill()
        shutil.rmtree(directory, ignore_errors=True)


def _is_zombie(pid: int) -> bool:
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True
