"""The rows that a seal covers, compared with what the seal says of them."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from uuid import UUID

from daemon.core.sealing.canonical import SealedTable
from daemon.core.sealing.seal import SealContent, SealedDay
from daemon.core.texts import moment
from daemon.sealing.contents import SealContents
from daemon.sealing.report import SealReport
from eventstore.retention.retention import Horizon
from eventstore.seals.stored import SealMark


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """What retention may have taken: what was recorded before the horizon, ticks below `first_tick`, and the secrets of
    deleted routes.
    """

    horizon: Horizon
    first_tick: int | None
    deleted_routes: Container[UUID]


_WHAT = {
    SealedTable.EVENT: "events",
    SealedTable.ATTEMPT: "outcomes",
    SealedTable.RESEND: "manual retries",
    SealedTable.REPLAY: "replays that began",
    SealedTable.REPLAY_END: "ends of replays that began",
    SealedTable.LOSS: "losses of a promoted standby",
    SealedTable.TOKEN: "tokens that were made",
    SealedTable.TOKEN_END: "tokens that were revoked",
}
# No clock is set by so much, and no transaction of ours takes so long.
_LATE = timedelta(days=1)


def compare(report: SealReport, seal: SealContent, found: SealContents, gone: Gone, *, before: SealMark) -> None:
    """Adds a finding for each table of which the rows are not those that were sealed. `before` is the seal before."""
    report.judged += 1
    horizon = gone.horizon
    for table, sealed, kept_from in (
        (SealedTable.EVENT, seal.events, horizon.events),
        (SealedTable.ATTEMPT, seal.attempts, horizon.attempts),
        (SealedTable.RESEND, seal.resends, horizon.attempts),
        (SealedTable.REPLAY, seal.replays, horizon.replays),
        (SealedTable.REPLAY_END, seal.replay_ends, horizon.replays),
        (SealedTable.LOSS, seal.losses, None),
        (SealedTable.TOKEN, seal.tokens, None),
        (SealedTable.TOKEN_END, seal.token_ends, None),
    ):
        if sealed is not None:
            _compare_days(report, seal.n, table, sealed, found.days[table], kept_from)
    _find_backdated(report, seal, before)
    _compare_ticks(report, seal, found, gone, before.tick)
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
    what = _WHAT[table]
    there = {day.day: day for day in found}
    for day in sealed:
        own = there.pop(day.day, None)
        if own is None and kept_from is not None and _end(day) <= kept_from:
            report.dropped += 1
        elif own is None or own.rows != day.rows:
            rows = 0 if own is None else own.rows
            detail = f"{day.rows} {what} of {day.day} are sealed, and {rows} are there"
            report.add(_table_of(table), detail, seal=number)
            return
        elif own != day:
            detail = f"of the {day.rows} {what} of {day.day} at least one is not as it was sealed"
            report.add(_table_of(table), detail, seal=number)
            return
        else:
            report.rows += day.rows
    for extra in there.values():
        detail = f"no {what} of {extra.day} are sealed, and {extra.rows} are there"
        report.add(_table_of(table), detail, seal=number)
        return


_ENDS = {SealedTable.REPLAY_END: SealedTable.REPLAY, SealedTable.TOKEN_END: SealedTable.TOKEN}


def _table_of(table: SealedTable) -> str:
    """The table in which the rows are: the end of a replay or a token is part of its row."""
    return _ENDS.get(table, table)


def _find_backdated(report: SealReport, seal: SealContent, before: SealMark) -> None:
    """What is said to have been recorded or asked for long before the last seal, which did not cover it, was written
    afterwards.

    While a clock is behind the last seal, since it was set back, seals have the time of that one: they tell nothing.
    Nor does the first seal of its form tell of what those before did not cover.
    """
    if before.at is None or seal.at <= before.at:
        return
    of_few = (
        (SealedTable.RESEND, seal.resends),
        (SealedTable.REPLAY, seal.replays),
        (SealedTable.LOSS, seal.losses),
        (SealedTable.TOKEN, seal.tokens),
        (SealedTable.TOKEN_END, seal.token_ends),
    )
    for table, days in ((SealedTable.ATTEMPT, seal.attempts), *(of_few if before.form == seal.form else ())):
        for day in days or ():
            if _end(day) + _LATE <= before.at:
                detail = f"{day.rows} {_WHAT[table]} of {day.day} were written after {moment(before.at)}"
                report.add(_table_of(table), f"{detail}, when seal {before.n} was made without them", seal=seal.n)
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
