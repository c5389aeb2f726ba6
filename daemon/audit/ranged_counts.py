"""Counts anew what the ranges of parked deliveries stand for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from uuid import UUID

from daemon.audit.findings import AuditFinding, FindingKind
from daemon.core.routing.index import RouteIndex
from eventstore.domain_events.ticks import LogPosition
from eventstore.queries.auditing.log_marks import AuditedRange


class RangedCounts:
    """`count` takes each delivery that a range stands for. The number in a range may be higher: a process that was
    killed had counted what it read of later ticks, and its successor counts that again.
    """

    def __init__(self, ranges: Sequence[AuditedRange]) -> None:
        self._begins: dict[UUID, LogPosition] = {each.route_id: (each.from_tick, each.from_seq) for each in ranges}
        self._counts: Counter[UUID] = Counter()

    def count(self, route_id: UUID, begin: LogPosition) -> None:
        """Counts a delivery, if the range begins where it began at first."""
        if self._begins.get(route_id) == begin:
            self._counts[route_id] += 1

    def add(self, others: RangedCounts) -> None:
        """Adds what was counted elsewhere, of the same ranges."""
        self._counts.update(others._counts)

    def too_low(self, ranges: Sequence[AuditedRange], index: RouteIndex) -> list[AuditFinding]:
        """The ranges that still begin where they did, and have a number below what was counted."""
        return [
            AuditFinding(
                kind=FindingKind.UNEXPLAINED,
                table="parked_range",
                key=f"route_id {each.route_id}",
                detail=f"pairs is {each.pairs}, and the range stands for {self._counts[each.route_id]} deliveries",
                tenant=None if (timeline := index.timeline(each.route_id)) is None else timeline.current.tenant,
                route_id=each.route_id,
            )
            for each in ranges
            if self._begins.get(each.route_id) == (each.from_tick, each.from_seq)
            and each.pairs < self._counts[each.route_id]
        ]
