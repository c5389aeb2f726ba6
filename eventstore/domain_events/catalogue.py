"""The catalogue of event types, and the types seen in published events."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from eventstore.postgres.connect import Database
from eventstore.postgres.errors import VersionConflict

# A producer may invent any number of types. Nobody reads a longer list than this.
MAX_SEEN = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeRow:
    """A type of the catalogue; `example` is JSON, an object of data, context and snapshot."""

    name: str
    description: str
    example: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedType:
    """A type in a list. `description` and `example` are None if the type was seen and is not in the catalogue."""

    name: str
    description: str | None
    example: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutlinedType:
    """A type with the beginning of its description, None if the type was seen and is not in the catalogue."""

    name: str
    description: str | None


# One replacement at a time: two concurrent ones must not be mixed. See the head of schema.sql for the mode.
_LOCK = "LOCK TABLE hookledger.event_type IN SHARE UPDATE EXCLUSIVE MODE"

_FILL = """
INSERT INTO hookledger.event_type (name, description, example)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[])
"""

# $1 the name to begin after, $2 how many types, $3 the group
_LISTED = """
SELECT name, max(description) AS description, max(example) AS example
  FROM ((SELECT name, description, example FROM hookledger.event_type WHERE {which} ORDER BY name LIMIT $2)
         UNION ALL
        (SELECT name, NULL, NULL FROM hookledger.event_type_seen WHERE {which} ORDER BY name LIMIT $2)) merged
 GROUP BY name ORDER BY name LIMIT $2
"""
_CATALOGUED = "SELECT name, description, example FROM hookledger.event_type WHERE {which} ORDER BY name LIMIT $2"
_ALL = "name > $1"
_GROUP = "name > $1 AND split_part(name, '.', 1) = $3"

_SEEN = """
INSERT INTO hookledger.event_type_seen (name)
SELECT name FROM unnest($1::text[]) AS given (name)
 WHERE NOT EXISTS (SELECT FROM hookledger.event_type_seen s WHERE s.name = given.name)
 LIMIT (SELECT greatest(0, $2 - count(*)) FROM hookledger.event_type_seen)
    ON CONFLICT DO NOTHING
"""


# A replacement rewrites every row, so the newest updated_at identifies the edition.
_EDITION = "SELECT coalesce(hookledger.microseconds(max(updated_at)), 0) FROM hookledger.event_type"

# $1 how many characters of a description, $2 whether to include types that were only seen
_OUTLINE = """
SELECT name, max(description) AS description
  FROM (SELECT name, left(description, $1) AS description FROM hookledger.event_type
         UNION ALL
        SELECT name, NULL FROM hookledger.event_type_seen WHERE $2) merged
 GROUP BY name ORDER BY name
"""


async def replace(
    database: Database, types: Iterable[TypeRow], *, edition: int | None = None, kept: Collection[str] = ()
) -> None:
    """Replaces the whole catalogue by these types, but for those named in `kept` that are not among them.

    Raises StoreUnavailable, and VersionConflict if `edition` is given and is no longer the current one.
    """
    rows = list(types)
    stays = set(kept) - {row.name for row in rows}
    async with database.transaction(seconds=10) as connection:
        await connection.execute(_LOCK)
        if edition is not None and await connection.fetchval(_EDITION) != edition:
            raise VersionConflict("the catalogue of event types was replaced by somebody else")
        await connection.execute("DELETE FROM hookledger.event_type WHERE name <> ALL ($1)", list(stays))
        await connection.execute(
            _FILL, [row.name for row in rows], [row.description for row in rows], [row.example for row in rows]
        )


async def add_missing(database: Database, types: Iterable[TypeRow]) -> None:
    """Adds those of these types to the catalogue that are not in it."""
    rows = list(types)
    async with database.transaction(seconds=10) as connection:
        await connection.execute(_LOCK)
        await connection.execute(
            f"{_FILL} ON CONFLICT (name) DO NOTHING",
            [row.name for row in rows],
            [row.description for row in rows],
            [row.example for row in rows],
        )


async def entries(database: Database) -> tuple[int, list[TypeRow]]:
    """The edition of the catalogue and its types, sorted by name.

    The edition is a number that changes with every replacement; it is 0 if the catalogue is empty.
    """
    async with database.connection() as connection:
        rows = await connection.fetch(
            "SELECT name, description, example, hookledger.microseconds(updated_at) AS at "
            "FROM hookledger.event_type ORDER BY name"
        )
    types = [TypeRow(name=row["name"], description=row["description"], example=row["example"]) for row in rows]
    return max((row["at"] for row in rows), default=0), types


async def entry(database: Database, name: str) -> TypeRow | None:
    """The type with this name, or None if it is not in the catalogue."""
    if "\0" in name:  # PostgreSQL has no such text, so there is no such type
        return None
    async with database.connection() as connection:
        row = await connection.fetchrow(
            "SELECT name, description, example FROM hookledger.event_type WHERE name = $1", name
        )
    return None if row is None else TypeRow(**row)


async def outline(database: Database, *, characters: int, with_seen: bool = True) -> list[OutlinedType]:
    """All types of the catalogue, and with `with_seen` those that were only seen, sorted by name.

    Descriptions are cut to `characters`.
    """
    async with database.connection() as connection:
        return [OutlinedType(**row) for row in await connection.fetch(_OUTLINE, characters, with_seen)]


async def names(database: Database) -> list[str]:
    """The names of all types in the catalogue, sorted."""
    async with database.connection() as connection:
        rows = await connection.fetch("SELECT name FROM hookledger.event_type ORDER BY name")
    return [row["name"] for row in rows]


async def examples(database: Database, event_types: Sequence[str]) -> dict[str, str]:
    """Type name → example, for those of `event_types` that are in the catalogue."""
    async with database.connection() as connection:
        rows = await connection.fetch(
            "SELECT name, example FROM hookledger.event_type WHERE name = ANY ($1::text[])", event_types
        )
    return {row["name"]: row["example"] for row in rows}


async def listed(
    database: Database, *, after: str, limit: int, group: str | None = None, with_seen: bool = True
) -> list[ListedType]:
    """A page of the types of the catalogue, and with `with_seen` of those that were only seen.

    Sorted by name, beginning after the name `after`; of one `group` if it is given.
    """
    statement = _LISTED if with_seen else _CATALOGUED
    async with database.connection() as connection:
        if group is None:
            rows = await connection.fetch(statement.format(which=_ALL), after, limit)
        else:
            rows = await connection.fetch(statement.format(which=_GROUP), after, limit, group)
    return [ListedType(**row) for row in rows]


async def note_seen(database: Database, types: Sequence[str]) -> None:
    """Notes types that events had, until MAX_SEEN are noted."""
    async with database.connection() as connection:
        await connection.execute(_SEEN, types, MAX_SEEN)
