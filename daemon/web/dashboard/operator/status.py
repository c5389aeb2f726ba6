"""The status of the installation: first what needs an operator, then the numbers behind it."""

from __future__ import annotations

from collections import Counter

from aiohttp import web

from daemon import __version__
from daemon.core import durations
from daemon.core.routing.route import RouteStatus
from daemon.web.access.queries import query_database
from daemon.web.dashboard.html.rendering import render
from daemon.web.dashboard.pages import page, wants_part
from daemon.web.http.endpoints import Access
from daemon.web.http.services import SERVICES
from daemon.web.service.operator import failing, installation, status_warnings
from daemon.web.service.operator.failing import FailingPage
from eventstore.queries.metrics.route_health import FailingCount

# The bars are scaled to this lag, or to the longest lag if that is longer.
MIN_SCALE_SECONDS = status_warnings.LAG_SECONDS
# The worst of the webhooks that fail; all of them are on a page of their own.
FAILING_SHOWN = 20


@page(Access.OPERATIONS)
async def show(request: web.Request) -> web.Response:
    """The page, or only its numbers when page.js polls it."""
    services = request.app[SERVICES]
    found = await installation.read(
        query_database(request), failing.in_index(services.index), failing_shown=FAILING_SHOWN
    )
    report = found.report
    return render(
        request,
        "operator/status_part.html" if wants_part(request) else "operator/status.html",
        report=report,
        warnings=status_warnings.of(report, services),
        unread=found.unread,
        throughput=found.throughput,
        per_second=installation.per_second,
        failing=found.failing or FailingPage(items=[], next=None),
        totals=found.totals or FailingCount(failing=0, down=0),
        are_shards_healthy=all(map(status_warnings.is_healthy, report.shards)),
        version=__version__,
        shards_of=Counter(shard.owner for shard in report.shards),
        counts=services.index.statuses(),
        statuses=RouteStatus,
        applied=services.index.position,
        scale=max(MIN_SCALE_SECONDS, report.lag_seconds),
        late_seconds=status_warnings.LAG_SECONDS,
        age=durations.age,
    )
