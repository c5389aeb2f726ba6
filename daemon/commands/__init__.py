"""The commands on routes: check, decide, append. Only this package writes the route log.

routes          one method for each command: the lifecycle event that it appends, and its checks
executor        what all commands share: read the route, decide, append on top of what was read, or start again
limits          how many routes and commands a tenant may have
route_secrets   verification keys and header values, sealed for their own tables
errors          why a command was not executed
"""

from __future__ import annotations

from daemon.commands.errors import (
    CommandError,
    Conflict,
    Invalid,
    KeyReused,
    NotFound,
    Stale,
    TooManyCommands,
    TooManyRoutes,
)
from daemon.commands.executor import CommandResult, Context
from daemon.commands.limits import CommandLimits
from daemon.commands.routes import Commands

__all__ = [
    "CommandError",
    "CommandLimits",
    "CommandResult",
    "Commands",
    "Conflict",
    "Context",
    "Invalid",
    "KeyReused",
    "NotFound",
    "Stale",
    "TooManyCommands",
    "TooManyRoutes",
]
