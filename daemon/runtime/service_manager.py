"""What a service manager is told (sd_notify(3), systemd's Type=notify): that the daemon is ready, reloads or stops, how
a reload went, and that the event loop turns.

The watchdog follows the event loop of the main process and nothing else. A PostgreSQL that is away is no reason to
start the process anew: it waits, and a new one could do no more.

One message is one datagram to the socket that NOTIFY_SOCKET names. Nobody is told anything where there is none, and an
error is nobody's: telling must never end a daemon that works.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Coroutine
from functools import cache
from typing import TypeVar

_T = TypeVar("_T")

READY = "READY=1"
STOPPING = "STOPPING=1"
_RELOADING = "RELOADING=1"
_ALIVE = "WATCHDOG=1"

# systemd takes messages of 4096 bytes, and passes over a longer one as a whole: also over its READY=1.
MAX_STATUS_BYTES = 1000

# A part of the time after which the manager would end the process.
_WATCHDOG_PART = 1 / 3


def tell(state: str) -> None:
    """Sends a state, if a service manager listens. Never waits."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    if address.startswith("@"):  # in the abstract name space
        address = f"\0{address[1:]}"
    with contextlib.suppress(OSError):
        _socket().sendto(state.encode(), address)


@cache
def _socket() -> socket.socket:
    """Stays open: a process that has no file left must not look like one that hangs, which is started anew."""
    sending = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    sending.settimeout(0)
    return sending


def tell_reloading() -> None:
    """Says that a reload begins; `tell_reloaded` ends it. The time is for Type=notify-reload."""
    tell(f"{_RELOADING}\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")


def tell_reloaded(status: str) -> None:
    """Says that a reload has ended, and with `status` in what; the log has the rest of a long one."""
    line = " ".join(status.split()).encode(errors="backslashreplace")  # half a surrogate pair: a path that is no UTF-8
    if len(line) > MAX_STATUS_BYTES:
        line = line[:MAX_STATUS_BYTES] + " …".encode()
    tell(f"{READY}\nSTATUS={line.decode(errors='ignore')}")


def leave_to_parent() -> None:
    """Tells nothing from now on: this is a worker of the process that the manager knows."""
    os.environ.pop("NOTIFY_SOCKET", None)


async def watched(main: Coroutine[None, None, _T]) -> _T:
    """Awaits `main`, and tells meanwhile that its event loop turns, if the manager wants to know."""
    seconds = _watchdog_seconds()
    if seconds is None:
        return await main
    telling = asyncio.create_task(_keep_telling(seconds * _WATCHDOG_PART))
    try:
        return await main
    finally:
        telling.cancel()


async def _keep_telling(pause_seconds: float) -> None:
    while True:
        tell(_ALIVE)
        await asyncio.sleep(pause_seconds)


def _watchdog_seconds() -> float | None:
    """The time that the manager of this process allows between two signs of life, None if it wants none."""
    if "NOTIFY_SOCKET" not in os.environ or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    with contextlib.suppress(ValueError):
        microseconds = int(os.environ.get("WATCHDOG_USEC", ""))
        return microseconds / 1_000_000 if microseconds > 0 else None
    return None
