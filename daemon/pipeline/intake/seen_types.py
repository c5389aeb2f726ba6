"""Notes which types events really have, so that the catalogue can show what it is missing.

`note` is called for each event that is read and costs a look into a set; what is new is written down beside the hot
path. Nobody depends on it: types that a crash takes away are noted again with their next event.
"""

from __future__ import annotations

from daemon.pipeline.wakeup import Wakeup
from eventstore.domain_events import catalogue
from eventstore.domain_events.catalogue import MAX_SEEN
from eventstore.postgres.connect import Database


class SeenTypes:
    """`note` takes notes, `run_once` waits for some and writes them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: set[str] = set()
        self._new: set[str] = set()
        self._wakeup = Wakeup()

    def note(self, event_type: str) -> None:
        """Notes the type of an event; on the hot path."""
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
