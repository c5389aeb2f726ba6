"""An audit: every decision of a period recomputed and compared with what was recorded, and the logs with each other.

What an event and its routes leave behind is judged page by page (daemon/audit/judging.py), in several processes if the
caller has the cores for it (daemon/audit/parts). What belongs to no such pair is found afterwards, from the side of the
tables (stray_faults.py). The marks of the logs are compared once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from daemon.audit.faults import (
    count_faults,
    database_faults,
    log_faults,
    mac_faults,
    secret_faults,
    source_faults,
    stray_faults,
)
from daemon.audit.faults.pair_faults import DeliverySchedule
from daemon.audit.findings import AuditFinding, AuditReport
from daemon.audit.judging import Judging, kept_from
from daemon.audit.pages import AuditScope, everything, pages
from daemon.audit.parts import parts
from daemon.audit.parts.part_messages import PartOrders
from daemon.audit.parts.parts import AuditPartFailed
from daemon.audit.ranged_counts import RangedCounts
from daemon.core.routing.index import RouteIndex
from daemon.credentials.keys import Vault
from daemon.expressions.judging import FilterPlaces
from daemon.route_state import FoldedLog
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import ChainBroken, StoreError, StoreUnavailable
from eventstore.postgres.snapshot import snapshot
from eventstore.queries.auditing import audited, log_marks, unreadable
from eventstore.queries.auditing.log_marks import LogMarks
from eventstore.retention import retention
from eventstore.retention.retention import Keep


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedLoop:
    """What an audit needs that shares its event loop with others. Heavy filters are evaluated at `places`. `on_page` is
    called after each page, with the report so far and the time up to which events were judged.
    """

    places: FilterPlaces
    on_page: Callable[[AuditReport, datetime], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Means:
    """What an audit compares with, and how."""

    schedule: DeliverySchedule | None
    keep: Keep | None
    vault: Vault | None
    processes: int
    shared: SharedLoop | None


async def audit(  # noqa: PLR0913 - a period, what to compare with, and how
    database: Database,
    *,
    start: datetime,
    end: datetime,
    tenant: str | None = None,
    schedule: DeliverySchedule | None = None,
    keep: Keep | None = None,
    vault: Vault | None = None,
    processes: int = 1,
    shared: SharedLoop | None = None,
) -> AuditReport:
    """Recomputes every decision about the events recorded in [start, end), and compares it with the record.

    With a `schedule` it looks when retries are due, with `keep` whether more was dropped than that, with a `vault` into
    the secrets that the route log names, and whether what has a MAC is ours (mac_faults.py). Several `processes` find
    the same in the same order; `shared` is for one that shares its event loop. Raises ChainBroken if the route log is
    not whole, and AuditPartFailed if one of several processes fails.
    """
    scope, report = AuditScope(start=start, end=end, tenant=tenant), AuditReport()
    means = _Means(schedule=schedule, keep=keep, vault=vault, processes=processes, shared=shared)
    # First, since all else is read through it.
    _note(report, await database_faults.of_schema(database))
    try:
        await _compare(database, scope, report, means)
    except (StoreUnavailable, ChainBroken):
        raise
    except (AuditPartFailed, StoreError, *unreadable.ERRORS) as error:
        _note(report, await database_faults.of_times(database))
        if not report.found:
            raise
        report.broken_off = str(error)
    return report


async def _compare(database: Database, scope: AuditScope, report: AuditReport, means: _Means) -> None:
    start, end, tenant = scope.start, scope.end, scope.tenant
    folded = FoldedLog(RouteIndex())
    await folded.catch_up(database)
    async with snapshot(database, seconds=audited.SECONDS) as connection:
        await folded.catch_up_within(connection)
        marks = await log_marks.marks(connection)
    _note(report, log_faults.of_marks(marks, folded.index))
    _note(report, await log_faults.of_ticks(database, start, marks.newest_tick))
    report.kept_from = kept_from(await retention.horizon(database), start)
    if means.keep is not None and report.kept_from is not None:
        report.dropped_early = log_faults.dropped_early(marks, means.keep)
    counts = await _judge(database, scope, report, means, folded, marks)
    if tenant is not None and not report.events + report.unread and tenant not in folded.index.tenants():
        report.unknown_tenant = tenant
    if start <= log_faults.first_kept(marks) and end > marks.now and tenant is None:
        _note(report, counts.too_low(await log_marks.ranges(database), folded.index))
    _note(report, await stray_faults.find(database, folded, start, end, tenant=tenant))
    if tenant is None:
        _note(report, await source_faults.find(database))
        _note(report, await count_faults.find(database, folded.index, start, end))
    if means.vault is None:
        report.unchecked.append(
            "without the master key it was not checked whether secrets are those of the route log, nor whether tokens, "
            "sessions, login links, outcomes, manual retries and replays are ours"
        )
    _note(report, await secret_faults.find(database, folded, means.vault, tenant=tenant))
    _note(report, await mac_faults.of_credentials(database, means.vault, tenant=tenant))
    if means.vault is not None:
        known = {(finding.table, finding.key) for finding in report.findings}
        async for finding in mac_faults.of_log(database, means.vault, start, end, tenant=tenant, known=known):
            report.add(finding)


async def _judge(
    database: Database,
    scope: AuditScope,
    report: AuditReport,
    means: _Means,
    folded: FoldedLog[RouteIndex],
    marks: LogMarks,
) -> RangedCounts:
    """Judges the events, and counts the deliveries that ranges stand for."""
    counts = RangedCounts(marks.ranges)
    ranges = parts.split(await everything(database), means.processes)
    if len(ranges) > 1:
        orders = PartOrders(database_url=database.url, scope=scope, schedule=means.schedule, ranges=marks.ranges)
        for part in await parts.judged(orders, ranges, means.processes):
            report.extend(part.report)
            counts.add(part.counts)
        return counts
    shared = means.shared
    judging = Judging(database, report, means.schedule, counts, None if shared is None else shared.places)
    for within in ranges:
        async for page in pages(database, scope, folded, within):
            await judging.judge(page, scope.start)
            if shared is not None:
                shared.on_page(report, page.events[-1].recorded_at)
    return counts


def _note(report: AuditReport, findings: list[AuditFinding]) -> None:
    for finding in findings:
        report.add(finding)
