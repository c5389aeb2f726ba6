"""The lines of one NDJSON request, and what becomes of each.

All lines are here before the first is stored, so that a batch beyond its limits stores nothing, and a slow sender holds
no transaction open. From then on they become events in parts: one is stored while the next is parsed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from daemon.core.events import event
from daemon.core.events.ndjson import Line
from daemon.web.http.problems import REFUSED_VALUE, listed
from daemon.web.ingest.event_shapes import FateShape
from daemon.web.ingest.storing import StoreResult
from eventstore.domain_events.events import NewEvent
from eventstore.postgres.errors import ValueRefused

# Large enough for one round trip each, small enough that storing begins soon and takes little memory.
PART_EVENTS = 500
PART_BYTES = 1 << 20

# After so many bytes others get their turn; a line counts for its parsing too.
TURN_BYTES = 1 << 16
LINE_BYTES = 512

Judge = Callable[[Line], NewEvent | tuple[event.FieldProblem, ...]]


@dataclass(slots=True, kw_only=True)
class Batch:
    """`answers` has a place for each line that was parsed; `places` says which ones belong to events."""

    lines: deque[Line] = field(default_factory=deque)
    answers: list[FateShape] = field(default_factory=list)
    places: list[int] = field(default_factory=list)

    @property
    def is_one_part(self) -> bool:
        return len(self.lines) <= PART_EVENTS and sum(line.size_bytes for line in self.lines) <= PART_BYTES

    async def parts(self, judge: Judge) -> AsyncIterator[list[NewEvent]]:
        """The good events of all lines, a part at a time; a line is forgotten once it is parsed."""
        part: list[NewEvent] = []
        part_bytes = turn_bytes = 0
        while self.lines:
            line = self.lines.popleft()
            judged = judge(line)
            if isinstance(judged, NewEvent):
                part.append(judged)
                part_bytes += line.size_bytes
                self.places.append(len(self.answers))
                self.answers.append({"id": judged.id, "status": "accepted"})
            else:
                self.answers.append({"id": None, "line": line.number, "status": "rejected", "errors": listed(judged)})
            if len(part) >= PART_EVENTS or part_bytes >= PART_BYTES:
                yield part
                part, part_bytes = [], 0
            turn_bytes += line.size_bytes + LINE_BYTES
            if turn_bytes >= TURN_BYTES:
                await asyncio.sleep(0)
                turn_bytes = 0
        if part:
            yield part

    def settle(self, outcomes: Sequence[StoreResult]) -> None:
        """Puts what became of the events into the answers."""
        for place, outcome in zip(self.places, outcomes, strict=True):
            if isinstance(outcome, ValueRefused):
                errors = listed((event.FieldProblem(field="", message=f"{REFUSED_VALUE} event"),))
                self.answers[place] = {"id": self.answers[place]["id"], "status": "rejected", "errors": errors}
            elif not outcome:
                self.answers[place]["status"] = "duplicate"
