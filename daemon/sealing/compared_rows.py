"""The rows that a seal covers, compared with what the seal says of them."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from uuid import UUID

from daemon.core.sealing.canonical import SealedTable
from daemon.core.sealing.seal import SealContent, SealedDay
from daemon.sealing.contents import SealContents
from daemon.sealing.report import SealReport
from eventstore.retention.retention import Horizon


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """What retention may have taken: what was recorded before the horizon, ticks below `first_tick`, and the secrets of
    deleted routes.
    """

    horizon: Horizon
    first_tick: int | None
    deleted_routes: Container[UUID]


def compare(report: SealReport, seal: SealContent, found: SealContents, gone: Gone, *, before_tick: int) -> None:
    """Adds a finding for each table of which the rows are not those that were sealed. `before_tick` is the tick of the
    seal before.
    """
    report.judged += 1
    _compare_days(report, seal.n, SealedTable.EVENT, seal.events, found.events, gone.horizon.events)
    _compare_days(report, seal.n, SealedTable.ATTEMPT, seal.attempts, found.attempts, gone.horizon.attempts)
    _compare_ticks(report, seal, found, gone, before_tick)
    _compare_secrets(report, seal, found, gone)
    if found.signatures != seal.signatures:
        report.add(
            "route_event_signature",
            f"up to {seal.route_pos} {seal.signatures} signatures are sealed, and {found.signatures} are there",
            seal=seal.n,
        )


def _compare_days(
    report: SealReport,
    number: int,
    table: SealedTable,
    sealed: tuple[SealedDay, ...],
    found: tuple[SealedDay, ...],
    kept_from: datetime | None,
) -> None:
    what = "events" if table is SealedTable.EVENT else "outcomes"
    there = {day.day: day for day in found}
    for day in sealed:
        own = there.pop(day.day, None)
        if own is None and kept_from is not None and _end(day) <= kept_from:
            report.dropped += 1
        elif own is None or own.rows != day.rows:
            rows = 0 if own is None else own.rows
            report.add(table, f"{day.rows} {what} of {day.day} are sealed, and {rows} are there", seal=number)
            return
        elif own != day:
            report.add(
                table, f"of the {day.rows} {what} of {day.day} at least one is not as it was sealed", seal=number
            )
            return
        else:
            report.rows += day.rows
    for extra in there.values():
        report.add(table, f"no {what} of {extra.day} are sealed, and {extra.rows} are there", seal=number)
        return


def _compare_ticks(report: SealReport, seal: SealContent, found: SealContents, gone: Gone, before_tick: int) -> None:
    if len(found.ticks) == seal.ticks and found.ticks_root == seal.ticks_root:
        return
    # Retention deletes ticks from the first one on, up to one that an event needs.
    if len(found.ticks) < seal.ticks and (gone.first_tick is None or gone.first_tick > before_tick + 1):
        is_rest = all(tick.tick >= (gone.first_tick or 0) for tick in found.ticks)
        if gone.horizon.events is not None and is_rest:
            report.dropped += 1
            return
    if len(found.ticks) != seal.ticks:
        report.add(
            "tick", f"{seal.ticks} ticks up to {seal.tick} are sealed, and {len(found.ticks)} are there", seal=seal.n
        )
    else:
        report.add("tick", f"a tick after {before_tick}, up to {seal.tick}, is not as it was sealed", seal=seal.n)


def _compare_secrets(report: SealReport, seal: SealContent, found: SealContents, gone: Gone) -> None:
    if len(found.secrets) == seal.keys and found.keys_root == seal.keys_root:
        return
    missing = [secret for secret in found.secrets if secret.created_at is None]
    for secret in missing:
        if secret.route_id not in gone.deleted_routes:
            detail = f"{secret.item} of route {secret.route_id} is gone, and the route is not deleted"
            report.add(secret.table, detail, seal=seal.n)
            return
    if missing and gone.horizon != Horizon(events=None, attempts=None):
        report.dropped += 1
        return
    report.add("route_key", "a key, or a set of headers, is not as it was sealed", seal=seal.n)


def _end(day: SealedDay) -> datetime:
    return datetime.combine(day.day, time(), UTC) + timedelta(days=1)
