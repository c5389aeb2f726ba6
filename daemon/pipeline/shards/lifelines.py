"""This process's lifeline, which permits it to send, and its watch over the lifelines of the others.

eventstore/leases/lifeline.py says what a lifeline is, and why one process never sends for a shard that another one
took. Here are the two sides of that rule. `Lifelines` is a guest on the connection that listens:

    begin   a new session: no new permit until a heartbeat has noted it (`noted`)
    probe   every half second, every 0.75 s while nothing happens: an answer renews the permit, tells who else's
            lifeline is missed, and brings a glance at the logs, by which an idle process knows that there is nothing to
            poll for
    ended   the session is lost: the permit runs out, unless a heartbeat says that there is none, so that the leases
            end by their TTL alone

A process that was missed for as long as a permit may last is `dead`. The leases bury it (`Leases.share_once`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from daemon.pipeline.held_shards import HeldShards
from daemon.pipeline.tunables import DEFAULTS, Tunables
from daemon.pipeline.wakeup import Wakeup
from eventstore.domain_events.glances import Glance
from eventstore.leases import lifeline
from eventstore.leases.lifeline import NO_LIFELINE, PERMIT_SECONDS, Lifeline, Missed
from eventstore.postgres.servers.dialing import Connection


class Lifelines:
    """`current` is what the next heartbeat notes; `changed` is set when it should come at once. `on_glance` gets each
    glance at the logs of the server where the leases are, and when it was asked for. It returns True if nothing
    happens: then the next probe may come later.
    """

    def __init__(
        self,
        owner: str,
        shards: HeldShards,
        tunables: Tunables = DEFAULTS,
        *,
        on_glance: Callable[[Glance, float], bool] = lambda _glance, _asked_at: False,
    ) -> None:
        self.current: Lifeline = NO_LIFELINE
        self.changed = Wakeup()
        self._owner = owner
        self._shards = shards
        self._on_glance = on_glance
        self._probe_seconds = tunables.probe_seconds
        self._quiet_probe_seconds = tunables.quiet_probe_seconds
        self._permitted_seconds = PERMIT_SECONDS - tunables.permit_margin_seconds
        self._permit_ended_seconds = PERMIT_SECONDS + tunables.permit_margin_seconds
        self._return_seconds = tunables.lifeline_return_seconds
        self._is_noted = False
        self._answered_at = -math.inf
        # When each process was missed for the first time in a row; nobody is dead before `_patient_until`.
        self._missed_at: dict[Missed, float] = {}
        self._patient_until = -math.inf

    async def begin(self, connection: Connection) -> None:
        """The listening connection is a new session. Raises the driver's errors."""
        asked_at = time.monotonic()
        session = await lifeline.identify(connection, number=self.current.number + 1)
        self._missed_at.clear()
        if self.current.number:
            self._patient_until = time.monotonic() + self._return_seconds
        # From the heartbeat that notes it on, others may count on the permit's end. So it must have one before.
        self._shards.permit(min(self._shards.permitted_until, asked_at + self._permitted_seconds))
        self._answered_at = asked_at
        self._change(session)

    async def probe(self, connection: Connection) -> float:
        """Asks on the session whether it is there, and who is missed. Returns after how many seconds to ask again.

        Raises the driver's errors, so that the session is given up.
        """
        if self.current.pid is None:
            raise ConnectionAbortedError("the session is not where the leases are")
        asked_at = time.monotonic()
        missed, glance = await lifeline.probe(connection, self._owner)
        self._answered_at = asked_at
        pause = self._probe_seconds
        if self._is_noted:
            self._shards.permit(asked_at + self._permitted_seconds)
            if self._on_glance(glance, asked_at):
                pause = self._quiet_probe_seconds
        answered_at = time.monotonic()
        self._missed_at = {each: self._missed_at.get(each, answered_at) for each in missed}
        if self.dead():
            self._shards.changed.set()
        waits = (self._dead_at(since) - answered_at for since in self._missed_at.values())
        return min([pause, *(wait for wait in waits if wait > 0)])

    def ended(self) -> None:
        """The session is lost, or was not to be had."""
        if self.current.pid is not None:
            self._change(Lifeline(number=self.current.number + 1))

    def noted(self, asked: Lifeline, *, is_watched: bool) -> None:
        """A heartbeat with `asked` was answered; whether the row of the process names it now."""
        if asked.number != self.current.number:
            return
        if asked.pid is None:
            self._shards.permit(math.inf)
        elif is_watched:
            self._is_noted = True
            self._shards.permit(self._answered_at + self._permitted_seconds)
        else:
            # The pool leads to another server than the listening connection, or the session has just ended.
            self.ended()

    def dead(self) -> list[Missed]:
        """The processes that were missed for so long that they cannot send any more."""
        now = time.monotonic()
        return [each for each, since in self._missed_at.items() if now >= self._dead_at(since)]

    def buried(self, each: Missed) -> None:
        """It need not be buried again."""
        self._missed_at.pop(each, None)

    def _dead_at(self, missed_at: float) -> float:
        return max(missed_at + self._permit_ended_seconds, self._patient_until)

    def _change(self, to: Lifeline) -> None:
        self.current = to
        self._is_noted = False
        self.changed.set()
