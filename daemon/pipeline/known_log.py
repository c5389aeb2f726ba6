"""What this process has read of the log. It shows whether a failover has replaced the log by an older state.

After the promotion of a standby that was behind, the newest ticks are gone, and their numbers soon belong to others.
Everything in memory that came from them is then about a log that is no more. `mark` goes with every flush, so that
nothing of that is written; `daemon.pipeline.intake.ticks.log_watch` compares it with what stands in the database.
"""

from __future__ import annotations

from collections import deque
from datetime import datetime

from eventstore.domain_events.ticks import LogMark, SeenTick

# So many of the newest ticks are remembered, to tell which of them are gone.
REMEMBERED = 1000
# And so many of this process's heartbeats: more than there are between two polls.
REMEMBERED_HEARTBEATS = 100


class KnownLog:
    """`mark` is the newest tick that was seen, on its timeline. `heartbeats` are transactions of this process that have
    written nothing of the logs.
    """

    def __init__(self) -> None:
        self.mark = LogMark()
        self.heartbeats: deque[int] = deque(maxlen=REMEMBERED_HEARTBEATS)
        self._seen: deque[SeenTick] = deque(maxlen=REMEMBERED)

    def saw(self, mark: LogMark, at: datetime | None) -> None:
        """Notes what the newest tick is, and when it was made; None if there is none."""
        if mark.tick != self.mark.tick and at is not None:
            self._seen.append(SeenTick(mark.tick, mark.snap, at))
        self.mark = mark

    def remembered(self) -> list[SeenTick]:
        """Ticks that were seen, newest first."""
        return list(reversed(self._seen))

    def forget(self) -> None:
        """Begins anew: another log is the log now."""
        self.mark = LogMark()
        self.heartbeats.clear()
        self._seen.clear()
