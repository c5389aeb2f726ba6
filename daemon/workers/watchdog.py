"""The watchdog of workers: how a parent finds out that the event loop of a worker stands still.

A worker that dies is seen at once. One that hangs keeps its place: its shards go to other processes when its leases run
out, but it answers none of the requests that it has accepted, and nobody starts it anew. So a worker writes a byte into
a pipe from time to time, and the parent kills one of which it found none so often. It counts its looks and not the
seconds: where parent and workers are paused together, as a container or a machine is, nobody is killed for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os

SIGN_SECONDS = 5.0
# Together as long as systemd waits for the main process (deploy/hookledger.service).
LOOKS = 6

_MANY = 4096


class Watchdog:
    """The parent's side, for one worker. `descriptor` is what the worker inherits; `inherited` once it has."""

    def __init__(self) -> None:
        self._signs, self.descriptor = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def inherited(self) -> None:
        os.close(self.descriptor)

    def close(self) -> None:
        os.close(self._signs)

    async def until_hanging(self) -> None:
        """Returns when the worker has given no sign for so many looks."""
        in_vain = 0
        while in_vain < LOOKS:
            await asyncio.sleep(SIGN_SECONDS)
            in_vain = 0 if self._has_signs() else in_vain + 1

    def _has_signs(self) -> bool:
        try:
            return os.read(self._signs, _MANY) != b""
        except BlockingIOError:
            return False


async def give_signs(descriptor: int) -> None:
    """The worker's side: says that its event loop turns, for ever."""
    while True:
        with contextlib.suppress(OSError):  # nobody reads: there are enough signs, or no parent any more
            os.write(descriptor, b".")
        await asyncio.sleep(SIGN_SECONDS)
