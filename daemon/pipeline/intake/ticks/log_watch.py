"""Notices that the log is another one: that it went back with a promotion, and begins anew with what is left of it; or
that somebody has rewritten it, and stops.

PostgreSQL never loses what it acknowledged - but a standby that was a moment behind has not received everything, and
when it is promoted it is the log. A process that goes on as if nothing had happened would pass over what the new
primary acknowledges, because the numbers of ticks begin again below those that it has read. Evidence at each poll:

    the timeline of the write-ahead log     is another one after every promotion
    the newest tick that was seen           is not there, or has another snapshot
    the newest change of a route            is not there, or has another hash in the chain

Then all shards are dropped, and taken again by what the database says; the routes are folded anew; what is known to be
gone is recorded, and told. A promotion that lost nothing is answered in the same way: it takes a moment, and the last
flush may be what is missing. Events that were sent and come again have the same `webhook-id`.

Within one timeline PostgreSQL loses nothing that was committed. If changes of routes are gone there, or are others,
somebody deleted or rewrote them, or put an older state of the database in the place of this one. What to send, and to
whom, is then nobody's word: the process sends nothing more until a person has looked and started it again. The same
holds for a change that continues the chain and that no command can have written.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import structlog

from daemon.pipeline.held_shards import HeldShards
from daemon.pipeline.intake.projection import LogEnd, LogReplaced, Projection
from daemon.pipeline.known_log import KnownLog
from daemon.telemetry.metrics import Metrics
from eventstore.domain_events import lost_log, polls, ticks
from eventstore.domain_events.glances import Glance, shows_nothing_new
from eventstore.domain_events.lost_log import LostLog
from eventstore.domain_events.polls import NOTHING_READ, Poll, ReadUpto
from eventstore.domain_events.ticks import LogMark
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import StoreUnavailable
from eventstore.progress.steady_time import ClockReading, TimedReading

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What this process knew of the log when it asked, and which log it was."""

    mark: LogMark
    end: LogEnd
    log: object
    asked_at: float

    def is_same_tick(self, poll: Poll) -> bool:
        return self.mark.tick == 0 or poll.known_snap == self.mark.snap

    def are_same_routes(self, poll: Poll) -> bool:
        return self.end.position == 0 or poll.known_hash == self.end.hash

    def is_same_timeline(self, poll: Poll) -> bool:
        return self.mark.timeline in (None, poll.mark.timeline)

    def are_rewritten_routes(self, poll: Poll) -> bool:
        """True if other changes of routes stand in the log, and no promotion explains it."""
        is_promoted = self.mark.timeline is None or not self.is_same_timeline(poll)
        return not is_promoted and not self.are_same_routes(poll)

    def is_same_log(self, poll: Poll) -> bool:
        """True if the answer is about the log that was known."""
        return self.is_same_tick(poll) and self.are_same_routes(poll) and self.is_same_timeline(poll)


class LogRewritten(StoreUnavailable):
    """The route log is not the one that was applied here, and no promotion explains it; or nobody can apply it."""

    def __init__(self, what: str) -> None:
        super().__init__(
            f"the route log was rewritten, or an older state of the database was restored: {what}; nothing is sent",
            hint="compare the log with a backup and with the signed heads (hookledger audit --anchors FILE), restore "
            "what somebody changed, and restart every daemon",
        )


class LogWatch:
    """`poll` is how this process asks for news, `polled_at` when it last made a tick or found that there was none to
    make, in monotonic seconds, and `clock_reading` what was read last of the database's clock. Others ask with a
    `question`, and `accept` its answer. `on_clock_read` are called after each reading, `on_begun_anew` after all
    shards were dropped.

    `rewritten` is set once the route log was rewritten, and stays: every poll raises it then. `on_rewritten` are called
    at that moment.
    """

    def __init__(
        self,
        database: Database,
        projection: Projection,
        shards: HeldShards,
        known: KnownLog,
        metrics: Metrics,
        *,
        owner: str,
    ) -> None:
        self.on_clock_read: list[Callable[[], None]] = []
        self.on_begun_anew: list[Callable[[], None]] = []
        self.on_rewritten: list[Callable[[], None]] = []
        self.rewritten: LogRewritten | None = None
        self._database = database
        self._projection = projection
        self._shards = shards
        self._known = known
        self._metrics = metrics
        self._owner = owner
        self._polling = asyncio.Lock()
        self._log: object | None = object()  # another one for another log; None while it changes
        # The last poll of which everything was told and applied, None if there is none. Each glance that shows nothing
        # else moves its snapshot on.
        self._settled: Poll | None = None
        # The positions of the route log, from and to, that are known to be gone and are not recorded yet.
        self._gone: tuple[int, int] | None = None
        self.polled_at = -math.inf
        self.clock_reading: TimedReading | None = None

    async def poll(self, read: ReadUpto = NOTHING_READ) -> Poll:
        """Polls, and returns once this process has begun anew if the log is another one. Raises StoreUnavailable,
        LogRewritten among them.
        """
        async with self._polling:
            self._settled = None
            if self.rewritten is not None:
                raise self.rewritten
            question = self.question()
            known = {"known_tick": question.mark.tick, "known_pos": question.end.position}
            poll = await polls.poll(self._database, **known, read=read)
            self._read_clock(poll.clock, poll.ahead_microseconds, asked_at=question.asked_at)
            if question.are_rewritten_routes(poll):
                raise self._refuse(_difference(question.end, poll))
            if self._gone is not None or not question.is_same_log(poll):
                try:
                    await self._begin_anew(poll, question.end, are_same_routes=question.are_same_routes(poll))
                except LogReplaced as error:
                    raise self._refuse(str(error)) from None
            self._saw(poll)
            self.polled_at = time.monotonic()
            return poll

    async def reach(self, poll: Poll) -> None:
        """Applies the route log as far as a poll saw it. Raises StoreUnavailable, LogRewritten among them."""
        try:
            await self._projection.reach(poll.route_pos)
            self._settled = poll
        except LogReplaced:
            again = await self.poll()  # if a standby was promoted meanwhile, this begins anew
            try:
                await self._projection.reach(again.route_pos)
            except LogReplaced as error:
                raise self._refuse(str(error)) from None

    def is_unchanged(self, glance: Glance, asked_at: float) -> bool:
        """True if nothing was committed since the last poll but heartbeats of this process: another poll would find
        what that one found.
        """
        settled = self._settled
        if settled is None or settled.snapshot is None or glance.timeline != settled.mark.timeline:
            return False
        if not shows_nothing_new(settled.snapshot, glance.snapshot, known=self._known.heartbeats):
            return False
        self._settled = settled._replace(snapshot=glance.snapshot)
        self._read_clock(glance.clock, glance.ahead_microseconds, asked_at=asked_at)
        self.polled_at = time.monotonic()
        return True

    def question(self) -> Question:
        """What to ask with, for somebody who asks beside this watch."""
        return Question(
            mark=self._known.mark, end=self._projection.end, log=self._log or object(), asked_at=time.monotonic()
        )

    def accept(self, question: Question, poll: Poll) -> bool:
        """True if an answer is about the log that is known still. If not, the next poll finds the evidence too."""
        is_known = question.mark.timeline is not None and question.log is self._log and question.is_same_log(poll)
        if is_known:
            self._saw(poll)
            if poll.made is not None:  # else the lock that ticks take may be held up, and publishers pass by
                self.polled_at = time.monotonic()
        return is_known

    def _read_clock(self, at: datetime, ahead_microseconds: int, *, asked_at: float) -> None:
        self.clock_reading = TimedReading(
            reading=ClockReading(at=at, ahead_microseconds=ahead_microseconds),
            asked_at=asked_at,
            answered_at=time.monotonic(),
        )
        for notify in self.on_clock_read:
            notify()

    def _refuse(self, what: str) -> LogRewritten:
        self.rewritten = LogRewritten(what)
        self._log = None
        for notify in self.on_rewritten:
            notify()
        log.error("log.rewritten", cause=str(self.rewritten), hint=self.rewritten.hint)
        return self.rewritten

    def _saw(self, poll: Poll) -> None:
        """Notes what an answer tells, unless a later one has come before it."""
        if poll.mark.tick >= self._known.mark.tick:
            self._known.saw(poll.mark, None if poll.newest is None else poll.newest.at)

    async def _begin_anew(self, poll: Poll, end: LogEnd, *, are_same_routes: bool) -> None:
        """If it is interrupted, the next poll begins again: it finds the same evidence, but for the routes. Those are
        folded by then, and what is gone of them is remembered until it is recorded.
        """
        self._log = None
        self._shards.lose_all()
        for notify in self.on_begun_anew:
            notify()
        first_tick, last_tick = await self._lost_ticks()
        if not are_same_routes:
            first_pos, last_pos = self._gone or (end.position + 1, end.position)
            first_pos = min(first_pos, await self._projection.fold_anew(end))
            self._gone = first_pos, max(last_pos, end.position)
        first_pos, last_pos = self._gone or (end.position + 1, end.position)
        if first_tick <= last_tick or first_pos <= last_pos:
            lost = await lost_log.record(
                self._database,
                timeline=poll.mark.timeline or 0,
                ticks=(first_tick, last_tick),
                positions=(first_pos, last_pos),
                found_by=self._owner,
            )
            self._tell(lost)
        else:
            log.warning("log.promoted", before=self._known.mark.timeline, now=poll.mark.timeline)
        self._gone = None
        self._known.forget()
        self._log = object()

    async def _lost_ticks(self) -> tuple[int, int]:
        """The first and the last tick that were seen here and are gone; the last is below the first if none is.

        If ticks were not looked at one by one, the oldest that may be gone counts.
        """
        seen = self._known.remembered()
        last = self._known.mark.tick
        if not seen:
            return last + 1, last
        left = await ticks.seen_since(self._database, seen[-1].tick)
        kept = next((each.tick for each in seen if each in left), seen[-1].tick - 1)
        return kept + 1, last

    def _tell(self, lost: LostLog) -> None:
        self._metrics.database_went_back.inc()
        log.warning(
            "log.went_back",
            timeline=lost.timeline,
            ticks=_range(lost.first_tick, lost.last_tick),
            positions=_range(lost.first_pos, lost.last_pos),
            cause=lost.sentence,
        )


def _range(first: int, last: int) -> list[int] | None:
    return [first, last] if first <= last else None


def _difference(known: LogEnd, poll: Poll) -> str:
    if poll.route_pos < known.position:
        return f"it ends at position {poll.route_pos}, and was applied here up to {known.position}"
    if poll.known_hash is None:
        return f"position {known.position}, the last one that was applied here, is gone"
    return f"position {known.position} has another hash than the one that was applied here"
