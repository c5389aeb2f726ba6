"""File locks, and waiting until another process has done something."""

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

_POLL_SECONDS: Final = 0.005


def open_lock(path: Path) -> int:
    """Makes the file if there is none.

    What root makes in the directory of an ordinary user belongs to them: their daemon must be able to lock it, too.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    if os.geteuid() == 0 and (directory := path.parent.stat()).st_uid != os.fstat(descriptor).st_uid:
        os.fchown(descriptor, directory.st_uid, directory.st_gid)
    return descriptor


def try_lock(descriptor: int) -> bool:
    """True if this process has the exclusive lock now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def becomes_true(condition: Callable[[], bool], *, within_seconds: float) -> bool:
    """Polls a condition, and blocks meanwhile. False if it stays false for that long."""
    deadline = time.monotonic() + within_seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True
