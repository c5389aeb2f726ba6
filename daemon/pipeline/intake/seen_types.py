"""Records the types that events have, so that the catalogue can show which types it lacks.

`note` is called for each event that is read and costs one look-up in a set. New types are written outside the hot path.
A crash may lose some: their next event notes them again.
"""

from __future__ import annotations

from daemon.pipeline.wakeup import Wakeup
from eventstore.domain_events import catalogue
from eventstore.domain_events.catalogue import MAX_SEEN
from eventstore.postgres.connect import Database


class SeenTypes:
    """`note` collects types; `run_once` writes new ones and waits for more."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: set[str] = set()
        self._new: set[str] = set()
        self._wakeup = Wakeup()

    def note(self, event_type: str) -> None:
        """Notes the type of an event. This is on the hot path."""
        if event_type not in self._known and len(self._known) < MAX_SEEN:
            self._known.add(event_type)
            self._new.add(event_type)
            self._wakeup.set()

    async def run_once(self) -> None:
        self._wakeup.clear()
        if self._new:
            written = sorted(self._new)
            await catalogue.note_seen(self._database, written)
            self._new.difference_update(written)
        await self._wakeup.wait_set()
