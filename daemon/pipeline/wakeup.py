"""A bell between loops: ring it, and whoever waits looks again.

The order that loses nothing is: hush the bell, read, then wait. Whoever rings after the hush is heard by the wait.
"""

from __future__ import annotations

import asyncio


class Bell:
    """An event with a wait that ends by itself: notifications hurry, polling guarantees."""

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        self._event.set()

    def hush(self) -> None:
        self._event.clear()

    @property
    def is_rung(self) -> bool:
        return self._event.is_set()

    async def wait_rung(self) -> None:
        """Waits for as long as it takes."""
        await self._event.wait()

    async def wait(self, seconds: float) -> bool:
        """True if the bell rang within `seconds`."""
        if self._event.is_set():
            return True
        try:
            async with asyncio.timeout(seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        return True
