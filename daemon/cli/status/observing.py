"""Observes the installation from outside of a daemon, by its database, again and again.

What a daemon knows from its memory is not there, and IN_MEMORY names it. A daemon reads a route from its projection;
here the history of each route that fails is folded, and from the second time on only what was appended to it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from uuid import UUID

from daemon import route_state
from daemon.core.routing.route import Route
from daemon.web.api.operator import failing, status
from daemon.web.service.operator import installation, status_warnings
from daemon.web.service.operator.installation import Installation
from eventstore.postgres.connect import Database
from eventstore.queries.metrics.status import LogState

# The routes that fail worst.
FAILING_SHOWN = 20

IN_MEMORY = "requests in flight, circuit breakers, connections, clocks, memory and event loops"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """The installation at one moment. `warnings` are sentences about what needs a person, the most serious first."""

    found: Installation
    warnings: tuple[str, ...]


class Observer:
    """Observes one installation. It remembers what a single observation cannot tell: since when a tick is late."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._routes: dict[UUID, Route] = {}
        self._unread_since: tuple[int, datetime] | None = None

    async def observe(self) -> Observation:
        """The installation now. Raises StoreUnavailable."""
        found = await installation.read(self._database, self._find, failing_shown=FAILING_SHOWN)
        age_seconds = self._tick_age_seconds(found.report.log)
        return Observation(
            found=found, warnings=tuple(status_warnings.warnings(found.report, tick_age_seconds=age_seconds))
        )

    async def _find(self, route_id: UUID) -> Route | None:
        found = await route_state.route(self._database, route_id, known=self._routes.get(route_id))
        if found is not None:
            self._routes[route_id] = found
        return found

    def _tick_age_seconds(self, log: LogState) -> float:
        """For how long events have been seen to wait for the same next tick."""
        if not log.is_unread:
            self._unread_since = None
        elif self._unread_since is None or self._unread_since[0] != log.tick:
            self._unread_since = (log.tick, log.at)
        return 0.0 if self._unread_since is None else (log.at - self._unread_since[1]).total_seconds()


def document(observation: Observation) -> dict[str, object]:
    """The JSON of an observation: that of `/v1/status` and `/v1/failing`, as far as the database tells it."""
    found = observation.found
    return {
        **status.of_report(found.report),
        "warnings": list(observation.warnings),
        "throughput": None if found.throughput is None else asdict(found.throughput),
        "failing": None if found.totals is None else asdict(found.totals),
        "worst": None if found.failing is None else [failing.of_item(item) for item in found.failing.items],
        "unread": list(found.unread),
    }
