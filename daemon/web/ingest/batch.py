"""The lines of one NDJSON request, and the result of each.

All lines are read before the first is stored. So a batch beyond its limits stores nothing, and a slow sender does not
keep a transaction open. Then the lines are parsed in parts: one part is stored while the next is parsed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

from daemon.core.events import event
from daemon.core.events.ndjson import Line
from daemon.web.http.problems import REFUSED_VALUE, listed
from daemon.web.ingest.commits.storing import StoreResult
from daemon.web.ingest.event_shapes import FateShape
from eventstore.domain_events.events import NewEvent
from eventstore.postgres.errors import ValueRefused

# Limits of a part: large enough to be worth a round trip, small enough that storing begins early and needs little
# memory.
PART_EVENTS = 500
PART_BYTES = 1 << 20

# The event loop runs other tasks after so many bytes. Each line counts LINE_OVERHEAD_BYTES more, for its parsing.
YIELD_AFTER_BYTES = 1 << 16
LINE_OVERHEAD_BYTES = 512

# The event of a line, or what is wrong with it.
ParseLine = Callable[[Line], NewEvent | tuple[event.FieldProblem, ...]]


@dataclass(slots=True, kw_only=True)
class Batch:
    """`answers` has an entry for each parsed line. `positions` are the indexes in it of the lines that are events."""

    lines: deque[Line] = field(default_factory=deque)
    answers: list[FateShape] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)

    @property
    def is_one_part(self) -> bool:
        return len(self.lines) <= PART_EVENTS and self.size_bytes <= PART_BYTES

    @property
    def size_bytes(self) -> int:
        """How long the lines are that are not parsed yet."""
        return sum(line.size_bytes for line in self.lines)

    async def parts(self, parse: ParseLine) -> AsyncIterator[list[NewEvent]]:
        """The valid events of all lines, one part at a time. A line is dropped once it is parsed."""
        part: list[NewEvent] = []
        part_bytes = unyielded_bytes = 0
        while self.lines:
            line = self.lines.popleft()
            parsed = parse(line)
            if isinstance(parsed, NewEvent):
                part.append(parsed)
                part_bytes += line.size_bytes
                self.positions.append(len(self.answers))
                self.answers.append({"id": parsed.id, "status": "accepted"})
            else:
                self.answers.append({"id": None, "line": line.number, "status": "rejected", "errors": listed(parsed)})
            if len(part) >= PART_EVENTS or part_bytes >= PART_BYTES:
                yield part
                part, part_bytes = [], 0
            unyielded_bytes += line.size_bytes + LINE_OVERHEAD_BYTES
            if unyielded_bytes >= YIELD_AFTER_BYTES:
                await asyncio.sleep(0)
                unyielded_bytes = 0
        if part:
            yield part

    def refuse(self, position: int, problem: event.FieldProblem) -> None:
        """Writes into an answer what was found wrong after storing."""
        self.answers[position] = {
            "id": self.answers[position]["id"],
            "status": "rejected",
            "errors": listed((problem,)),
        }

    def settle(self, results: Sequence[StoreResult]) -> None:
        """Writes the results of storing into the answers."""
        for position, result in zip(self.positions, results, strict=True):
            if isinstance(result, ValueRefused):
                self.refuse(position, event.FieldProblem(field="", message=f"{REFUSED_VALUE} event"))
            elif not result:
                self.answers[position]["status"] = "duplicate"
