"""A connection that learns quickly what a type of a parameter or a result is made of.

The driver knows the plain types of PostgreSQL by heart. For each other one, such as `bigint[]` or the rows that a flush
writes, every new connection asks, by a recursive query over the catalogue: 14 ms, and 1.7 MiB of the server's memory
for as long as the connection lives. So what was asked about built-in types is shared by all connections of the process,
and for rows of plain types and arrays of them there is a query that does not recurse: 2 ms. Each connection asks it
anew, since a migration or a restored dump may change the answer.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import asyncpg
from asyncpg.protocol.protocol import BUILTIN_TYPE_OID_MAP

# Below it PostgreSQL assigns object ids by hand, and never others. All above may differ between databases.
_FIRST_UNASSIGNED_OID: Final = 10_000

_known: Final[dict[int, asyncpg.Record]] = {}

# pg_type.typtype: base (arrays are), composite, enum.
_OF_ONE_LEVEL: Final = (b"b", b"c", b"e")

# The types asked for and the elements of arrays among them, elements first. The columns are those of the driver's own
# query. By scalar subqueries, since a join takes the server twice as long to plan.
_ROWS_AND_ARRAYS: Final = """
SELECT t.oid, (SELECT n.nspname FROM pg_namespace n WHERE n.oid = t.typnamespace) AS ns, t.typname AS name,
       t.typtype AS kind, NULL::oid AS basetype, t.typelem AS elemtype,
       (SELECT e.typdelim FROM pg_type e WHERE e.oid = t.typelem) AS elemdelim, NULL::oid AS range_subtype,
       (SELECT array_agg(a.atttypid ORDER BY a.attnum) FROM pg_attribute a
         WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) AS attrtypoids,
       (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a
         WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped) AS attrnames,
       NULL::text AS basetype_name, NULL::text AS elemtype_name, NULL::text AS range_subtype_name
  FROM pg_type t
 WHERE t.oid = ANY ($1::oid[]) OR t.oid = ANY (ARRAY(SELECT typelem FROM pg_type WHERE oid = ANY ($1::oid[])))
 ORDER BY t.typelem <> 0
"""


class _Nothing:
    """In place of the statement that asks for types: one with a name, which took no other's place on the server."""

    name: Final = "not asked"


class KnowingConnection(asyncpg.Connection):
    """A connection of the driver that asks for types as this module says. For `asyncpg.connect(connection_class=…)`.

    It bears the servers of its URL, and the timeline of the one that it leads to, 0 if that says none (dialing.py).
    """

    servers: frozenset[str] = frozenset()
    timeline: int = 0

    _intro_query: str  # the driver's: what it asks for types

    async def _introspect_types(
        self,
        typeoids: Collection[int],
        timeout: float | None,  # noqa: ASYNC109 - the driver's
    ) -> tuple[list[asyncpg.Record], object]:
        if _known.keys() >= set(typeoids):
            return list(_known.values()), _Nothing
        recursive, self._intro_query = self._intro_query, _ROWS_AND_ARRAYS
        try:
            types, statement = await super()._introspect_types(typeoids, timeout)  # type: ignore[misc] # not in the stubs
        finally:
            self._intro_query = recursive
        if not all(map(_is_complete, types)):
            types, statement = await super()._introspect_types(typeoids, timeout)  # type: ignore[misc]
        _known.update((row["oid"], row) for row in types if row["oid"] < _FIRST_UNASSIGNED_OID)
        return types, statement


def _is_complete(described: asyncpg.Record) -> bool:
    """True if the row says all of the type: it is plain, an enumeration, an array, or a row of types that the driver
    knows. Domains, ranges, and what contains them have more below them.
    """
    return described["kind"] in _OF_ONE_LEVEL and BUILTIN_TYPE_OID_MAP.keys() >= set(described["attrtypoids"] or ())
