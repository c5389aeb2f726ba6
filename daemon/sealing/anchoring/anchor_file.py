"""The file to which every signed head is appended, so that it can be kept where the database is not.

A line is a JSON object: `seal` and `at` for people, `note` with the signed head for `hookledger audit --anchors`. It is
on disk when `append` returns. A line that did not fit on the disk is taken back; after one that a crash has cut, the
next one begins on its own.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import orjson

from daemon.core.sealing.head import SignedHead


def line_of(head: SignedHead, at: datetime) -> bytes:
    """The line of a head that was signed at that time."""
    moment = at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return orjson.dumps({"seal": head.head.size, "at": moment, "note": head.note}) + b"\n"


def append(path: Path, line: bytes) -> None:
    """Appends a line, and returns when it is on disk. Blocks, and raises OSError with the path."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line
        try:
            _write(descriptor, line)
        except OSError as error:
            with suppress(OSError):  # what keeps it from being written is told
                os.ftruncate(descriptor, size)
            raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        os.close(descriptor)


def _write(descriptor: int, line: bytes) -> None:
    if os.write(descriptor, line) < len(line):
        raise OSError(errno.ENOSPC, "only a part of the line was written")
    os.fsync(descriptor)
