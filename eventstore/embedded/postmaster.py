"""The server's process: starts it, finds it running, stops it.

The one thing to know: `postgres.alive` tells whether a server is alive, because the server inherits the lock.
postmaster.pid, which PostgreSQL writes, only tells where to find it. The caller holds the lock of `postgres.door`.
"""

import os
import signal
import socket
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from eventstore.embedded.cluster import ENVIRONMENT
from eventstore.embedded.locks import becomes_true, open_lock, try_lock
from eventstore.embedded.paths import SOCKET_NAME, ClusterPaths, socket_dir
from eventstore.embedded.refusals import from_output
from eventstore.postgres.errors import EmbeddedUnavailable

START_SECONDS: Final = 60.0  # without a word: recovery after a crash may take longer, and tells of its progress
STOP_SECONDS: Final = 30.0  # a fast shutdown writes a checkpoint
QUIT_SECONDS: Final = 10.0
WRITE_SECONDS: Final = 1.0  # from the creation of a lock file to the pid in it: a server does that at once
MAX_PID: Final = 2**31 - 1

_LOG_BYTES: Final = 1 << 20
# Passed at each start, because `trust` authentication relies on them: there is no TCP port, and only the owner of the
# socket may connect.
_REACHABLE: Final = ("-p", "5432", "-c", "listen_addresses=", "-c", "unix_socket_permissions=0700")
# Nothing that would be idle for ever: readers ahead of large scans, of which there are none, and the memory for reading
# ahead; replication; most of the memory for what serializable transactions have read, since none of ours is one. Every
# commit flushes the write-ahead log itself, so its writer need not look five times a second, and its buffer is filled
# and stays in memory whatever its size: half of it costs a delivery nothing that could be measured.
_SMALL: Final = (
    *("-c", "io_method=sync", "-c", "io_max_concurrency=8", "-c", "max_logical_replication_workers=0"),
    *("-c", "max_pred_locks_per_transaction=24", "-c", "wal_writer_delay=1s", "-c", "wal_buffers=2MB"),
)

# Servers that this process started. It must wait for them, whichever process stops them, or they remain as zombies.
_started: Final[dict[int, subprocess.Popen[bytes]]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class _PidFile:
    """postmaster.pid, which grows while the server starts. A line that is not written yet is empty here."""

    pid: int
    socket_dir: str
    status: str

    @property
    def is_ready(self) -> bool:
        if self.status != "ready":
            return False
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(f"{self.socket_dir}/{SOCKET_NAME}")
            except OSError:  # the pid file of a server that was killed
                return False
        return True


def ensure_running(paths: ClusterPaths) -> str:
    """Starts the server if none is running. Returns the directory of its socket once it answers."""
    is_up = becomes_true(lambda: _launch_unless_alive(paths) or _is_ready(paths), within_seconds=START_SECONDS)
    found = _pid_file(paths)
    if not is_up or found is None:
        raise EmbeddedUnavailable(
            f"the PostgreSQL running in {paths.cluster} does not answer", hint=f"see {paths.log}, then stop it"
        )
    return found.socket_dir


def shut_down(paths: ClusterPaths) -> None:
    """Stops the server: a fast shutdown, then an immediate one if that takes too long. Raises EmbeddedUnavailable."""
    found = _pid_file(paths)
    for number, seconds in ((signal.SIGINT, STOP_SECONDS), (signal.SIGQUIT, QUIT_SECONDS)):
        if not is_alive(paths):
            return
        if found is not None:
            with suppress(ProcessLookupError):
                os.kill(found.pid, number)
        if becomes_true(lambda: not is_alive(paths), within_seconds=seconds):
            if found is not None and (process := _started.pop(found.pid, None)):
                process.wait()
            return
    raise EmbeddedUnavailable(f"the PostgreSQL running in {paths.cluster} does not stop", hint=f"see {paths.log}")


def is_started_here(paths: ClusterPaths) -> bool:
    """True if this process started the server."""
    found = _pid_file(paths)
    return found is not None and found.pid in _started


def is_alive(paths: ClusterPaths) -> bool:
    """True while the server, or something that it started, is alive."""
    try:
        alive = os.open(paths.alive, os.O_RDWR)
    except FileNotFoundError:  # the data directory was removed; the server notices by itself
        return False
    try:
        return not try_lock(alive)
    finally:
        os.close(alive)


def quit_at_once(paths: ClusterPaths) -> None:
    """Ends the server without a checkpoint, as a crash would, and waits until it is gone; QUIT_SECONDS at most."""
    found = _pid_file(paths)
    if found is not None and is_alive(paths):
        with suppress(ProcessLookupError):
            os.kill(found.pid, signal.SIGQUIT)
        becomes_true(lambda: not is_alive(paths), within_seconds=QUIT_SECONDS)


def _launch_unless_alive(paths: ClusterPaths) -> bool:
    """True if a server was launched. False while another one is alive, even one that is shutting down."""
    alive = open_lock(paths.alive)
    try:
        if is_ours := try_lock(alive):
            _launch(paths, alive)
    finally:
        os.close(alive)
    return is_ours


def _launch(paths: ClusterPaths, alive: int) -> None:
    _reap()
    _forget_dead_postmaster(paths)
    command = [
        str(paths.binaries / "postgres"),
        "-D",
        str(paths.cluster),
        "-k",
        str(socket_dir(paths)),
        *_REACHABLE,
        *_SMALL,
    ]
    if paths.log.exists() and paths.log.stat().st_size > _LOG_BYTES:
        paths.log.rename(paths.log.with_suffix(".log.1"))
    with paths.log.open("ab") as log:
        if paths.account.is_system_user:
            os.fchown(log.fileno(), paths.account.uid, paths.account.gid)
        log_start = log.tell()
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=ENVIRONMENT,
            pass_fds=[alive],
            start_new_session=True,
            **paths.account.credentials,
        )
        _started[process.pid] = process
    if not _has_started_or_ended(paths, process):
        _end(process)
        raise EmbeddedUnavailable(
            f"the embedded PostgreSQL is not ready, and has said nothing for {START_SECONDS:.0f} s",
            hint=f"see {paths.log}",
        )
    if process.returncode is not None:
        output = paths.log.read_bytes()[log_start:].decode(errors="replace")
        raise from_output(output, "the embedded PostgreSQL did not start", cluster=paths.cluster, log=paths.log)


def _has_started_or_ended(paths: ClusterPaths, process: subprocess.Popen[bytes]) -> bool:
    """False if it has neither, and has said nothing of late. A recovery that is given up begins from the start the next
    time; while it lasts, the server tells every 10 s how far it is.
    """
    said, before = paths.log.stat().st_size, -1
    while said != before:
        if becomes_true(lambda: _is_ready(paths) or process.poll() is not None, within_seconds=START_SECONDS):
            return True
        said, before = paths.log.stat().st_size, said
    return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGQUIT)
    try:
        process.wait(QUIT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _reap() -> None:
    for pid, process in list(_started.items()):
        if process.poll() is not None:
            _started.pop(pid, None)


def _forget_dead_postmaster(paths: ClusterPaths) -> None:
    """Removes the lock files of a server that is gone while its pid exists: as a zombie, or as another process.

    PostgreSQL would refuse to start otherwise; in a restarted container pids come back. Without /proc nothing is done.
    It refuses, too, for a lock file without a pid, which a server leaves that was killed while it made the file.
    """
    if _is_gone(paths):
        (paths.cluster / "postmaster.pid").unlink(missing_ok=True)
        (socket_dir(paths) / f"{SOCKET_NAME}.lock").unlink(missing_ok=True)


def _is_gone(paths: ClusterPaths) -> bool:
    pid_file = paths.cluster / "postmaster.pid"
    if not becomes_true(lambda: _pid_file(paths) is not None or not pid_file.exists(), within_seconds=WRITE_SECONDS):
        return True
    found = _pid_file(paths)
    if found is None:
        return True
    if not Path("/proc/self/cwd").exists():
        return False
    try:
        return Path(f"/proc/{found.pid}/cwd").readlink() != paths.cluster
    except FileNotFoundError:
        return True
    except PermissionError:  # another user's process; PostgreSQL itself sees that it is no server of this cluster
        return False


def _is_ready(paths: ClusterPaths) -> bool:
    """Also of a server that was killed its processes may live on for a moment, with the lock and the socket."""
    found = _pid_file(paths)
    return found is not None and _exists(found.pid) and found.is_ready


def _exists(pid: int) -> bool:
    _reap()
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _pid_file(paths: ClusterPaths) -> _PidFile | None:
    """The parsed postmaster.pid, None if there is none, or none with a pid in it.

    Its lines: pid, data dir, start time, port, socket dir, address, shared memory, status.
    """
    try:
        lines = (paths.cluster / "postmaster.pid").read_text(errors="surrogateescape").splitlines()
    except FileNotFoundError:
        return None
    pid, _, _, _, sockets, _, _, status, *_ = [line.strip() for line in lines] + [""] * 8
    if not pid.isascii() or not pid.isdecimal() or not 0 < int(pid) <= MAX_PID:
        return None
    return _PidFile(pid=int(pid), socket_dir=sockets, status=status)
