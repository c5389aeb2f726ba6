"""How many files this process may have open, and how they are shared out. A connection is an open file.

Sending comes first: clients get what requests to receivers, the database and the rest do not need. A process that runs
out of files could neither accept a connection nor make a request.
"""

from __future__ import annotations

import contextlib
import os
import resource
from pathlib import Path

# As much as a process of ours can use. Some systems allow a thousand million, and programs that close all inherited
# files one by one take minutes with that.
MOST_FILES = 65_536

# Listening sockets, the loop's own, name servers, the log, files that are read on occasion.
OTHER_FILES = 64

_LAST_STREAM = 2

# What the start of a process takes for a moment, and two more.
_FILES_OF_START = 12

# Where files are so few that sending would take them all, clients get this part of them anyway.
LEAST_PART = 0.25


def raise_limit() -> int:
    """Raises the soft limit of this process as far as it may, and returns what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, MOST_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # forbidden here: what there is has to do
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST_FILES if soft == resource.RLIM_INFINITY else soft


def for_clients(limit: int, *, sending: int, others: int, wanted: int) -> int:
    """The connections that clients may have, at most `wanted`, where `limit` files may be open.

    `sending` is how many requests may be under way; as many connections may be kept for the next ones. `others` are
    further connections that are certain.
    """
    left = limit - 2 * sending - others - OTHER_FILES
    return max(1, min(wanted, max(left, int(limit * LEAST_PART))))


def require_for_start() -> None:
    """Raises OSError if too few files are left to start a process.

    uvloop does not give back what it has opened when it finds that out by itself: attempt after attempt would take the
    last ones.
    """
    with contextlib.ExitStack() as opened:
        for _ in range(_FILES_OF_START):
            opened.callback(os.close, os.open(os.devnull, os.O_RDONLY))


def keep_inherited() -> None:
    """Keeps what this process has inherited, but for its standard streams, from the processes that it starts.

    What it opens itself they do not get anyway.
    """
    with contextlib.suppress(OSError):  # there is no such folder where nobody has made one
        for each in Path("/dev/fd").iterdir():
            if (descriptor := int(each.name)) > _LAST_STREAM:
                with contextlib.suppress(OSError):  # the listing's own, which is closed by now
                    os.set_inheritable(descriptor, False)  # noqa: FBT003 - it has no keyword
