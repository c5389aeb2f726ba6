"""A limit on the bytes of events in memory, for all requests together.

A batch may be large, and producers may send many at once. So each byte counts from its arrival until its request is
answered, and a request that would exceed the budget is answered 503. No request waits for others to finish: two batches
that are half read would wait for each other.

A tenant with a token of its own has OF_ONE of it at most, and so cannot keep others from publishing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from daemon.web.http.problems import RETRY_AFTER_SECONDS, Problem

OF_ONE = 0.5


class ByteBudget:
    """Shared by all requests of a process."""

    def __init__(self, max_bytes: int) -> None:
        self._free_bytes = max_bytes
        self._bytes_of_one = int(max_bytes * OF_ONE)
        self._taken_bytes: Counter[str] = Counter()

    @contextmanager
    def share(self, tenant: str | None) -> Iterator[Callable[[int], None]]:
        """Yields a function that takes bytes until the block ends. It raises Problem 503 if too few are free.

        `tenant` is that of the caller, None for one who publishes for all.
        """
        taken_bytes = 0

        def take(size_bytes: int) -> None:
            nonlocal taken_bytes
            if size_bytes > self._free(tenant):
                detail = "too much is being published at the same time; nothing was stored, try again"
                raise Problem(503, detail, headers={"Retry-After": str(RETRY_AFTER_SECONDS)}, is_busy=True)
            self._count(tenant, size_bytes)
            taken_bytes += size_bytes

        try:
            yield take
        finally:
            self._count(tenant, -taken_bytes)

    def _free(self, tenant: str | None) -> int:
        if tenant is None:
            return self._free_bytes
        return min(self._free_bytes, self._bytes_of_one - self._taken_bytes[tenant])

    def _count(self, tenant: str | None, size_bytes: int) -> None:
        self._free_bytes -= size_bytes
        if tenant is not None:
            self._taken_bytes[tenant] += size_bytes
            if not self._taken_bytes[tenant]:
                del self._taken_bytes[tenant]
