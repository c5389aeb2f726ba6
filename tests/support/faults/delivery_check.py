"""Checks deliveries by three logs: the producer's answers, the routes' windows, the receiver's requests.

The check is pure and has its own implementation of the rules of routing, so that it can prove the product wrong. A
producer does not know when its event was recorded, only that it was between the request and the answer. So a receiver
must get an event whose whole interval lies in a window, must not get one whose interval meets no window, and may get
the others.

A delivery that never arrived is lost, unless the daemon shows why: suppressed, failed, expired, or still pending.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

from tests.support.faults.producer import Publication, PublicationStatus
from tests.support.receivers.recording_receiver import Arrival

# Windows have PostgreSQL's time, producers have monotonic time. The conversion may be off by this much.
CLOCK_SECONDS = 0.05

PathAndEvent = tuple[str, str]  # the path of a receiver, the id of an event


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedRoute:
    """A route with a receiver of its own. `windows` are half-open, in monotonic seconds; an open end is math.inf."""

    id: UUID
    tenant: str
    path: str
    types: tuple[str, ...]
    windows: tuple[tuple[float, float], ...]
    is_ordered: bool = False

    def may_get(self, event: Publication) -> bool:
        return self._subscribes(event) and any(
            start - CLOCK_SECONDS < _recorded_before(event) and event.asked_at < end + CLOCK_SECONDS
            for start, end in self.windows
        )

    def must_get(self, event: Publication) -> bool:
        return (
            event.status is PublicationStatus.ACKNOWLEDGED
            and self._subscribes(event)
            and any(
                start + CLOCK_SECONDS <= event.asked_at and _recorded_before(event) <= end - CLOCK_SECONDS
                for start, end in self.windows
            )
        )

    def _subscribes(self, event: Publication) -> bool:
        group = f"{event.type.partition('.')[0]}.*"
        return event.tenant == self.tenant and not {"*", group, event.type}.isdisjoint(self.types)


def _recorded_before(event: Publication) -> float:
    return math.inf if event.answered_at is None else event.answered_at


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryCheck:
    """`repeated` counts the extra accepted requests of a delivery, which some faults may cause. The others must be empty."""

    owed: int
    lost: frozenset[PathAndEvent]
    repeated: Counter[PathAndEvent]
    unexpected: frozenset[PathAndEvent]
    misnamed: frozenset[PathAndEvent]
    unsigned: frozenset[PathAndEvent]
    overtaken: frozenset[PathAndEvent]

    @property
    def duplicates(self) -> int:
        return self.repeated.total()

    @property
    def violations(self) -> dict[str, list[PathAndEvent]]:
        """What no fault may cause: name → up to five deliveries."""
        kinds = ("lost", "unexpected", "misnamed", "unsigned", "overtaken")
        return {kind: sorted(getattr(self, kind))[:5] for kind in kinds if getattr(self, kind)}


@dataclass(kw_only=True)
class _Requests:
    arrivals: list[Arrival] = field(default_factory=list)

    @property
    def accepted(self) -> list[Arrival]:
        return [arrival for arrival in self.arrivals if arrival.is_accepted]


def check_deliveries(
    publications: Iterable[Publication],
    routes: Collection[CheckedRoute],
    arrivals: Iterable[Arrival],
    *,
    visible: Collection[PathAndEvent] = (),
) -> DeliveryCheck:
    """`visible` are the deliveries for which the daemon says why they have not arrived yet, or never will."""
    events = {event.id: event for event in publications}
    routes_by_path = {route.path: route for route in routes}
    received: dict[PathAndEvent, _Requests] = {}
    for arrival in arrivals:
        received.setdefault((arrival.path, arrival.event_id), _Requests()).arrivals.append(arrival)
    owed = {(route.path, event.id) for route in routes for event in events.values() if route.must_get(event)}
    accepted = {pair for pair, each in received.items() if each.accepted}
    return DeliveryCheck(
        owed=len(owed),
        lost=frozenset(owed - accepted - set(visible)),
        repeated=Counter({pair: len(each.accepted) - 1 for pair, each in received.items() if len(each.accepted) > 1}),
        unexpected=frozenset(pair for pair in received if not _is_expected(pair, routes_by_path, events)),
        misnamed=frozenset(
            pair for pair, each in received.items() if not _has_right_id(pair, routes_by_path, each.arrivals)
        ),
        unsigned=frozenset(pair for pair, each in received.items() if not all(one.is_signed for one in each.arrivals)),
        overtaken=frozenset(
            pair for route in routes if route.is_ordered for pair in _overtaken(route.path, events, received)
        ),
    )


def _is_expected(pair: PathAndEvent, routes_by_path: dict[str, CheckedRoute], events: dict[str, Publication]) -> bool:
    route, event = routes_by_path.get(pair[0]), events.get(pair[1])
    return (
        route is not None
        and event is not None
        and event.status is not PublicationStatus.REFUSED
        and route.may_get(event)
    )


def _has_right_id(pair: PathAndEvent, routes_by_path: dict[str, CheckedRoute], arrivals: Sequence[Arrival]) -> bool:
    """True if every request for a delivery has the webhook-id that follows from route, event and day."""
    route = routes_by_path.get(pair[0])
    if route is None:
        return True
    today = datetime.now(UTC).date()
    # Midnight may have passed since it was published, or the database's clock may be an hour ahead.
    days = (today, today - timedelta(days=1), today + timedelta(days=1))
    ids = {arrival.webhook_id for arrival in arrivals}
    return len(ids) == 1 and ids <= {str(uuid5(route.id, f"{pair[1]}\n{day}")) for day in days}


def _overtaken(
    path: str, events: dict[str, Publication], received: dict[PathAndEvent, _Requests]
) -> list[PathAndEvent]:
    """Deliveries of an ordered route that arrived only after an event which was published after their acknowledgement."""
    firsts = [
        each.accepted[0] for pair, each in received.items() if pair[0] == path and each.accepted and pair[1] in events
    ]
    found, latest = [], -math.inf
    for first in sorted(firsts, key=lambda arrival: arrival.at):
        event = events[first.event_id]
        if _recorded_before(event) < latest:
            found.append((path, event.id))
        latest = max(latest, event.asked_at)
    return found


def most_within(times: Iterable[float], seconds: float) -> int:
    """The largest number of `times` in any half-open interval of this length."""
    ordered = sorted(times)
    most = start = 0
    for end, at in enumerate(ordered):
        while at - ordered[start] >= seconds:
            start += 1
        most = max(most, end - start + 1)
    return most
