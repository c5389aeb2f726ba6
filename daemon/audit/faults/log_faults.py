"""What is wrong with the marks of the logs: ticks, checkpoints, what is kept, ranges and packed rows."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta

from daemon.audit.findings import AuditFinding, FindingKind
from daemon.core.routing.index import RouteIndex
from daemon.core.texts import moment
from eventstore import domain_events
from eventstore.postgres.connect import Database
from eventstore.queries.auditing import log_marks
from eventstore.queries.auditing.log_marks import AuditedRange, LogMarks, WrongPacked, WrongTick
from eventstore.retention import retention
from eventstore.retention.retention import Keep

# Each mark of retention, and the log that it is about.
_LOGS = {"events_kept_from": "domain_event", "attempts_kept_from": "attempt"}
# The clock that retention looked at may have been set back since.
_CLOCK_STEP = timedelta(days=1)
# More than a clock is ever set by, and less than PostgreSQL can add to a time.
_MOST_STEADY = timedelta(days=36_500)


def of_marks(marks: LogMarks, index: RouteIndex) -> list[AuditFinding]:
    """The findings about the marks of one moment."""
    findings: list[AuditFinding] = []
    detail: str | None
    for shard in range(domain_events.SHARDS):
        tick = marks.checkpoints.get(shard)
        if tick is None:
            findings.append(_finding("checkpoint", f"shard {shard}", "the shard has no checkpoint"))
        elif not 0 <= tick <= marks.newest_tick:
            detail = f"the checkpoint is tick {tick}, and the newest tick is {marks.newest_tick}"
            findings.append(_finding("checkpoint", f"shard {shard}", detail))
    for key, text in marks.kept_from.items():
        if key in _LOGS and (detail := _kept_fault(text, _day(marks, _LOGS[key]), marks.now)):
            findings.append(_finding("meta", f"key {key}", detail))
    if detail := _steady_fault(marks.steady_clock):
        findings.append(_finding("steady_clock", "its row", detail))
    if marks.given_seq < marks.newest_seq:
        detail = (
            f"it has given {marks.given_seq}, and there is an event {marks.newest_seq}: others would get the same seq"
        )
        findings.append(_finding("domain_event_seq", "its value", detail))
    findings += [
        _finding("parked_range", f"route_id {each.route_id}", detail)
        for each in marks.ranges
        if (detail := _range_fault(each, marks, index)) is not None
    ]
    for packed in marks.wrong_packed:
        key = f"route_id {packed.route_id}, epoch {packed.epoch}, flush {packed.flush}, shard {packed.shard}"
        findings.append(_finding("parked", key, _packed_fault(packed)))
    return findings


async def of_ticks(database: Database, start: datetime, newest: int) -> list[AuditFinding]:
    """The findings about the ticks from `start` on, up to the newest one."""
    after, findings = await log_marks.last_tick_before(database, start), []
    while after < newest:
        wrong, after = await log_marks.wrong_ticks(database, after=after, upto=newest)
        findings += [_finding("tick", f"tick {each.tick}", _tick_fault(each)) for each in wrong]
    return findings


def first_kept(marks: LogMarks) -> datetime:
    """The beginning of the oldest day of events that there is."""
    return _day(marks, "domain_event") or marks.now


def dropped_early(marks: LogMarks, keep: Keep) -> list[str]:
    """Where what is kept begins later than `keep` leads to, in sentences."""
    found = []
    for key, what, kept in (
        ("events_kept_from", "events", keep.events),
        ("attempts_kept_from", "attempts", keep.attempts),
    ):
        with suppress(KeyError, ValueError):  # of_marks tells what is no time
            kept_from = retention.moment_of(marks.kept_from[key])
            if kept_from > marks.now - kept + _CLOCK_STEP:
                found.append(
                    f"{what} from before {moment(kept_from)} are gone, and retention.{what}_days is {kept.days}: if it "
                    "was not lower until lately, somebody has dropped them"
                )
    return found


def _day(marks: LogMarks, log: str) -> datetime | None:
    day = marks.oldest_days.get(log)
    return None if day is None else datetime(day.year, day.month, day.day, tzinfo=UTC)


def _kept_fault(text: str, oldest: datetime | None, now: datetime) -> str | None:
    """Retention drops one past day after another, the oldest first, and notes the end of a day before it is dropped."""
    try:
        kept_from = retention.moment_of(text)
    except ValueError:
        return f"{text!r} is no time"
    if kept_from > now or kept_from.timestamp() % timedelta(days=1).total_seconds():
        return f"it says {text}, and retention drops whole days that are over"
    if oldest is not None and kept_from > oldest + timedelta(days=1):
        return f"it says {text}, and what is kept begins on {oldest:%Y-%m-%d}"
    return None


def _steady_fault(rows: list[int]) -> str | None:
    if len(rows) != 1:
        return f"there are {len(rows)} rows, not one"
    if abs(rows[0]) > _MOST_STEADY // timedelta(microseconds=1):
        return f"it says that the clock was set by {rows[0]} microseconds"
    return None


def _tick_fault(tick: WrongTick) -> str:
    """The first thing that is wrong with a tick of which something is."""
    if tick.previous is not None and tick.previous != tick.tick - 1:
        return f"it follows tick {tick.previous}: those between them are missing"
    if tick.is_behind:
        return "its snapshot shows less than that of the tick before it"
    if tick.previous_route_pos is not None and tick.route_pos < tick.previous_route_pos:
        return f"route_pos is {tick.route_pos}, and was {tick.previous_route_pos} at the tick before it"
    if tick.route_pos and tick.changed_at is None:
        return f"route_pos is {tick.route_pos}, and the route log ends before that"
    if tick.next_change_at is not None and tick.next_change_at <= tick.closed_upto:
        return (
            f"position {tick.route_pos + 1} of the route log took effect at {moment(tick.next_change_at)}, which the "
            f"tick's route_pos {tick.route_pos} and closed_upto {moment(tick.closed_upto)} exclude"
        )
    return (
        f"closed_upto is {moment(tick.closed_upto)}, which does not follow from when it was made, "
        f"{moment(tick.at)}, the route log and the tick before it"
    )


def _range_fault(each: AuditedRange, marks: LogMarks, index: RouteIndex) -> str | None:
    timeline = index.timeline(each.route_id)
    if timeline is None:
        return "the route log has no such route"
    if each.shard != domain_events.shard_of(timeline.current.tenant):
        return f"shard is {each.shard}, and the route's tenant belongs to another"
    if each.pairs < 0 or each.from_seq < 0 or not 0 < each.from_tick <= marks.newest_tick + 1:
        return f"it begins at tick {each.from_tick}, and the newest tick is {marks.newest_tick}"
    return None


def _packed_fault(packed: WrongPacked) -> str:
    """The first thing that is wrong with a packed row of which something is."""
    if packed.route_tenant is None:
        return "the route log has no such route"
    if not packed.is_even:
        return "seqs, ticks, recorded_ats and event_times are not of one length"
    if packed.last_tick != packed.highest_tick:
        return f"last_tick is {packed.last_tick}, and the highest of ticks is {packed.highest_tick}"
    return f"it says tenant {packed.tenant} and shard {packed.shard}, and the route belongs to {packed.route_tenant}"


def _finding(table: str, key: str, detail: str) -> AuditFinding:
    return AuditFinding(kind=FindingKind.UNEXPLAINED, table=table, key=key, detail=detail)
