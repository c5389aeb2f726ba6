"""What users of the embedded PostgreSQL call: `start` to use it, `stop` to give it back, `stop_at_once` in a hurry."""

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
from eventstore.embedded.refusals import of_os_error
from eventstore.postgres.errors import EmbeddedUnavailable

# A process that is told to end at once waits no longer for others who start or stop a server.
_HURRY_SECONDS: Final = 2.0

_DOOR_SECONDS: Final = postmaster.START_SECONDS + postmaster.STOP_SECONDS + postmaster.QUIT_SECONDS


class EmbeddedServer:
    """A use of the running server. `stop` gives it back, and the last user's `stop` stops the server."""

    def __init__(self, place: ClusterPaths, *, socket_dir: str, users_lock: int) -> None:
        self.url: Final = f"postgresql://postgres@/postgres?host={quote(socket_dir)}"
        self.data_dir: Final = place.data_dir
        self._place = place
        self._users_lock: int | None = users_lock
        self._user_pid = os.getpid()
        self._is_shutting_down = False
        atexit.register(self.stop)
        _in_use.add(self)

    @property
    def use(self) -> int:
        """The open file that stands for this use: who inherits it uses the server too, until it ends."""
        if self._users_lock is None:
            raise ValueError("the server was given back")
        return self._users_lock

    def stop(self) -> None:
        """Stop using the server; calling it again, or in a forked child, does nothing."""
        if self._users_lock is None or os.getpid() != self._user_pid:
            return
        users_lock, self._users_lock = self._users_lock, None
        atexit.unregister(self.stop)
        try:
            with _door(self._place):
                if try_lock(users_lock):
                    self._is_shutting_down = True
                    postmaster.shut_down(self._place)
        finally:
            _in_use.discard(self)
            os.close(users_lock)

    def quit(self) -> None:
        """As `stop`, also while that runs, but without a checkpoint: the next start recovers what was committed."""
        if os.getpid() != self._user_pid:
            return
        if self._is_shutting_down:
            postmaster.quit_at_once(self._place)
        elif self._users_lock is not None:
            with _door(self._place, seconds=_HURRY_SECONDS):
                if try_lock(self._users_lock):
                    postmaster.quit_at_once(self._place)


_in_use: Final[set[EmbeddedServer]] = set()
_starting: Final[set[ClusterPaths]] = set()


def stop_at_once() -> None:
    """Stops the servers whose last user this process is, in seconds; for a process that ends without cleaning up."""
    for place in list(_starting):
        if postmaster.is_started_here(place):
            postmaster.quit_at_once(place)
    for server in list(_in_use):
        with suppress(EmbeddedUnavailable, OSError):
            server.quit()


def start(data_dir: Path) -> EmbeddedServer:
    """Use the server of this data directory; make the cluster and start the server where needed.

    Blocks for some 0.1 s, or 1 s when the cluster must be made. Raises EmbeddedUnavailable with what to do about it.
    """
    try:
        place = prepare(data_dir)
        _starting.add(place)
        try:
            with _door(place):
                ensure_cluster(place)
                socket_dir = postmaster.ensure_running(place)
                users_lock = open_lock(place.users)
                fcntl.flock(users_lock, fcntl.LOCK_SH)
                return EmbeddedServer(place, socket_dir=socket_dir, users_lock=users_lock)
        finally:
            _starting.discard(place)
    except OSError as error:
        raise of_os_error(error, data_dir) from error


@contextmanager
def _door(place: ClusterPaths, *, seconds: float = _DOOR_SECONDS) -> Iterator[None]:
    lock = open_lock(place.door)
    try:
        if not becomes_true(lambda: try_lock(lock), within_seconds=seconds):
            raise EmbeddedUnavailable(
                f"another process has been starting or stopping PostgreSQL for {seconds:.0f} s",
                hint=f"see who holds {place.door}: fuser {place.door}",
            )
        yield
    finally:
        os.close(lock)
