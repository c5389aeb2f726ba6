"""A wakeup between loops: one loop sets it, and the loop that waits for it looks again.

Clear it, then read, then wait: in this order a wakeup that is set after the read still ends the wait.
"""

from __future__ import annotations

import asyncio


class Wakeup:
    """An event whose wait has a time limit: a notification makes a loop quick, polling makes it right."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        self._event.set()

    def clear(self) -> None:
        self._event.clear()

    @property
    def is_set(self) -> bool:
        return self._event.is_set()

    async def wait_set(self) -> None:
        """Waits for as long as it takes."""
        await self._event.wait()

    async def wait(self, seconds: float) -> bool:
        """True if it was set within `seconds`."""
        if self._event.is_set():
            return True
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        return True
