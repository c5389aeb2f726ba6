"""An audit: every decision of a period recomputed and compared with what was recorded, and the logs with each other.

What an event and its routes leave behind is judged page by page (daemon/audit/judging.py), in several processes if the
caller has the cores for it (daemon/audit/parts.py). What belongs to no such pair is found afterwards, from the side of
the tables (stray_faults.py). The marks of the logs are compared once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from daemon.audit import log_faults, parts, secret_faults, source_faults, stray_faults
from daemon.audit.findings import AuditFinding, AuditReport
from daemon.audit.judging import Judging, kept_from
from daemon.audit.pages import AuditScope, everything, pages
from daemon.audit.pair_faults import DeliverySchedule
from daemon.audit.part_messages import PartOrders
from daemon.audit.ranged_counts import RangedCounts
from daemon.core.routing.index import RouteIndex
from daemon.credentials.keys import Vault
from daemon.expressions.judging import FilterPlaces
from daemon.route_state import FoldedLog
from eventstore.postgres.connect import Database
from eventstore.postgres.snapshot import snapshot
from eventstore.progress import retention
from eventstore.queries.auditing import audited, log_marks


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedLoop:
    """What an audit needs that shares its event loop with others. Heavy filters are evaluated at `places`. `on_page` is
    called after each page, with the report so far and the time up to which events were judged.
    """

    places: FilterPlaces
    on_page: Callable[[AuditReport, datetime], None]


async def audit(
    database: Database,
    *,
    start: datetime,
    end: datetime,
    tenant: str | None = None,
    schedule: DeliverySchedule | None = None,
    vault: Vault | None = None,
    processes: int = 1,
    shared: SharedLoop | None = None,
) -> AuditReport:
    """Recomputes every decision about the events recorded in [start, end), and compares it with the record.

    With a `schedule` it looks when retries are due, with a `vault` into the secrets that the route log names.
    Several `processes` find the same in the same order; `shared` is for one that shares its event loop. Raises
    ChainBroken if the route log is not whole, and AuditPartFailed if one of several processes fails.
    """
    scope, report, folded = AuditScope(start=start, end=end, tenant=tenant), AuditReport(), FoldedLog(RouteIndex())
    await folded.catch_up(database)
    async with snapshot(database, seconds=audited.SECONDS) as connection:
        await folded.catch_up_within(connection)
        marks = await log_marks.marks(connection)
    _note(report, log_faults.of_marks(marks, folded.index))
    _note(report, await log_faults.of_ticks(database, start, marks.newest_tick))
    report.kept_from = kept_from(await retention.horizon(database), start)
    counts = RangedCounts(marks.ranges)
    ranges = parts.split(await everything(database), processes)
    if len(ranges) > 1:
        orders = PartOrders(database_url=database.url, scope=scope, schedule=schedule, ranges=marks.ranges)
        for part in await parts.judged(orders, ranges, processes):
            report.extend(part.report)
            counts.add(part.counts)
    else:
        judging = Judging(database, report, schedule, counts, None if shared is None else shared.places)
        for within in ranges:
            async for page in pages(database, scope, folded, within):
                await judging.judge(page, start)
                if shared is not None:
                    shared.on_page(report, page.events[-1].recorded_at)
    if tenant is not None and not report.events + report.unread and tenant not in folded.index.tenants():
        report.unknown_tenant = tenant
    if start <= log_faults.first_kept(marks) and end > marks.now and tenant is None:
        _note(report, counts.too_low(await log_marks.ranges(database), folded.index))
    _note(report, await stray_faults.find(database, folded, start, end, tenant=tenant))
    if tenant is None:
        _note(report, await source_faults.find(database))
    if vault is None:
        report.unchecked.append("without the master key it was not checked whether secrets are those of the route log")
    _note(report, await secret_faults.find(database, folded, vault, tenant=tenant))
    return report


def _note(report: AuditReport, findings: list[AuditFinding]) -> None:
    for finding in findings:
        report.add(finding)
