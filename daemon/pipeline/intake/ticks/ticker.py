"""Makes ticks, and proves that the projection is fresh: one query to PostgreSQL does both.

What is published over HTTP, event by event, makes its tick itself (publishing.py), unless ticks follow each other: then
they are spaced, so that each has more events. Its answer counts as that of a poll. Else the ticker polls every 50 ms if
it made a tick in the last 5 s and every 250 ms if not, with jitter: with 50 ms an idle daemon took 1.8 % of a core
instead of 0.6 %. While another process makes ticks, it polls every 250 ms, for its own sake: the interval must stay
well below the second for which a poll keeps the send gate open (daemon.pipeline.sending.send_gate).

After a minute without a tick the glances that come with the lifeline's probes take the place of polls, every 0.75 s
(eventstore/domain_events/glances.py): the ticker polls when one of them sees that something was committed. If that poll
finds nothing, because others write to the database too, the next one is for the next glance to ask for.

A poll brings the newest tick with its events, if they are few and the tailer has read all before them. The notification
of a tick that another process made brings it too, so nobody has to ask for it; that of a tick that this process has
just made, or has seen already, rings nobody.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from daemon.core.gcra import UNUSED, Allowance
from daemon.pipeline.intake.projection import Projection
from daemon.pipeline.intake.ticks.log_watch import LogWatch, Question
from daemon.pipeline.sending.send_gate import SendGate
from daemon.pipeline.wakeup import Wakeup
from eventstore.domain_events import ticks
from eventstore.domain_events.events import StoredEvent
from eventstore.domain_events.glances import Glance
from eventstore.domain_events.polls import Poll, ReadUpto
from eventstore.domain_events.ticks import Tick

POLL_SECONDS = 0.05
IDLE_POLL_SECONDS = 0.25
BUSY_SECONDS = 5.0
# Without a tick for so long, a glance stands for a poll; and without a glance for so long, it polls again.
QUIET_SECONDS = 60.0
GLANCE_SECONDS = 1.0
# Ticks that are made for publishes: 100 events a second, one by one, wait for nothing, and thousands share their ticks.
HURRIED_TICKS = Allowance(burst=3, per_second=125)


class TickReader(Protocol):
    """What reads the ticks: the tailer."""

    @property
    def read_upto(self) -> ReadUpto:
        """What is read already, or will be without another question."""

    def told(self, newest: Tick, events: Sequence[StoredEvent] | None = None, *, shards: int = 0) -> None:
        """There is a newer tick. `events` are those of the shards in the bits of `shards`, if they were brought."""

    def must_ask(self) -> None:
        """There may be a tick that nothing has brought."""


class Ticker:
    """`wakeup` makes it poll at once. The reader is told of the newest tick when it is another one than before, also if
    another process made it; and so are `on_tick`, with None if there may be one of which nothing is known.
    """

    def __init__(
        self,
        log_watch: LogWatch,
        projection: Projection,
        send_gate: SendGate,
        reader: TickReader,
    ) -> None:
        self.wakeup = Wakeup()
        self.on_tick: list[Callable[[Tick | None], None]] = []
        self._log_watch = log_watch
        self._projection = projection
        self._send_gate = send_gate
        self._reader = reader
        self._newest = 0
        self._heard = ""
        self._asking = 0
        # When this process made a tick, when it was answered, and when anybody is known to have looked for a tick.
        self._made_at = self._answered_at = self._looked_at = self._told_at = time.monotonic()
        self._glanced_at = -math.inf
        self._is_asked_by_glance = False
        self._arrival = UNUSED
        log_watch.on_begun_anew.append(self._forget)

    @property
    def pause_seconds(self) -> float:
        """How long to wait for the wakeup, without the jitter."""
        return POLL_SECONDS if time.monotonic() < self._made_at + BUSY_SECONDS else IDLE_POLL_SECONDS

    @property
    def spacing_seconds(self) -> float:
        """How long a poll after a publish waits, because ticks follow each other."""
        return HURRIED_TICKS.wait(self._arrival, time.monotonic())

    def glanced(self, glance: Glance, asked_at: float) -> bool:
        """A glance at the logs. While nothing happens it stands for a poll, unless something was committed. True if it
        does.
        """
        now = time.monotonic()
        if now < self._told_at + QUIET_SECONDS:
            return False
        if not self._log_watch.is_unchanged(glance, asked_at):
            self._is_asked_by_glance = True
            self.wakeup.set()
            return False
        self._glanced_at = now
        self._send_gate.known(asked_at)
        return True

    def heard(self, payload: str) -> None:
        """A notification tells of a tick; without a payload there may be one of which none told.

        While a question is under way, its answer probably brings the tick, and its events. So it is waited for.
        """
        if not payload:
            self._must_ask()
            return
        self._heard = payload
        if not self._asking:
            self._ring()

    def _ring(self) -> None:
        """Tells of the tick that was heard of last, unless it is known."""
        heard, self._heard = self._heard, ""
        if not heard:
            return
        number, tick = ticks.notified(heard)
        if number <= self._newest:
            return
        self._looked_at = time.monotonic()
        if tick is None:
            self._must_ask()
        else:
            self._reader.told(tick)
            self._tell(tick)

    async def run_once(self) -> None:
        """Polls when something was published here, when nobody has looked for a tick for a while, or when this process
        needs an answer of its own.
        """
        jitter = random.uniform(0.8, 1.2)  # noqa: S311 - spreads processes, hides nothing
        hurried = await self.wakeup.wait(max(0.0, self._due_at(jitter) - time.monotonic()))
        if hurried:
            await asyncio.sleep(self.spacing_seconds)
        elif self._due_at(jitter) > time.monotonic():
            return  # meanwhile somebody published here, or another process made a tick
        self.wakeup.clear()
        asked_at, told_at = time.monotonic(), self._told_at
        is_for_glance, self._is_asked_by_glance = self._is_asked_by_glance, False
        poll = await self._poll()
        await self._log_watch.reach(poll)
        self._send_gate.known(asked_at)
        if is_for_glance and self._told_at == told_at:
            self._glanced_at = time.monotonic()

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Encloses a question and what is made of its answer."""
        self._asking += 1
        try:
            yield
        finally:
            self._asking -= 1
            if not self._asking:
                self._ring()

    def answered(self, question: Question, read: ReadUpto, poll: Poll) -> None:
        """Takes the answer that somebody got who has published; what it does not settle, a poll will."""
        if not self._log_watch.accept(question, poll):
            self.wakeup.set()
            return
        self._take(poll, read)
        if poll.made is None or self._projection.index.position < poll.route_pos:
            self.wakeup.set()
        else:
            self._send_gate.known(question.asked_at)

    async def _poll(self) -> Poll:
        with self.asking():
            read = self._reader.read_upto
            poll = await self._log_watch.poll(read)
            self._take(poll, read)
        return poll

    def _due_at(self, jitter: float) -> float:
        polled = min(self._looked_at + self.pause_seconds * jitter, self._answered_at + IDLE_POLL_SECONDS * jitter)
        return max(polled, self._glanced_at + GLANCE_SECONDS)

    def _take(self, poll: Poll, read: ReadUpto) -> None:
        self._answered_at = self._looked_at = time.monotonic()
        if poll.made is not None:
            self._made_at = self._answered_at
            self._arrival = HURRIED_TICKS.next_arrival(self._arrival, self._made_at)
        if poll.newest is not None and poll.newest.tick > self._newest:
            self._newest = poll.newest.tick
            self._reader.told(poll.newest, poll.events, shards=read.shards)
            self._tell(poll.newest)

    def _must_ask(self) -> None:
        self._reader.must_ask()
        self._tell(None)

    def _tell(self, tick: Tick | None) -> None:
        self._told_at, self._glanced_at = time.monotonic(), -math.inf
        for tell in self.on_tick:
            tell(tick)

    def _forget(self) -> None:
        """Another log is the log now."""
        self._newest, self._heard = 0, ""
