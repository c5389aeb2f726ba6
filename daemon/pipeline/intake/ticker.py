"""Makes ticks, and proves that the projection is fresh: one query to PostgreSQL does both.

It polls at once after a publish through the API, unless ticks follow each other: then they are spaced, so that each has
more events. Else it polls every 50 ms if a tick was made in the last 5 s and every 250 ms if not, with jitter. So an
idle daemon takes 0.64 % of a core and its PostgreSQL 0.44 %; polling every 50 ms took 1.8 %. The interval must stay
well below the second for which a poll keeps the send gate open (daemon.pipeline.sending.send_gate).

A poll brings the newest tick, and so does the notification of one that another process made: nobody has to ask for it.
The notification of a tick that this process has just made, or has seen already, rings nobody.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

from daemon.core.gcra import UNUSED, Allowance
from daemon.pipeline.intake.log_watch import LogWatch
from daemon.pipeline.intake.projection import Projection
from daemon.pipeline.sending.send_gate import SendGate
from daemon.pipeline.wakeup import Wakeup
from eventstore.domain_events import ticks
from eventstore.domain_events.ticks import EMPTY_SNAP, Poll, Tick

POLL_SECONDS = 0.05
IDLE_POLL_SECONDS = 0.25
BUSY_SECONDS = 5.0
# Ticks that are made for publishes: 100 events a second, one by one, wait for nothing, and thousands share their ticks.
HURRIED_TICKS = Allowance(burst=3, per_second=125)


class Ticker:
    """`wakeup` makes it poll at once. `on_tick` is called with the newest tick when it is another one than before,
    whoever made it, and `on_unknown_tick` when there may be one that nothing has brought.
    """

    def __init__(
        self,
        log_watch: LogWatch,
        projection: Projection,
        send_gate: SendGate,
        *,
        on_tick: Callable[[Tick], None],
        on_unknown_tick: Callable[[], None],
    ) -> None:
        self.wakeup = Wakeup()
        self._log_watch = log_watch
        self._projection = projection
        self._send_gate = send_gate
        self._on_tick = on_tick
        self._on_unknown_tick = on_unknown_tick
        self._newest = (0, EMPTY_SNAP)
        self._heard = ""
        self._is_polling = False
        self._made_at = time.monotonic()
        self._arrival = UNUSED

    @property
    def pause_seconds(self) -> float:
        """How long to wait for the wakeup, without the jitter."""
        return POLL_SECONDS if time.monotonic() < self._made_at + BUSY_SECONDS else IDLE_POLL_SECONDS

    @property
    def spacing_seconds(self) -> float:
        """How long a poll after a publish waits, because ticks follow each other."""
        return HURRIED_TICKS.wait(self._arrival, time.monotonic())

    def heard(self, payload: str) -> None:
        """A notification tells of a tick; without a payload there may be one of which none told.

        While a poll is under way, its answer probably brings the tick. So it is waited for.
        """
        if not payload:
            self._on_unknown_tick()
            return
        self._heard = payload
        if not self._is_polling:
            self._ring()

    def _ring(self) -> None:
        """Tells of the tick that was heard of last, unless it is known."""
        heard, self._heard = self._heard, ""
        if not heard:
            return
        number, tick = ticks.notified(heard)
        if number <= self._newest[0]:
            return
        if tick is None:
            self._on_unknown_tick()
        else:
            self._on_tick(tick)

    async def run_once(self) -> None:
        hurried = await self.wakeup.wait(self.pause_seconds * random.uniform(0.8, 1.2))  # noqa: S311 - spreads processes, hides nothing
        if hurried:
            await asyncio.sleep(self.spacing_seconds)
        self.wakeup.clear()
        asked_at = time.monotonic()
        poll = await self._poll()
        await self._projection.reach(poll.route_pos)
        self._send_gate.known(asked_at)

    async def _poll(self) -> Poll:
        self._is_polling = True
        try:
            poll = await self._log_watch.poll()
            if poll.made is not None:
                self._made_at = time.monotonic()
                self._arrival = HURRIED_TICKS.next_arrival(self._arrival, self._made_at)
            newest = (poll.mark.tick, poll.mark.snap)
            if newest != self._newest:
                self._newest = newest
                if poll.newest is not None:
                    self._on_tick(poll.newest)
        finally:
            self._is_polling = False
            self._ring()
        return poll
