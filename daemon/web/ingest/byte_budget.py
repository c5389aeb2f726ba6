"""How many bytes of events may be in memory at once, in all requests together.

A batch may be large, and nobody is kept from sending many. So each byte counts from when it comes until its request is
answered, and who finds the room full is told to come back. Nobody waits for room: two halves of batches would wait for
each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from daemon.web.http.problems import RETRY_AFTER_SECONDS, Problem


class ByteBudget:
    """Shared by all requests of a process."""

    def __init__(self, most_bytes: int) -> None:
        self._free_bytes = most_bytes

    @contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """Yields what takes so many bytes until the block ends, and raises Problem if there are not so many."""
        taken_bytes = 0

        def take(size_bytes: int) -> None:
            nonlocal taken_bytes
            if size_bytes > self._free_bytes:
                detail = "too much is being published at the same time; nothing was stored, try again"
                raise Problem(503, detail, headers={"Retry-After": str(RETRY_AFTER_SECONDS)})
            self._free_bytes -= size_bytes
            taken_bytes += size_bytes

        try:
            yield take
        finally:
            self._free_bytes += taken_bytes
