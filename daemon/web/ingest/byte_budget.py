"""A limit on the bytes of events in memory, for all requests together.

A batch may be large, and producers may send many at once. So each byte counts from its arrival until its request is
answered, and a request that would exceed the budget is answered 503. No request waits for others to finish: two batches
that are half read would wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from daemon.web.http.problems import RETRY_AFTER_SECONDS, Problem


class ByteBudget:
    """Shared by all requests of a process."""

    def __init__(self, max_bytes: int) -> None:
        self._free_bytes = max_bytes

    @contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """Yields a function that takes bytes until the block ends. It raises Problem 503 if too few are free."""
        taken_bytes = 0

        def take(size_bytes: int) -> None:
            nonlocal taken_bytes
            if size_bytes > self._free_bytes:
                detail = "too much is being published at the same time; nothing was stored, try again"
                raise Problem(503, detail, headers={"Retry-After": str(RETRY_AFTER_SECONDS)}, is_busy=True)
            self._free_bytes -= size_bytes
            taken_bytes += size_bytes

        try:
            yield take
        finally:
            self._free_bytes += taken_bytes
