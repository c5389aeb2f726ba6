"""Where the servers of tests keep their data, and which processes they consist of."""

from __future__ import annotations

import os
import random
import shutil
import socket
from contextlib import suppress
from pathlib import Path


def fast_directory() -> str | None:
    """A directory in memory if 2 GiB are free there, else None. On a disk two hundred databases take three times as long."""
    memory = Path("/dev/shm")
    if os.access(memory, os.W_OK) and shutil.disk_usage(memory).free > 2 << 30:
        return str(memory)
    return None


def with_children(parent: int) -> list[int]:
    """A process and its children, on Linux; the parent first: once it is killed or stopped, it replaces none of them.

    Elsewhere no children are found; PostgreSQL's processes end after the postmaster.
    """
    found = [parent]
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            if int(status.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(status.parent.name))
    return found


def free_port() -> int:
    """A port on loopback that nobody listens on, for a server that binds it only seconds later. It is none of those that
    a system gives to connections: one of another test would have it by then.
    """
    while True:
        port = random.randint(10_000, 32_000)
        with socket.socket() as listener, suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port
