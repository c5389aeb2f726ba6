"""The catalogue of event types as a process caches it, and its replacement in the database.

Strict publishing checks the type of every event. The names are cached for a second, so that the check is a lookup in a
set. A change of the catalogue takes effect in other processes at most a second later.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from importlib.resources import files

import orjson

from daemon.core.events.catalogue import KnownTypes, TypeDraft, example_text
from daemon.operations import OPERATIONAL
from eventstore.domain_events import catalogue
from eventstore.domain_events.catalogue import TypeRow
from eventstore.postgres.connect import Database
from eventstore.postgres.errors import StoreUnavailable, VersionConflict

FRESH_SECONDS = 1.0
READ_SECONDS = 2.0
# How often a catalogue is compared, if others replace it at the same time.
COMPARISONS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogueDifference:
    """How a new catalogue differs from the present one: names of types."""

    added: Sequence[str]
    changed: Sequence[str]
    removed: Sequence[str]

    @property
    def is_empty(self) -> bool:
        return not (self.added or self.changed or self.removed)


class Catalogue:
    """The cached catalogue. If types are not strict, `known_types` is None and every type is accepted."""

    def __init__(self, database: Database, *, is_strict: bool) -> None:
        self._database = database
        self._is_strict = is_strict
        self._names: frozenset[str] = frozenset()
        self._read_at: float | None = None
        self._lock = asyncio.Lock()

    async def known_types(self, *, seconds: float = READ_SECONDS) -> KnownTypes | None:
        """The types of the catalogue, at most a second old. Raises StoreUnavailable, after `seconds` at the latest."""
        if not self._is_strict:
            return None
        if not self._is_fresh:
            await self._read(min(seconds, READ_SECONDS))
        return KnownTypes(self._names)

    async def replace(
        self, drafts: Sequence[TypeDraft], *, edition: int | None = None, kept: Collection[str] = OPERATIONAL
    ) -> None:
        """Like the function `replace`, and drops this process's cache."""
        async with self._lock:
            await replace(self._database, drafts, edition=edition, kept=kept)
            self._read_at = None

    async def replace_and_compare(self, drafts: Sequence[TypeDraft]) -> CatalogueDifference:
        """Replaces the catalogue like `replace`, whatever edition there is, and returns what that has changed.

        Raises StoreUnavailable, and VersionConflict if others replace it all the time.
        """
        for _ in range(COMPARISONS):
            edition, rows = await catalogue.entries(self._database)
            try:
                await self.replace(drafts, edition=edition)
            except VersionConflict:
                continue
            return difference(rows, drafts)
        raise VersionConflict("the catalogue of event types is being changed by many others")

    async def _read(self, seconds: float) -> None:
        """Reads the names once for all concurrent callers. A caller's deadline includes its wait for the others."""
        try:
            async with asyncio.timeout(seconds), self._lock:
                if not self._is_fresh:
                    started = time.monotonic()
                    self._names = frozenset(await catalogue.names(self._database))
                    self._read_at = started
        except TimeoutError as error:
            raise StoreUnavailable("the catalogue of event types could not be read in time") from error

    @property
    def _is_fresh(self) -> bool:
        return self._read_at is not None and time.monotonic() - self._read_at < FRESH_SECONDS


async def replace(
    database: Database,
    drafts: Sequence[TypeDraft],
    *,
    edition: int | None = None,
    kept: Collection[str] = OPERATIONAL,
) -> None:
    """Replaces the whole catalogue by these entries, which passed `check`. Those in it that are named in `kept` stay as
    they are, if they are not among them: a platform lists its own types, and not those of this product.

    Raises StoreUnavailable, and VersionConflict if `edition` is given and is no longer the current one.
    """
    await catalogue.replace(database, [_row(draft) for draft in drafts], edition=edition, kept=kept)


def difference(before: Sequence[TypeRow], drafts: Sequence[TypeDraft]) -> CatalogueDifference:
    """The names of the types that the drafts add, change and remove. Operational ones stay."""
    old = {row.name: (row.description, row.example) for row in before}
    new = {draft.name: (draft.description, example_text(draft)) for draft in drafts}
    return CatalogueDifference(
        added=sorted(new.keys() - old.keys()),
        changed=sorted(name for name in new.keys() & old.keys() if new[name] != old[name]),
        removed=sorted(old.keys() - new.keys() - OPERATIONAL),
    )


async def add_operational(database: Database, names: Collection[str]) -> None:
    """Adds the operational types with these names to the catalogue, as far as they are missing."""
    described = orjson.loads(_data_file("operational_types.json"))
    drafts = [TypeDraft(**each) for each in described if each["name"] in names]
    await catalogue.add_missing(database, [_row(draft) for draft in drafts])


def sample_types() -> bytes:
    """The sample catalogue of the package, as JSON."""
    return _data_file("event_types.json")


def _row(draft: TypeDraft) -> TypeRow:
    return TypeRow(name=draft.name, description=draft.description, example=example_text(draft))


def _data_file(name: str) -> bytes:
    return files("daemon").joinpath("data", name).read_bytes()
