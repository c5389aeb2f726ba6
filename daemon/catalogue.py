"""The catalogue as a process knows it, and how one gets into the database.

Strict publishing asks for every event whether its type is known. The answer is remembered for a second, so that it
costs a look into a set; a type that was just added to, or taken out of, the catalogue is one a second later.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from importlib.resources import files

from daemon.core.events.catalogue import KnownTypes, TypeDraft, example_text
from eventstore.domain_events import catalogue
from eventstore.domain_events.catalogue import TypeRow
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import StoreUnavailable

FRESH_SECONDS = 1.0
READ_SECONDS = 2.0


class Catalogue:
    """`known_types` is None unless types are strict: then nothing is unknown."""

    def __init__(self, database: Database, *, is_strict: bool) -> None:
        self._database = database
        self._is_strict = is_strict
        self._names: frozenset[str] = frozenset()
        self._read_at: float | None = None
        self._turn = asyncio.Lock()

    async def known_types(self) -> KnownTypes | None:
        """The types of the catalogue, at most a second old. Raises StoreUnavailable."""
        if not self._is_strict:
            return None
        if not self._is_fresh:
            await self._read()
        return KnownTypes(self._names)

    async def replace(self, drafts: Sequence[TypeDraft], *, edition: int | None = None) -> None:
        """Like the function, and here it holds from the next question on."""
        async with self._turn:
            await replace(self._database, drafts, edition=edition)
            self._read_at = None

    async def _read(self) -> None:
        """Once for all who ask at the same time; nobody waits for another's deadline and then for his own."""
        try:
            async with asyncio.timeout(READ_SECONDS), self._turn:
                if not self._is_fresh:
                    started = time.monotonic()
                    self._names = frozenset(await catalogue.names(self._database))
                    self._read_at = started
        except TimeoutError as error:
            raise StoreUnavailable("the catalogue of event types could not be read in time") from error

    @property
    def _is_fresh(self) -> bool:
        return self._read_at is not None and time.monotonic() - self._read_at < FRESH_SECONDS


async def replace(database: Database, drafts: Sequence[TypeDraft], *, edition: int | None = None) -> None:
    """Makes these entries, which passed `check`, the whole catalogue. Raises StoreUnavailable, and VersionConflict if
    an `edition` is given and there is another one by now.
    """
    rows = [TypeRow(name=draft.name, description=draft.description, example=example_text(draft)) for draft in drafts]
    await catalogue.replace(database, rows, edition=edition)


def sample_types() -> bytes:
    """The catalogue that comes with the product, as JSON."""
    return files("daemon").joinpath("data", "event_types.json").read_bytes()
