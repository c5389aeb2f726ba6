"""Windows: the half-open intervals [enabled, disabled) in which a route receives.

The invariants: the windows of a route are in order and do not overlap; only the last one can be open; the moment of
the enable is inside, the moment of the disable is not. `daemon.core.routing.route.evolve` keeps them, and no other code
creates windows.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Window:
    """[start, end); `end` is None while the window is open."""

    start: datetime
    end: datetime | None = None

    def __post_init__(self) -> None:
        if self.end is not None and self.end <= self.start:
            raise ValueError(f"a window must end after it starts: {self.start} .. {self.end}")

    @property
    def is_open(self) -> bool:
        """True until the route is disabled or deleted."""
        return self.end is None

    def contains(self, at: datetime) -> bool:
        """True from the microsecond of the enable to the one before the disable."""
        return self.start <= at and (self.end is None or at < self.end)


def find(windows: tuple[Window, ...], at: datetime) -> Window | None:
    """The window that contains `at`, if any."""
    last = bisect_right(windows, at, key=_start) - 1
    return windows[last] if last >= 0 and windows[last].contains(at) else None


def is_sendable(windows: tuple[Window, ...], event_time: datetime) -> bool:
    """True if the window that contains the event time is still open. The send gate checks this before every attempt."""
    return bool(windows) and windows[-1].is_open and windows[-1].start <= event_time


def count_begun(windows: Sequence[Window], at: datetime) -> int:
    """How many of the windows had begun by then; the moment of an enable counts."""
    return bisect_right(windows, at, key=_start)


def last_end(windows: tuple[Window, ...]) -> datetime | None:
    """When a window last closed, None if none ever did."""
    return next((window.end for window in windows[:-3:-1] if window.end is not None), None)


def opened(windows: tuple[Window, ...], at: datetime) -> tuple[Window, ...]:
    """The windows plus a new open one from `at` on. Raises ValueError if the last one is open."""
    if windows and windows[-1].is_open:
        raise ValueError("the last window is open already")
    return (*windows, Window(at))


def closed(windows: tuple[Window, ...], at: datetime) -> tuple[Window, ...]:
    """The windows with the open one, if any, closed at `at`."""
    if not windows or not windows[-1].is_open:
        return windows
    return (*windows[:-1], Window(windows[-1].start, at))


def _start(window: Window) -> datetime:
    return window.start
