"""What one tenant may do to its routes: how many it may have, and how often it may change them.

Each route costs every process memory, and each command a row in the route log for ever. The limits hold for tenants;
`Context.is_unlimited` says that a command is the administrator's or the daemon's own. Commands are counted in this
process alone, so several workers together allow as many times more. Routes are counted in the database.

Every process has each configuration that a route ever had, since decisions about the past need it, and a configuration
may have 200 kB. So what those of a tenant may take is limited too: for a hundred thousand usual edits, of which each
costs what it changes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from daemon.commands.errors import TooManyCommands, TooManyRoutes, TooMuchConfigured
from daemon.core.gcra import Allowance, Arrivals

# Tenants whose commands are counted; beyond that, the one that commanded longest ago is forgotten.
MAX_TENANTS = 10_000

MAX_CONFIG_BYTES = 64 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLimits:
    """Limits of each tenant; None for no limit. Commands of a whole minute may come at once."""

    routes_per_tenant: int | None = None
    commands_per_minute: int | None = None


UNLIMITED = CommandLimits()


class CommandQuota:
    """`take_command` counts one command, `check_routes` looks at the number of routes."""

    def __init__(self, limits: CommandLimits, clock: Callable[[], float] = time.monotonic) -> None:
        self._limits = limits
        self._clock = clock
        per_minute = limits.commands_per_minute
        self._allowance = None if per_minute is None else Allowance(burst=per_minute, per_second=per_minute / 60)
        self._arrivals = Arrivals(max_keys=MAX_TENANTS)

    def take_command(self, tenant: str) -> None:
        """Counts one command of a tenant. Raises TooManyCommands if it is one too many, which is not counted."""
        if self._allowance is None:
            return
        if seconds := self._arrivals.take(self._allowance, tenant, self._clock()):
            raise TooManyCommands(tenant, limit=self._allowance.burst, retry_after_seconds=seconds)

    @property
    def counts_routes(self) -> bool:
        """True if the number of routes is limited."""
        return self._limits.routes_per_tenant is not None

    def check_routes(self, tenant: str, count: int) -> None:
        """Raises TooManyRoutes if a tenant that has `count` routes may not have another one."""
        limit = self._limits.routes_per_tenant
        if limit is not None and count >= limit:
            raise TooManyRoutes(tenant, count=count, limit=limit)

    def check_configs(self, tenant: str, size_bytes: int) -> None:
        """Raises TooMuchConfigured if the configurations of a tenant take `size_bytes`, and that is too much."""
        if size_bytes > MAX_CONFIG_BYTES:
            raise TooMuchConfigured(tenant, limit_bytes=MAX_CONFIG_BYTES)
