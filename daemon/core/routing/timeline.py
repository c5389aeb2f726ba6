"""The timeline of one route: every state that it ever had, in a few bytes each.

A merchant may disable and enable a route for ever, and every process has every timeline. A state kept as a `Route`
would keep all windows up to then: 20,000 toggles of one route took 922 MB. So only the present state is a `Route`. Of
the others the timeline has what an event changed, in columns: its time, its log position, the status after it, and, if
they changed, the configuration and the keys. A toggle takes 17 bytes, and its window. A `Route` of the past is put
together when somebody asks for it, and is equal to the one that was the present state then:

    windows   are only appended, and closed once. Those of a state are the present ones that had begun by then, and the
              last of them is open if and only if the state was enabled
    version   counts the states
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Generic, TypeVar

from daemon.core.routing import windows
from daemon.core.routing.route import KeyRef, Route, RouteConfig, RouteStatus
from daemon.core.routing.windows import Window, Windows

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_STATUSES = tuple(RouteStatus)
_CODES = {status: code for code, status in enumerate(_STATUSES)}

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class RouteOutline:
    """What a decision looks at of a past state. A `Route` has the same attributes."""

    status: RouteStatus
    config: RouteConfig


class Timeline:
    """All states of one route in order of their `effective_at`; states are only appended.

    `patterns` belongs to the index: how many patterns it has the route under, or had.
    """

    __slots__ = ("_past", "current", "patterns")

    def __init__(self, first: Route) -> None:
        self.current = first
        self.patterns = 0
        self._past: _States | None = None

    def extend(self, route: Route) -> None:
        """Appends the next state, which `evolve` made of the present one."""
        if self._past is None:  # most routes are never changed
            self._past = _States(self.current)
        self._past.append(route)
        self.current = route

    def as_of(self, at: datetime) -> Route | None:
        """The state at `at`, None before the route was created. A change holds from its own microsecond on."""
        if self.current.updated_at <= at:
            return self.current
        place = -1 if self._past is None else self._past.place(at)
        return self._state(place) if place >= 0 else None

    def outline(self, at: datetime) -> Route | RouteOutline | None:
        """Of `as_of` what a decision needs, without the cost of the windows: the live pipeline asks for each event."""
        if self.current.updated_at <= at:
            return self.current
        past = self._past
        place = -1 if past is None else past.place(at)
        return None if past is None or place < 0 else past.outline(place)

    def of_version(self, version: int) -> Route | None:
        """The state of that version, None if there is none."""
        return self._state(version - 1) if 1 <= version <= self.current.version else None

    def all_configs(self) -> list[RouteConfig]:
        """Every configuration that it ever had, in order."""
        return [self.current.config] if self._past is None else self._past.configs()

    def all_keys(self) -> list[KeyRef]:
        """Every key that it ever had, in order."""
        sets = [self.current.keys] if self._past is None else self._past.keys()
        return list({key.id: key for keys in sets for key in reversed(keys)}.values())

    def _state(self, place: int) -> Route:
        if self._past is None or place == self.current.version - 1:
            return self.current
        return self._past.state(place, self.current)


class _Changes(Generic[_Value]):
    """The values of one attribute, each from a place on."""

    __slots__ = ("_from", "_values")

    def __init__(self, first: _Value) -> None:
        self._from = array("q", (0,))
        self._values = [first]

    def note(self, place: int, value: _Value) -> None:
        if value is not self._values[-1]:
            self._from.append(place)
            self._values.append(value)

    def all(self) -> list[_Value]:
        return self._values

    def at(self, place: int) -> _Value:
        return self._values[bisect_right(self._from, place) - 1]


class _States:
    """The columns. A place is a version less one."""

    __slots__ = ("_configs", "_keys", "_positions", "_since", "_statuses")

    def __init__(self, first: Route) -> None:
        self._since = array("q", (_microseconds(first.updated_at),))
        self._positions = array("q", (first.pos,))
        self._statuses = bytearray((_CODES[first.status],))
        self._configs: _Changes[RouteConfig] = _Changes(first.config)
        self._keys: _Changes[tuple[KeyRef, ...]] = _Changes(first.keys)

    def append(self, route: Route) -> None:
        place = len(self._since)
        self._since.append(_microseconds(route.updated_at))
        self._positions.append(route.pos)
        self._statuses.append(_CODES[route.status])
        self._configs.note(place, route.config)
        self._keys.note(place, route.keys)

    def place(self, at: datetime) -> int:
        """The place of the state at that moment, -1 before the first one."""
        return bisect_right(self._since, _microseconds(at)) - 1

    def configs(self) -> list[RouteConfig]:
        return self._configs.all()

    def keys(self) -> list[tuple[KeyRef, ...]]:
        return self._keys.all()

    def outline(self, place: int) -> RouteOutline:
        return RouteOutline(_STATUSES[self._statuses[place]], self._configs.at(place))

    def state(self, place: int, current: Route) -> Route:
        since, status = _EPOCH + self._since[place] * _MICROSECOND, _STATUSES[self._statuses[place]]
        return replace(
            current,
            version=place + 1,
            pos=self._positions[place],
            status=status,
            config=self._configs.at(place),
            windows=_windows_at(current.windows, since, is_enabled=status is RouteStatus.ENABLED),
            keys=self._keys.at(place),
            updated_at=since,
        )


def _windows_at(present: Sequence[Window], since: datetime, *, is_enabled: bool) -> Windows:
    """The windows as they were when a state began."""
    shared = windows.shared(present)
    return shared.first(shared.count_begun(since), is_open=is_enabled)


def _microseconds(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND
