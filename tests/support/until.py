"""Waiting for a state that nobody announces."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(state: Callable[[], object], *, seconds: float = 10.0) -> None:
    """Returns once `state()` is true; an AssertionError says that it never was."""
    try:
        async with asyncio.timeout(seconds):
            while not state():
                await asyncio.sleep(0.005)
    except TimeoutError:
        raise AssertionError(f"it did not come to that within {seconds} s") from None
