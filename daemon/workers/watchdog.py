"""The watchdog of workers: how a parent finds out that the event loop of a worker stands still.

A worker that dies is seen at once. One that hangs keeps its place: its shards go to other processes when its leases run
out, but it answers none of the requests that it has accepted, and nobody starts it anew. So a worker pings its parent
by a pipe, and the parent kills one whose pings were missed so often in a row. It counts them and not the seconds: where
parent and workers are paused together, as a container or a machine is, nobody is killed for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os

PING_SECONDS = 5.0
# Together as long as systemd waits for the main process (deploy/hookledger.service).
MISSED_PINGS = 6

_MANY = 4096


class Watchdog:
    """The parent's side, for one worker. `descriptor` is the end of the pipe that the worker inherits."""

    def __init__(self) -> None:
        self._reading, self.descriptor = os.pipe()
        for each in (self._reading, self.descriptor):
            os.set_blocking(each, False)

    def close_writing(self) -> None:
        """Closes the worker's end here, once the worker has it."""
        os.close(self.descriptor)

    def close(self) -> None:
        os.close(self._reading)

    async def until_hanging(self) -> None:
        """Returns when MISSED_PINGS of the worker's pings in a row were missed."""
        missed = 0
        while missed < MISSED_PINGS:
            await asyncio.sleep(PING_SECONDS)
            missed = 0 if self._was_pinged() else missed + 1

    def _was_pinged(self) -> bool:
        try:
            return os.read(self._reading, _MANY) != b""
        except BlockingIOError:
            return False


async def send_pings(descriptor: int) -> None:
    """The worker's side: says that its event loop turns, for ever."""
    while True:
        with contextlib.suppress(OSError):  # the pipe is full, or there is no parent any more
            os.write(descriptor, b".")
        await asyncio.sleep(PING_SECONDS)
