"""What the model of delivering knows, and the check of a receiver's log and of the recorded outcomes against it."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from daemon.core.routing.route import Route

# After so many failures a delivery is given up.
ATTEMPTS = 6
# After a command is acknowledged other processes act on the old state for a second at most.
ELSEWHERE_SECONDS = 1.0


class Mode(Enum):
    """How a receiver answers. What hangs is answered once it has another mode, by that mode."""

    OK = "ok"
    FAIL = "fail"
    FAIL_SOME = "fail some"  # every third request
    HANG = "hang"
    HANG_SOME = "hang some"  # every third request

    def of_request(self, number: int) -> Mode:
        """OK, FAIL or HANG, for a request by its number."""
        match self:
            case Mode.FAIL_SOME:
                return Mode.OK if number % 3 else Mode.FAIL
            case Mode.HANG_SOME:
                return Mode.OK if number % 3 else Mode.HANG
            case _:
                return self


Pair = tuple[int, str]  # the number of a route, the id of an event


@dataclass(kw_only=True)
class Arrival:
    pair: Pair
    at: float
    accepted_at: float | None = None
    is_failed: bool = False


@dataclass(kw_only=True)
class ModelRoute:
    """What the model knows of a route. `ordered` are the past periods in which nobody might break the order any more;
    `disabled` are the moments at which it was disabled, and until when a request of before might arrive.
    """

    route: Route
    mode: Mode = Mode.OK
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    is_enabled: bool = True
    is_ordered: bool = False
    disabled: list[tuple[float, float]] = field(default_factory=list)
    ordered: list[tuple[float, float]] = field(default_factory=list)
    ordered_since: float = 0.0

    def answer_with(self, mode: Mode) -> None:
        """Answers so from now on, also what hangs."""
        self.mode = mode
        self.changed.set()
        self.changed = asyncio.Event()

    def closed(self, published: float) -> tuple[float, float]:
        """When the window of an event of that moment was closed, and until when it might arrive; infinite if it is open."""
        return min((each for each in self.disabled if each[0] > published), default=(math.inf, math.inf))

    def was_ordered(self, at: float) -> bool:
        return any(begin <= at < end for begin, end in self.ordered) or (self.is_ordered and at >= self.ordered_since)


@dataclass(frozen=True, kw_only=True)
class ReceiverLog:
    """`due` are the pairs that were published for an enabled route, in order, and when; `excused` counts how often each
    was in the hands of a process that crashed.
    """

    arrivals: Sequence[Arrival]
    due: Mapping[Pair, float]
    excused: Counter[Pair]
    routes: Sequence[ModelRoute]

    def check(self, outcomes: Mapping[Pair, list[str]]) -> None:
        """Raises AssertionError. `outcomes` are the recorded ones of each pair, in order."""
        lost, unexpected = self.due.keys() - outcomes.keys(), outcomes.keys() - self.due.keys()
        assert not lost, f"lost: {sorted(lost)}"
        assert not unexpected, f"not due: {sorted(unexpected)}"
        requests = Counter(arrival.pair for arrival in self.arrivals)
        assert requests.keys() <= self.due.keys(), f"sent and not due: {sorted(requests.keys() - self.due.keys())}"
        for pair, words in outcomes.items():
            self._check_pair(pair, words, requests[pair])
        self._check_disables()
        for number, route in enumerate(self.routes):
            self._check_order(number, route, outcomes)

    def _check_pair(self, pair: Pair, words: list[str], requests: int) -> None:
        where, excused = f"{pair}: {words}, {requests} requests", self.excused[pair]
        accepted = sum(arrival.pair == pair and arrival.accepted_at is not None for arrival in self.arrivals)
        failed = sum(arrival.pair == pair and arrival.is_failed for arrival in self.arrivals)
        recorded = sum(word in ("delivered", "retrying", "failed") for word in words)
        assert recorded <= requests <= recorded + excused, f"sent twice, {where}"
        assert accepted <= 1 + excused, f"accepted twice, {where}"
        ends = [word for word in words if word != "retrying"]
        assert 1 <= len(ends) <= 1 + excused, f"ended more than once, {where}"
        assert excused or words[-1] == ends[0], f"tried again after its end, {where}"
        if "delivered" in ends:
            assert accepted, f"delivered to nobody, {where}"
        if "failed" in ends:
            assert failed >= ATTEMPTS, f"given up too early, {where}"
        if "suppressed" in ends:
            closed, _ = self.routes[pair[0]].closed(self.due[pair])
            assert closed < math.inf, f"suppressed though its route was never disabled, {where}"

    def _check_disables(self) -> None:
        for arrival in self.arrivals:
            _, until = self.routes[arrival.pair[0]].closed(self.due[arrival.pair])
            assert arrival.at <= until, (
                f"{arrival.pair} was sent after the disable, {arrival.at - until:.3f} s too late"
            )

    def _check_order(self, number: int, route: ModelRoute, outcomes: Mapping[Pair, list[str]]) -> None:
        """In a period in which a route was ordered, no request may start before all earlier ones were accepted."""
        accepted: dict[Pair, float] = {}
        for arrival in self.arrivals:
            if arrival.accepted_at is not None:  # after a crash the second request may be accepted before the first
                accepted[arrival.pair] = min(arrival.accepted_at, accepted.get(arrival.pair, math.inf))
        place = {pair: n for n, pair in enumerate(self.due)}
        delivered = [pair for pair, words in outcomes.items() if pair[0] == number and words[-1] == "delivered"]
        for arrival in self.arrivals:
            if arrival.pair[0] == number and route.was_ordered(arrival.at):
                behind = [pair for pair in delivered if place[pair] < place[arrival.pair]]
                overtaken = [pair for pair in behind if accepted.get(pair, math.inf) > arrival.at]
                assert not overtaken, f"{arrival.pair} overtook {overtaken}"
