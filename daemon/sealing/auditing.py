"""Walks all seals in order, with the rows that those of a period cover, and compares both with what stands there.

A seal that is not what was written ends the walk, because all after it rests on it. So each finding names the first
thing that is wrong in its part. Rows are read in runs of seals, so that an audit takes memory for a run only.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from daemon.core.sealing.head import PublicSealKey, log_name
from daemon.core.texts import moment
from daemon.sealing import compared_rows, lifecycle_signatures, seal_chain
from daemon.sealing.anchoring import anchors as anchored
from daemon.sealing.anchoring.anchors import Anchor
from daemon.sealing.compared_rows import Gone
from daemon.sealing.contents import contents
from daemon.sealing.report import SealReport
from daemon.sealing.rows import content_of
from eventstore.domain_events import ticks
from eventstore.postgres import schema_lines
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import ChainBroken, StoreError, StoreUnavailable
from eventstore.queries.auditing import backdated, unreadable
from eventstore.retention import retention
from eventstore.seals import covered, stored, strays, turns
from eventstore.seals.stored import SealMark, SealRow

# A run has so many seals, rows, ticks and events of the route log at most, or is one seal.
_RUN_SEALS = 500
_RUN_ROWS = 50_000
_RUN_TICKS = 20_000
_RUN_ROUTE_EVENTS = 20_000

# In so many minutes, or for so many times the wait between two seals, something may be recorded before it is sealed: a
# seal of much takes a while. The minutes are counted, since the time between two rows may be that by which a clock was
# set; no clock is set by a day.
_UNSEALED = timedelta(minutes=10)
_UNSEALED_TURNS = 3
_LONGEST_STEP = timedelta(days=1)


@dataclass(slots=True)
class _Run:
    """Seals in a row whose rows are read together, and the seal before them."""

    before: SealMark
    seals: list[SealRow] = field(default_factory=list)
    rows: int = 0

    def add(self, row: SealRow) -> None:
        self.seals.append(row)
        self.rows += _rows_of(row)

    def takes(self, row: SealRow) -> bool:
        """True if the seal may be read with those."""
        if not self.seals:
            return True
        last = self.seals[-1]
        return (
            (row.origin, row.form) == (last.origin, last.form)
            and len(self.seals) < _RUN_SEALS
            and self.rows + _rows_of(row) <= _RUN_ROWS
            and row.tick - self.before.tick <= _RUN_TICKS
            and row.route_pos - self.before.route_pos <= _RUN_ROUTE_EVENTS
        )


async def audit_seals(
    database: Database,
    *,
    keys: Collection[bytes],
    anchors: Sequence[Anchor] = (),
    start: datetime,
    end: datetime,
    every: timedelta | None = None,
) -> SealReport:
    """Recomputes the chain of all seals, and what those cover that were made in [start, end), with those after it that
    may cover what was recorded then.

    `keys` are the public keys that are ours, none if they are not known here. `anchors` are heads that must be heads of
    these seals. With `every`, the wait between two seals, it looks whether sealing stands still.
    """
    report = SealReport(is_signer_known=bool(keys))
    try:
        await _walk(database, report, keys=keys, anchors=anchors, start=start, end=end)
        if every is not None and not report.findings:
            report.unsealed = await _unsealed(database, max(_UNSEALED, every * _UNSEALED_TURNS))
    except (StoreUnavailable, ChainBroken):
        raise
    except (StoreError, *unreadable.ERRORS) as error:
        if not await _note_unreadable(database, report):
            raise
        report.broken_off = f"{error}"
    return report


async def _unsealed(database: Database, most: timedelta) -> tuple[datetime, datetime] | None:
    """From when until when things were recorded that are not sealed, if that is for longer."""
    last = await stored.newest(database)
    mark = SealMark() if last is None else last.mark
    found = await strays.unsealed(database, mark, origin=await turns.origin(database))
    if found is None:
        return None
    is_long = timedelta(minutes=found.minutes) > most or found.until - found.since > max(_LONGEST_STEP, most)
    return (found.since, found.until) if is_long else None


async def _note_unreadable(database: Database, report: SealReport) -> bool:
    """Adds what keeps the seals from being read. True if there is something."""
    for time in await unreadable.times(database):
        report.add(time.table, f"{time.key}: {time.detail}")
    for fault in await schema_lines.faults(database):
        report.add("schema", f"{fault.part}: {fault.detail}")
    try:
        await retention.horizon(database)
    except StoreError as error:
        report.add("meta", str(error))
    return bool(report.findings)


async def _walk(
    database: Database,
    report: SealReport,
    *,
    keys: Collection[bytes],
    anchors: Sequence[Anchor],
    start: datetime,
    end: datetime,
) -> None:
    origin = await turns.origin(database)
    deleted = await lifecycle_signatures.deleted_routes(database, report, keys)
    walk = seal_chain.Walk(name=log_name(origin), keys=keys, sizes={anchor.size for anchor in anchors})
    run = _Run(SealMark())
    restored = await stored.newest_of_others(database, origin)
    is_over = False
    async for previous, row in walk.seals(database, report):
        is_over = is_over or (previous is not None and await _covers_all_before(database, previous, end))
        is_of_period = row.at >= start and not is_over
        if not is_of_period or not run.takes(row):
            await _judge(database, report, run, restored.n, deleted)
            run = _Run(SealMark() if previous is None else previous.mark)
        if is_of_period:
            run.add(row)
        else:
            run.before = row.mark
    await _judge(database, report, run, restored.n, deleted)
    if walk.last is not None:
        await _compare_present(database, report, walk.last, restored)
    ours = [PublicSealKey(name=walk.name, key=key) for key in keys]
    anchored.compare(report, anchors, name=walk.name, keys=ours, heads=walk.heads, size=walk.tree.size)


async def _covers_all_before(database: Database, seal: SealRow, end: datetime) -> bool:
    """True if what was recorded before `end` is covered by that seal, or by one before it. After an outage several
    seals are made in a row, and only the last of them comes up to its own time.
    """
    if seal.at < end:
        return False
    tick = await ticks.find(database, seal.tick)
    return tick is None or tick.closed_upto >= end


async def _judge(database: Database, report: SealReport, run: _Run, restored: int, deleted: set[UUID]) -> None:
    if not run.seals:
        return
    marks = [row.mark for row in run.seals]
    async with covered.reading(database) as reader:
        found = await contents(reader, before=run.before, marks=marks, restored=restored)
    # Last: otherwise what retention drops meanwhile would count as missing.
    gone = Gone(
        horizon=await retention.horizon(database),
        first_tick=await ticks.first(database),
        deleted_routes=deleted,
    )
    before = run.before
    for row in run.seals:
        compared_rows.compare(report, content_of(row), found[row.n], gone, before=before)
        before = row.mark


def _rows_of(row: SealRow) -> int:
    return sum(row.event_rows) + sum(row.attempt_rows)


async def _compare_present(database: Database, report: SealReport, last: SealRow, restored: SealMark) -> None:
    """What may only have grown since the newest seal, and rows that no seal can cover."""
    checkpoints, now = await strays.present(database)
    if len(checkpoints) != len(last.checkpoints):
        report.add("checkpoint", f"there are {len(checkpoints)} checkpoints, not {len(last.checkpoints)}", seal=last.n)
    for shard, (then, since) in enumerate(zip(last.checkpoints, checkpoints, strict=False)):
        if since < then:
            report.add("checkpoint", f"the checkpoint of shard {shard} went back from {then} to {since}", seal=last.n)
            break
    horizon = await retention.horizon(database)
    for name, sealed, kept_from in (
        ("events_kept_from", last.events_kept_from, horizon.events),
        ("attempts_kept_from", last.attempts_kept_from, horizon.attempts),
    ):
        if sealed is not None and (kept_from is None or kept_from < sealed):
            report.add("meta", f"{name} went back from {sealed} to {kept_from}", seal=last.n)
        elif kept_from is not None and kept_from > now:
            report.add("meta", f"{name} is {kept_from}, in the future")
    for stray in await strays.strays(database, restored=restored.n, restored_tick=restored.tick):
        report.add(stray.part, stray.detail)
    for event in await backdated.events(database):
        detail = f"event {event.seq} is said to be of {event.day}, and was written after {moment(event.written_after)}"
        report.add("domain_event", detail)
