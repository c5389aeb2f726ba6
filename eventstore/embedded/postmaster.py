"""The server's process: started, found running, asked to stop.

The one thing to know: `postgres.alive` says whether a server lives, since it inherits the lock; postmaster.pid, which
PostgreSQL writes, only says where to find it. The caller holds the door.
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
from eventstore.embedded.refusals import of_output
from eventstore.postgres.errors import EmbeddedUnavailable

START_SECONDS: Final = 60.0  # recovery after a crash is part of a start
STOP_SECONDS: Final = 30.0  # a fast shutdown writes a checkpoint
QUIT_SECONDS: Final = 10.0

_LOG_BYTES: Final = 1 << 20
# Given at each start, since trust on the socket rests on them: nobody listens on TCP, and only the owner may connect.
_ARGUMENTS: Final = ("-p", "5432", "-c", "listen_addresses=", "-c", "unix_socket_permissions=0700")

# Servers started by this process: whoever stops them, they are ours to wait for, or they stay as zombies.
_started: Final[dict[int, subprocess.Popen[bytes]]] = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class _PidFile:
    """postmaster.pid, which grows while the server starts: what is not yet there is empty."""

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


def ensure_running(place: ClusterPaths) -> str:
    """The directory of the socket of a server that answers, started if there is none."""
    is_up = becomes_true(lambda: _launch_unless_alive(place) or _is_ready(place), within_seconds=START_SECONDS)
    found = _pid_file(place)
    if not is_up or found is None:
        raise EmbeddedUnavailable(
            f"the PostgreSQL running in {place.cluster} does not answer", hint=f"see {place.log}, then stop it"
        )
    return found.socket_dir


def shut_down(place: ClusterPaths) -> None:
    found = _pid_file(place)
    for ask, seconds in ((signal.SIGINT, STOP_SECONDS), (signal.SIGQUIT, QUIT_SECONDS)):
        if not _is_alive(place):
            return
        if found is not None:
            with suppress(ProcessLookupError):
                os.kill(found.pid, ask)
        if becomes_true(lambda: not _is_alive(place), within_seconds=seconds):
            if found is not None and (process := _started.pop(found.pid, None)):
                process.wait()
            return
    raise EmbeddedUnavailable(f"the PostgreSQL running in {place.cluster} does not stop", hint=f"see {place.log}")


def is_started_here(place: ClusterPaths) -> bool:
    """Whether this process, and no other, started the server."""
    found = _pid_file(place)
    return found is not None and found.pid in _started


def quit_at_once(place: ClusterPaths) -> None:
    """Ends it as a crash would, and sees that it is gone; QUIT_SECONDS at most."""
    found = _pid_file(place)
    if found is not None and _is_alive(place):
        with suppress(ProcessLookupError):
            os.kill(found.pid, signal.SIGQUIT)
        becomes_true(lambda: not _is_alive(place), within_seconds=QUIT_SECONDS)


def _launch_unless_alive(place: ClusterPaths) -> bool:
    """Whether a server was launched: also when a dying one at last is gone."""
    alive = open_lock(place.alive)
    try:
        if is_ours := try_lock(alive):
            _launch(place, alive)
    finally:
        os.close(alive)
    return is_ours


def _launch(place: ClusterPaths, alive: int) -> None:
    _reap()
    _forget_dead_postmaster(place)
    command = [str(place.binaries / "postgres"), "-D", str(place.cluster), "-k", str(socket_dir(place)), *_ARGUMENTS]
    if place.log.exists() and place.log.stat().st_size > _LOG_BYTES:
        place.log.rename(place.log.with_suffix(".log.1"))
    with place.log.open("ab") as log:
        if place.account.is_borrowed:
            os.fchown(log.fileno(), place.account.uid, place.account.gid)
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
            **place.account.credentials,
        )
        _started[process.pid] = process
    if not becomes_true(lambda: _is_ready(place) or process.poll() is not None, within_seconds=START_SECONDS):
        process.send_signal(signal.SIGQUIT)
        process.wait(QUIT_SECONDS)
        raise EmbeddedUnavailable(
            f"the embedded PostgreSQL was not ready after {START_SECONDS:.0f} s", hint=f"see {place.log}"
        )
    if process.returncode is not None:
        output = place.log.read_bytes()[log_start:].decode(errors="replace")
        raise of_output(output, "the embedded PostgreSQL did not start", cluster=place.cluster, log=place.log)


def _reap() -> None:
    for pid, process in list(_started.items()):
        if process.poll() is not None:
            _started.pop(pid, None)


def _forget_dead_postmaster(place: ClusterPaths) -> None:
    """Remove the lock files of a server that is gone, though its pid is not: as a zombie, or given to another process.

    PostgreSQL would refuse to start, and in a restarted container pids come back. Without /proc it judges alone.
    """
    found = _pid_file(place)
    if found is None or not Path("/proc/self/cwd").exists():
        return
    try:
        is_gone = Path(f"/proc/{found.pid}/cwd").readlink() != place.cluster
    except FileNotFoundError:
        is_gone = True
    except PermissionError:  # another user's process, which PostgreSQL knows not to be a server of this cluster
        is_gone = False
    if is_gone:
        (place.cluster / "postmaster.pid").unlink()
        (socket_dir(place) / f"{SOCKET_NAME}.lock").unlink(missing_ok=True)


def _is_alive(place: ClusterPaths) -> bool:
    try:
        alive = os.open(place.alive, os.O_RDWR)
    except FileNotFoundError:  # somebody removed the data directory; the server notices by itself
        return False
    try:
        return not try_lock(alive)
    finally:
        os.close(alive)


def _is_ready(place: ClusterPaths) -> bool:
    found = _pid_file(place)
    return found is not None and found.is_ready


def _pid_file(place: ClusterPaths) -> _PidFile | None:
    """Its lines: pid, data dir, start time, port, socket dir, address, shared memory, status."""
    try:
        lines = (place.cluster / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return None
    if not lines:
        return None
    pid, _, _, _, sockets, _, _, status, *_ = [line.strip() for line in lines] + [""] * 7
    return _PidFile(pid=int(pid), socket_dir=sockets, status=status)
