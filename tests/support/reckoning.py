"""What a fault has cost, by three logs: what a producer was told, what became of routes, what a receiver got.

Pure, and it knows the rules of routing by itself, so that it can find the product wrong. A producer does not know the
moment at which its event was recorded, only that it lies between asking and the answer; a receiver is owed what surely
fell into a window, must not get what surely fell into none, and may get the rest.

A delivery that never arrived is lost unless it can be seen why: suppressed, failed, expired, or waiting still.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from uuid import UUID, uuid5

from tests.support.producer import Fate, Publication
from tests.support.witness import Arrival

# Windows are told by PostgreSQL's clock, the producer's times are monotonic: turning one into the other is this exact.
CLOCK_SECONDS = 0.05

Pair = tuple[str, str]  # the path of a receiver, the id of an event


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """A route with a receiver of its own. `windows` are monotonic seconds, half-open, math.inf without an end."""

    id: UUID
    tenant: str
    path: str
    types: tuple[str, ...]
    windows: tuple[tuple[float, float], ...]
    is_ordered: bool = False

    def may_get(self, event: Publication) -> bool:
        return self._subscribes(event) and any(
            start - CLOCK_SECONDS < _until(event) and event.asked_at < end + CLOCK_SECONDS
            for start, end in self.windows
        )

    def must_get(self, event: Publication) -> bool:
        return (
            event.fate is Fate.ACKNOWLEDGED
            and self._subscribes(event)
            and any(
                start + CLOCK_SECONDS <= event.asked_at and _until(event) <= end - CLOCK_SECONDS
                for start, end in self.windows
            )
        )

    def _subscribes(self, event: Publication) -> bool:
        group = f"{event.type.partition('.')[0]}.*"
        return event.tenant == self.tenant and not {"*", group, event.type}.isdisjoint(self.types)


def _until(event: Publication) -> float:
    return math.inf if event.answered_at is None else event.answered_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Reckoning:
    """All of it should be empty, but `repeated`, which some faults may cost: pairs that were taken more than once."""

    owed: int
    lost: frozenset[Pair]
    repeated: Counter[Pair]
    unexpected: frozenset[Pair]
    misnamed: frozenset[Pair]
    unsigned: frozenset[Pair]
    overtaken: frozenset[Pair]

    @property
    def duplicates(self) -> int:
        return self.repeated.total()

    @property
    def faults(self) -> dict[str, list[Pair]]:
        """What must never be, whatever happened."""
        kinds = ("lost", "unexpected", "misnamed", "unsigned", "overtaken")
        return {kind: sorted(getattr(self, kind))[:5] for kind in kinds if getattr(self, kind)}


@dataclass(kw_only=True)
class _Got:
    arrivals: list[Arrival] = field(default_factory=list)

    @property
    def taken(self) -> list[Arrival]:
        return [arrival for arrival in self.arrivals if arrival.is_taken]


def reckon(
    publications: Iterable[Publication],
    routes: Collection[Watched],
    arrivals: Iterable[Arrival],
    *,
    visible: Collection[Pair] = (),
) -> Reckoning:
    """`visible` are the pairs of which the daemon says why they have not arrived, or not yet."""
    events = {event.id: event for event in publications}
    watched = {route.path: route for route in routes}
    got: dict[Pair, _Got] = {}
    for arrival in arrivals:
        got.setdefault((arrival.path, arrival.event_id), _Got()).arrivals.append(arrival)
    owed = {(route.path, event.id) for route in routes for event in events.values() if route.must_get(event)}
    taken = {pair for pair, each in got.items() if each.taken}
    return Reckoning(
        owed=len(owed),
        lost=frozenset(owed - taken - set(visible)),
        repeated=Counter({pair: len(each.taken) - 1 for pair, each in got.items() if len(each.taken) > 1}),
        unexpected=frozenset(pair for pair in got if not _is_expected(pair, watched, events)),
        misnamed=frozenset(pair for pair, each in got.items() if not _is_named(pair, watched, each.arrivals)),
        unsigned=frozenset(pair for pair, each in got.items() if not all(one.is_signed for one in each.arrivals)),
        overtaken=frozenset(
            pair for route in routes if route.is_ordered for pair in _overtaken(route.path, events, got)
        ),
    )


def _is_expected(pair: Pair, watched: dict[str, Watched], events: dict[str, Publication]) -> bool:
    route, event = watched.get(pair[0]), events.get(pair[1])
    return route is not None and event is not None and event.fate is not Fate.REFUSED and route.may_get(event)


def _is_named(pair: Pair, watched: dict[str, Watched], arrivals: Sequence[Arrival]) -> bool:
    """Every request for a delivery has the one id that follows from route and event."""
    route = watched.get(pair[0])
    return route is None or {arrival.webhook_id for arrival in arrivals} == {str(uuid5(route.id, pair[1]))}


def _overtaken(path: str, events: dict[str, Publication], got: dict[Pair, _Got]) -> list[Pair]:
    """Pairs of an ordered route that arrived first after something that was published when they were known already."""
    firsts = [each.taken[0] for pair, each in got.items() if pair[0] == path and each.taken and pair[1] in events]
    found, latest = [], -math.inf
    for first in sorted(firsts, key=lambda arrival: arrival.at):
        event = events[first.event_id]
        if _until(event) < latest:
            found.append((path, event.id))
        latest = max(latest, event.asked_at)
    return found


def most_within(times: Iterable[float], seconds: float) -> int:
    """The most that fall into any half-open interval of this length."""
    ordered = sorted(times)
    most = start = 0
    for end, at in enumerate(ordered):
        while at - ordered[start] >= seconds:
            start += 1
        most = max(most, end - start + 1)
    return most
