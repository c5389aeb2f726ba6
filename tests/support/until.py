"""Waits for a state that has no signal."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(state: Callable[[], object], *, seconds: float = 60.0) -> None:
    """Returns once `state()` is true. Raises AssertionError if it is not within `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            while not state():
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"the state was not reached within {seconds} s") from None
