"""Windows: the half-open intervals [enabled, disabled) in which a route receives.

The invariants: the windows of a route are in order and do not overlap; only the last one can be open; the moment of
the enable is inside, the moment of the disable is not. `daemon.core.routing.route.evolve` keeps them, and no other code
creates windows.

A merchant may disable and enable a route for ever, and each state of it has all windows up to then. So states share
them (`Windows`): to fold 50,000 events took 4.5 s while each state had a tuple of its own, and four times as many
sixteen times as long.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Final, overload


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


class Windows(Sequence[Window]):
    """The windows of one state of a route, like a tuple of them, which they equal.

    The closed ones are the first so many of a list that the states of the route share. Only the end of that list is
    added to, and only by the state that has all of it: a state that was made of an earlier one gets a list of its own.
    """

    __slots__ = ("_closed", "_count", "last")

    def __init__(self, closed: list[Window], count: int, last: Window | None) -> None:
        """The first `count` of `closed`, and then `last` if that is open; if it is not, it is the last one of these."""
        self._closed = closed
        self._count = count
        self.last: Final = last

    def opened(self, at: datetime) -> Windows:
        """These windows and a new open one from `at` on."""
        return Windows(self._closed, self._count, Window(at))

    def closed(self, at: datetime) -> Windows:
        """These windows with the open one, if any, closed at `at`."""
        if self.last is None or not self.last.is_open:
            return self
        ended, closed = Window(self.last.start, at), self._closed
        if len(closed) == self._count:
            closed.append(ended)
        if closed[self._count] is not ended:  # another state of another thread was quicker, or is older
            closed = [*islice(closed, self._count), ended]
        return Windows(closed, self._count + 1, ended)

    def first(self, count: int, *, is_open: bool) -> Windows:
        """The first so many of these windows, as they were before or after the last of them was closed."""
        if is_open:
            return Windows(self._closed, count - 1, Window(self[count - 1].start))
        return Windows(self._closed, count, self._closed[count - 1] if count else None)

    def count_begun(self, at: datetime) -> int:
        """How many of the windows had begun by then; the moment of an enable counts."""
        if self.last is not None and self.last.start <= at:
            return len(self)
        return bisect_right(self._closed, at, hi=self._count, key=_start)

    def find(self, at: datetime) -> Window | None:
        """The window that contains `at`, if any."""
        window = self.last
        if window is not None and at < window.start:
            place = bisect_right(self._closed, at, hi=self._count, key=_start)
            window = self._closed[place - 1] if place else None
        return window if window is not None and window.contains(at) else None

    def __len__(self) -> int:
        return self._count if self.last is None or not self.last.is_open else self._count + 1

    @overload
    def __getitem__(self, place: int) -> Window: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[Window, ...]: ...

    def __getitem__(self, place: int | slice) -> Window | tuple[Window, ...]:
        if isinstance(place, slice):
            return tuple(self[each] for each in range(*place.indices(len(self))))
        size = len(self)
        place = place + size if place < 0 else place
        if not 0 <= place < size:
            raise IndexError(place)
        return self.last if place == size - 1 and self.last is not None else self._closed[place]

    def __iter__(self) -> Iterator[Window]:
        yield from islice(self._closed, self._count)
        if self.last is not None and self.last.is_open:
            yield self.last

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Windows) and other._closed is self._closed:
            return (other._count, other.last) == (self._count, self.last)
        return tuple(self) == tuple(other) if isinstance(other, Windows | tuple) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"Windows({tuple(self)!r})"


def find(windows: Sequence[Window], at: datetime) -> Window | None:
    """The window that contains `at`, if any."""
    return shared(windows).find(at)


def is_sendable(windows: Sequence[Window], event_time: datetime) -> bool:
    """True if the window that contains the event time is still open. The send gate checks this before every attempt."""
    last = windows.last if isinstance(windows, Windows) else windows[-1] if windows else None
    return last is not None and last.end is None and last.start <= event_time


def last_end(windows: Sequence[Window]) -> datetime | None:
    """When a window last closed, None if none ever did."""
    return next((window.end for window in windows[:-3:-1] if window.end is not None), None)


def opened(windows: Sequence[Window], at: datetime) -> Windows:
    """The windows plus a new open one from `at` on. Raises ValueError if the last one is open."""
    if windows and windows[-1].is_open:
        raise ValueError("the last window is open already")
    return shared(windows).opened(at)


def closed(windows: Sequence[Window], at: datetime) -> Windows:
    """The windows with the open one, if any, closed at `at`."""
    return shared(windows).closed(at)


def shared(windows: Sequence[Window]) -> Windows:
    """The same as `Windows`."""
    if isinstance(windows, Windows):
        return windows
    ended = [window for window in windows if not window.is_open]
    return Windows(ended, len(ended), windows[-1] if windows else None)


def _start(window: Window) -> datetime:
    return window.start
