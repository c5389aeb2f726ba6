"""Why a command was not executed. `str()` of each error is the sentence to show, but to people in the dashboard
`for_people`: they know no keys of the configuration, and cannot set one.

CommandError
├─ Invalid             the values are not allowed
├─ NotFound            there is no such route
├─ Conflict            the state of the route does not allow the command
│  ├─ KeyReused        the request id was used for another command
│  └─ TooManyRoutes    the tenant has as many routes as it may have
├─ Stale               the route was changed since it was read
└─ TooManyCommands     the tenant commands too often
"""

from __future__ import annotations

import math

from daemon.core.events.event import FieldProblem


class CommandError(Exception):
    """A command was not executed. `str()` says why."""

    @property
    def for_people(self) -> str:
        return str(self)


class Invalid(CommandError):
    """The given values are not allowed. `problems` has all that is wrong with them."""

    def __init__(self, problems: tuple[FieldProblem, ...]) -> None:
        super().__init__("; ".join(f"{p.field}: {p.message}" if p.field else p.message for p in problems))
        self.problems = problems


class NotFound(CommandError):
    """There is no such route, or it belongs to another tenant, or it was deleted."""


class Conflict(CommandError):
    """The state of the route does not allow the command."""


class KeyReused(Conflict):
    """The request id was used for another command."""

    def __init__(self) -> None:
        super().__init__("this Idempotency-Key was used for another command: use a new one for each command")


class Stale(CommandError):
    """The route was changed since the caller read it."""


class TooManyRoutes(Conflict):
    """The tenant has as many routes as it may have."""

    def __init__(self, tenant: str, *, count: int, limit: int) -> None:
        super().__init__(
            f"tenant {tenant} has {count} {'route' if count == 1 else 'routes'}, and limits.routes_per_tenant allows "
            f"{limit}: delete one that is not needed, or have the operator raise the limit"
        )
        self._count, self._limit = count, limit

    @property
    def for_people(self) -> str:
        there = f"is {self._count:,} webhook" if self._count == 1 else f"are {self._count:,} webhooks"
        return f"there {there} here, and no more than {self._limit:,} may be: delete one that is not needed"


class TooMuchConfigured(Conflict):
    """The configurations that the tenant's routes have had take as much as they may."""

    def __init__(self, tenant: str, *, limit_bytes: int) -> None:
        super().__init__(
            f"the configurations that the routes of tenant {tenant} have had take more than {limit_bytes >> 20} MiB, "
            "and none is ever forgotten: have the operator make this change"
        )
        self._limit_bytes = limit_bytes

    @property
    def for_people(self) -> str:
        return (
            f"the settings that the webhooks here have had take more than {self._limit_bytes >> 20} MiB, and none is "
            "ever forgotten: ask support to make this change"
        )


class TooManyCommands(CommandError):
    """The tenant commands too often. `retry_after_seconds` is rounded up, so that a repetition then succeeds."""

    def __init__(self, tenant: str, *, limit: int, retry_after_seconds: float) -> None:
        self.retry_after_seconds = math.ceil(retry_after_seconds)
        super().__init__(
            f"tenant {tenant} has used up its commands for now, and limits.commands_per_minute allows {limit}: try "
            f"again in {self.retry_after_seconds} s"
        )
        self._limit = limit

    @property
    def for_people(self) -> str:
        return (
            f"there were many changes in a short time, and {self._limit:,} a minute are allowed: try again in "
            f"{self.retry_after_seconds} s"
        )
