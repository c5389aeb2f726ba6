"""Why a command was not carried out; `str()` of each is the sentence to show.

CommandError
├─ Invalid       the values cannot be
├─ NotFound      there is no such route
├─ Conflict      the route's state does not allow it
│  └─ KeyReused  the request id stands for another command
└─ Stale         the route was changed since it was read
"""

from __future__ import annotations

from daemon.core.events.event import FieldProblem


class CommandError(Exception):
    """A command that was not carried out; `str()` says why."""


class Invalid(CommandError):
    """The values given cannot be; all problems at once."""

    def __init__(self, problems: tuple[FieldProblem, ...]) -> None:
        super().__init__("; ".join(f"{p.field}: {p.message}" if p.field else p.message for p in problems))
        self.problems = problems


class NotFound(CommandError):
    """There is no such route, or it belongs to another tenant, or it was deleted."""


class Conflict(CommandError):
    """The route's state does not allow it."""


class KeyReused(Conflict):
    """The request id stands for another command."""

    def __init__(self) -> None:
        super().__init__("this Idempotency-Key was used for another command: use a new one for each command")


class Stale(CommandError):
    """The route was changed since the caller read it."""
