"""What may be done to a route: check, decide, append. The only place that writes the route log.

routes      the commands, each a sentence: what it wants to have happened, and what that takes
handling    what is the same for all of them: read the route, decide, append on top of what was read, or begin again
sealing     keys and header values on their way into their own tables
errors      why a command was not carried out
"""

from __future__ import annotations

from daemon.commands.errors import CommandError, Conflict, Invalid, KeyReused, NotFound, Stale
from daemon.commands.executor import CommandResult, Context
from daemon.commands.routes import Commands

__all__ = [
    "CommandError",
    "CommandResult",
    "Commands",
    "Conflict",
    "Context",
    "Invalid",
    "KeyReused",
    "NotFound",
    "Stale",
]
