"""What an operator wants to see of the whole installation: the same on the status page and in `hookledger status`.

It is asked for when the installation is in trouble, so a part that cannot be read now is left out and named, instead of
taking the others with it. Only without the state of processes and shards there is nothing to show.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import dataclass
from typing import TypeVar

from daemon.core.delivery.request_cells import RequestCounts
from daemon.web.service.operator import failing
from daemon.web.service.operator.failing import FailingPage, FindRoute
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import StoreUnavailable
from eventstore.queries.metrics import rates, route_health, status
from eventstore.queries.metrics.route_health import FailingCount
from eventstore.queries.metrics.status import InstallationStatus

T = TypeVar("T")

_MOST = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """What all processes together do in a second: events of the last minute, the others of the last 5 to 10 minutes.

    `requests` counts those of first attempts and retries, `unsuccessful` those of them that got no 2xx, `delivered` and
    `given_up` the deliveries that ended so. `most_ms` is how long a request took that 95 % are not slower than; None if
    there was none.
    """

    events: float
    requests: float
    unsuccessful: float
    delivered: float
    given_up: float
    most_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Installation:
    """`failing` has the worst of the routes that fail, `totals` how many there are. A part that could not be read is
    None, and `unread` has a sentence about it.
    """

    report: InstallationStatus
    throughput: Throughput | None
    totals: FailingCount | None
    failing: FailingPage | None
    unread: tuple[str, ...] = ()


async def read(database: Database, find: FindRoute, *, failing_shown: int) -> Installation:
    """The installation now. Raises StoreUnavailable if not even processes and shards can be read."""
    unread: list[str] = []

    async def part(what: str, reading: Awaitable[T]) -> T | None:
        try:
            return await reading
        except StoreUnavailable as error:
            unread.append(f"{what} cannot be read now: {error}")
            return None

    report = await status.read(database)
    throughput = await part("what is done in a second", _throughput(database))
    totals = await part("how many webhooks fail", route_health.total(database))
    worst = await part("which webhooks fail", failing.page(database, find, after=None, limit=failing_shown))
    return Installation(report=report, throughput=throughput, totals=totals, failing=worst, unread=tuple(unread))


def per_second(value: float) -> str:
    """How often something happens, also if that is seldom: 0.02, 11.9, 2,400.0."""
    return f"{value:.2f}" if 0 < value < 10 else f"{value:,.1f}"


async def _throughput(database: Database) -> Throughput:
    found = await rates.read(database)
    requests = RequestCounts(found.cells)
    return Throughput(
        events=found.events_per_second,
        requests=requests.total / found.seconds,
        unsuccessful=requests.failed / found.seconds,
        delivered=found.ended.successful / found.seconds,
        given_up=found.ended.failed / found.seconds,
        most_ms=requests.percentile_ms(_MOST),
    )
