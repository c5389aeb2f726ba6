"""The newest ticks as this process was told of them, some with their events, so that the tailer need not ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from eventstore.domain_events.events import StoredEvent
from eventstore.domain_events.ticks import Tick

# So many ticks that were told of are kept for a tailer that waits for room; it asks for the others.
TOLD_TICKS = 16


@dataclass(frozen=True, slots=True)
class _ToldTick:
    """A tick, and its events in the shards whose bits are in `shards`, if they came with it."""

    tick: Tick
    events: Sequence[StoredEvent] | None
    shards: int

    def has_events_of(self, shards: int) -> bool:
        return self.events is not None and shards & ~self.shards == 0


class ToldTicks:
    """The ticks that were told of, by number. A tick that nobody has read yet may be missing."""

    def __init__(self) -> None:
        self._ticks: dict[int, _ToldTick] = {}
        self._newest: int | None = None

    def __len__(self) -> int:
        return len(self._ticks)

    def add(self, newest: Tick, events: Sequence[StoredEvent] | None, shards: int) -> None:
        """This is the newest tick that there is; `events` are those of the shards in the bits of `shards`."""
        self._ticks[newest.tick] = _ToldTick(newest, events, shards)
        if len(self._ticks) > TOLD_TICKS:
            del self._ticks[min(self._ticks)]
        self._newest = newest.tick if self._newest is None else max(self._newest, newest.tick)

    def must_ask(self) -> None:
        """There may be ticks that nobody told of."""
        self._newest = None

    def clear(self) -> None:
        """Forgets all, since ticks may be gone."""
        self._ticks.clear()
        self._newest = None

    def forget(self, upto: int) -> None:
        """Forgets ticks up to this one: their events take memory that the ledger does not count."""
        for number in [number for number in self._ticks if number <= upto]:
            del self._ticks[number]

    def known_from(self, tick: int) -> int:
        """The last tick that is known if `tick` is, and all between the two."""
        while tick + 1 in self._ticks:
            tick += 1
        return tick

    def take_after(self, begin: int) -> list[Tick] | None:
        """All ticks after number `begin`, None if the database has to be asked. The next time it has to be, unless news
        has come since.
        """
        newest, self._newest = self._newest, None
        if newest is None or not all(number in self._ticks for number in range(begin + 1, newest + 1)):
            return None
        return [self._ticks[number].tick for number in range(begin + 1, newest + 1)]

    def take_events(self, cut: Tick, shards: int) -> Sequence[StoredEvent] | None:
        """The events of a tick in the shards of these bits, None if they did not come with it. They are forgotten."""
        told = self._ticks.pop(cut.tick, None)
        return told.events if told is not None and told.tick == cut and told.has_events_of(shards) else None
