"""The long bodies of one tenant are worked at in turn, and for half of the time at most.

To parse and check one takes up to a tenth of a second, in which the event loop does nothing else. If thirty connections
of one tenant had such bodies ready, everybody else would wait for seconds between two steps of their own. So a body is
handed out when the one before it was worked at, and as much time again has passed for others. Work that goes on in many
steps, as that of a batch, has the one place of its tenant instead. A caller who is bound to no tenant waits for nobody.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from weakref import WeakValueDictionary

from aiohttp import web

from daemon.web.http.problems import RETRY_AFTER_SECONDS, Problem

# A thousand of shorter ones are worked at in a second.
SHORT_BYTES = 8 << 10
# What waits is in memory.
MAX_WAITING_BYTES = 16 << 20
PATIENCE_SECONDS = 2.0
# To store a batch takes longer.
PLACE_PATIENCE_SECONDS = 10.0
MAX_PAUSE_SECONDS = 0.5

# The tenant that the caller is bound to; absent for others.
BOUND_TO = web.RequestKey("bound_to", str)


class Turns:
    """Await `turn` before work that is done without an await, and have a `place` while work in steps is done."""

    def __init__(self) -> None:
        self._lines: WeakValueDictionary[str, _Line] = WeakValueDictionary()

    async def turn(self, tenant: str, size_bytes: int, *, later_seconds: float = 0.0) -> None:
        """Returns when a body of so many bytes may be worked at. Raises Problem 503 if that takes too long.

        `later_seconds` is about what the work takes that comes after an await.
        """
        line = self._lines.setdefault(tenant, _Line())
        await line.wait(line.turn, size_bytes, PATIENCE_SECONDS)
        loop = asyncio.get_running_loop()
        loop.call_soon(line.worked, loop.time(), later_seconds)  # once the caller awaits something

    @asynccontextmanager
    async def place(self, tenant: str, size_bytes: int) -> AsyncIterator[None]:
        """The place for work on so many bytes. Raises Problem 503 if others have it for too long."""
        line = self._lines.setdefault(tenant, _Line())
        await line.wait(line.place, size_bytes, PLACE_PATIENCE_SECONDS)
        try:
            yield
        finally:
            line.place.release()


TURNS = web.AppKey("turns", Turns)


async def turn(
    request: web.Request, size_bytes: int, *, short_bytes: int = SHORT_BYTES, later_seconds: float = 0.0
) -> None:
    """Waits for the turn of a body that is not short. Raises Problem 503."""
    tenant = request.get(BOUND_TO)
    if tenant is not None and size_bytes > short_bytes:
        await request.app[TURNS].turn(tenant, size_bytes, later_seconds=later_seconds)


@asynccontextmanager
async def place(request: web.Request, size_bytes: int) -> AsyncIterator[None]:
    """Has the place for work in steps on a body, if it is long. Raises Problem 503."""
    tenant = request.get(BOUND_TO)
    if tenant is None or size_bytes <= SHORT_BYTES:
        yield
        return
    async with request.app[TURNS].place(tenant, size_bytes):
        yield


class _Line:
    """Those who wait for the bodies of one tenant. It is kept by them, and by the pause after the last of them."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.place = asyncio.Lock()
        self.waiting_bytes = 0

    async def wait(self, lock: asyncio.Lock, size_bytes: int, patience_seconds: float) -> None:
        """Takes a lock. Raises Problem if that takes too long, or too much waits already."""
        if self.waiting_bytes and self.waiting_bytes + size_bytes > MAX_WAITING_BYTES:
            raise _busy()
        self.waiting_bytes += size_bytes
        try:
            async with asyncio.timeout(patience_seconds):
                await lock.acquire()
        except TimeoutError:
            raise _busy() from None
        finally:
            self.waiting_bytes -= size_bytes

    def worked(self, since: float, later_seconds: float) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(min(loop.time() - since + 2 * later_seconds, MAX_PAUSE_SECONDS), self._release)

    def _release(self) -> None:
        self.turn.release()


def _busy() -> Problem:
    detail = "too much of this tenant is being read at the same time; nothing was done, send fewer at once"
    return Problem(503, detail, headers={"Retry-After": str(RETRY_AFTER_SECONDS)}, is_busy=True)
