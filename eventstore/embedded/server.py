"""The interface of the embedded PostgreSQL: `start` begins a use, `stop` ends it, `stop_at_once` stops quickly."""

import atexit
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

from eventstore.embedded import postmaster
from eventstore.embedded.cluster import ensure_cluster
from eventstore.embedded.locks import becomes_true, open_lock, try_lock
from eventstore.embedded.paths import ClusterPaths, prepare
from eventstore.embedded.refusals import from_os_error
from eventstore.postgres.errors import EmbeddedUnavailable

# How long a process that must end at once waits for another process that starts or stops a server.
_QUIT_LOCK_SECONDS: Final = 2.0

# What a URL leaves out the driver takes from variables like PGPORT and PGSSLMODE, which are about another server.
_WHOLE: Final = "port=5432&sslmode=disable&sslnegotiation=postgres&target_session_attrs=any&gsslib=gssapi"

_LOCK_SECONDS: Final = postmaster.START_SECONDS + postmaster.STOP_SECONDS + postmaster.QUIT_SECONDS


class EmbeddedServer:
    """One use of the running server. `stop` ends the use; the `stop` of the last user stops the server."""

    def __init__(self, paths: ClusterPaths, *, socket_dir: str, users_lock: int) -> None:
        self.url: Final = f"postgresql://postgres@/postgres?host={quote(socket_dir)}&{_WHOLE}"
        self.data_dir: Final = paths.data_dir
        self._paths = paths
        self._users_lock: int | None = users_lock
        self._user_pid = os.getpid()
        self._is_shutting_down = False
        atexit.register(self.stop)
        _in_use.add(self)

    @property
    def users_descriptor(self) -> int:
        """The descriptor that holds the shared lock of `postgres.users`.

        A child that inherits it uses the server too.
        """
        if self._users_lock is None:
            raise ValueError("this use of the server has ended")
        return self._users_lock

    @property
    def is_alive(self) -> bool:
        """False if the server, and all that it started, has ended without us. Takes microseconds.

        Raises EmbeddedUnavailable if that cannot be seen now, as when this process has no file left.
        """
        try:
            return postmaster.is_alive(self._paths)
        except OSError as error:
            raise from_os_error(error, self.data_dir) from error

    def revive(self) -> None:
        """Starts the server again, unless somebody else has. Blocks as `start` does. Raises EmbeddedUnavailable."""
        try:
            with _start_stop_lock(self._paths):
                if self._users_lock is not None:
                    postmaster.ensure_running(self._paths)
        except OSError as error:
            raise from_os_error(error, self.data_dir) from error

    def stop(self) -> None:
        """Stops using the server. Calling it again, or in a forked child, does nothing."""
        if self._users_lock is None or os.getpid() != self._user_pid:
            return
        users_lock, self._users_lock = self._users_lock, None
        atexit.unregister(self.stop)
        try:
            with _start_stop_lock(self._paths):
                if try_lock(users_lock):
                    self._is_shutting_down = True
                    postmaster.shut_down(self._paths)
        finally:
            _in_use.discard(self)
            os.close(users_lock)

    def quit(self) -> None:
        """Like `stop`, but without a checkpoint: the next start recovers what was committed.

        Works also during `stop`.
        """
        if os.getpid() != self._user_pid:
            return
        if self._is_shutting_down:
            postmaster.quit_at_once(self._paths)
        elif self._users_lock is not None:
            with _start_stop_lock(self._paths, seconds=_QUIT_LOCK_SECONDS):
                if try_lock(self._users_lock):
                    postmaster.quit_at_once(self._paths)


_in_use: Final[set[EmbeddedServer]] = set()
_starting: Final[set[ClusterPaths]] = set()


def stop_at_once() -> None:
    """Stops the servers whose last user is this process, within seconds.

    For a process that ends without cleaning up.
    """
    for paths in list(_starting):
        if postmaster.is_started_here(paths):
            postmaster.quit_at_once(paths)
    for server in list(_in_use):
        with suppress(EmbeddedUnavailable, OSError):
            server.quit()


def start(data_dir: Path) -> EmbeddedServer:
    """Begins to use the server of this data directory. Creates the cluster and starts the server where needed.

    Blocks for about 0.1 s, or 1 s when the cluster must be created. Raises EmbeddedUnavailable with a hint.
    """
    try:
        paths = prepare(data_dir)
        _starting.add(paths)
        try:
            with _start_stop_lock(paths):
                ensure_cluster(paths)
                socket_dir = postmaster.ensure_running(paths)
                users_lock = open_lock(paths.users)
                fcntl.flock(users_lock, fcntl.LOCK_SH)
                return EmbeddedServer(paths, socket_dir=socket_dir, users_lock=users_lock)
        finally:
            _starting.discard(paths)
    except OSError as error:
        raise from_os_error(error, data_dir) from error


@contextmanager
def _start_stop_lock(paths: ClusterPaths, *, seconds: float = _LOCK_SECONDS) -> Iterator[None]:
    lock = open_lock(paths.start_stop_lock)
    try:
        if not becomes_true(lambda: try_lock(lock), within_seconds=seconds):
            raise EmbeddedUnavailable(
                f"another process has been starting or stopping PostgreSQL for {seconds:.0f} s",
                hint=f"see who holds {paths.start_stop_lock}: fuser {paths.start_stop_lock}",
            )
        yield
    finally:
        os.close(lock)
