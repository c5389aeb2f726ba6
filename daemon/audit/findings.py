"""What an audit reports: what it looked at, what it could not look at, and what is wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from uuid import UUID

# So many are listed; a database that was emptied would have one for each delivery.
LISTED_FINDINGS = 1000


class FindingKind(StrEnum):
    """`missing`: due, and neither recorded nor waiting. `unexpected`: recorded or waiting, though not due.
    `unexplained`: a row, or a part of it, that nothing which the daemon does leads to.
    """

    MISSING = "missing"
    UNEXPECTED = "unexpected"
    UNEXPLAINED = "unexplained"


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFinding:
    """The first thing that is wrong with a delivery, or with a row that belongs to none.

    `table` and `key` say where; `detail` says what, as a sentence without a full stop. Event, tenant and route are None
    where the row names none.
    """

    kind: FindingKind
    table: str
    key: str
    detail: str
    event_id: str | None = None
    tenant: str | None = None
    route_id: UUID | None = None


@dataclass(slots=True, kw_only=True)
class AuditReport:
    """Counts of a period, and the findings. `pairs` counts events with the routes that they concern.

    `unread` events have no tick yet, or their shard has not read it yet. `kept_from` is set if the period begins before
    it: older events or their outcomes are no longer kept. `still_there` events are older than that, and not dropped
    yet. `unknown_tenant` is the one that was asked for, if it has neither an event of this period nor ever had a route.
    `dropped_early` says what was dropped earlier than is configured, `broken_off` by which error it did not
    come to its end, which is for the operator only.
    `unchecked` says what the caller lacked the means to look at, in sentences.
    """

    events: int = 0
    pairs: int = 0
    deliveries: int = 0
    outcomes: int = 0
    unread: int = 0
    still_there: int = 0
    kept_from: datetime | None = None
    unknown_tenant: str | None = None
    dropped_early: list[str] = field(default_factory=list)
    broken_off: str | None = None
    unchecked: list[str] = field(default_factory=list)
    findings: list[AuditFinding] = field(default_factory=list)
    found: int = 0

    def add(self, finding: AuditFinding) -> None:
        """Counts a finding, and lists it if there is room."""
        self.found += 1
        if len(self.findings) < LISTED_FINDINGS:
            self.findings.append(finding)

    def extend(self, later: AuditReport) -> None:
        """Adds the report on the events that come after those of this one."""
        for name in ("events", "pairs", "deliveries", "outcomes", "unread", "still_there"):
            setattr(self, name, getattr(self, name) + getattr(later, name))
        self.kept_from = max((at for at in (self.kept_from, later.kept_from) if at is not None), default=None)
        for finding in later.findings:
            self.add(finding)
        self.found += later.found - len(later.findings)

    @property
    def gaps(self) -> list[str]:
        """Why the audit proves less than was asked for, in sentences; empty if it looked at everything there is."""
        gaps = [] if self.events else ["no event of this period was judged"]
        if self.broken_off is not None:
            gaps.insert(0, "the audit did not come to its end, because of what was found")
        gaps += self.dropped_early
        if self.unknown_tenant is not None:
            gaps.append(
                f"tenant {self.unknown_tenant} has no event of this period, and never had a webhook: is that its id?"
            )
        if self.unread:
            gaps.append(_not_judged(self.unread, "of this period", "not read yet"))
        if self.still_there:
            older = f"from before {self.kept_from:%Y-%m-%d %H:%M:%S} UTC, when what is kept begins,"
            gaps.append(_not_judged(self.still_there, older, "still there"))
        return gaps


def _not_judged(number: int, which: str, how: str) -> str:
    if number == 1:
        return f"1 event {which} is {how}, and was not judged"
    return f"{number:,} events {which} are {how}, and were not judged"
