"""A connection that shares what was asked about built-in types with all connections of the process.

For each array, such as `bigint[]`, the driver asks each new connection for its element type. The question takes the
server 5 ms, more than any statement here: it plans a recursive query over the catalogue, and that twice.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import asyncpg

# Below it PostgreSQL assigns object ids by hand, and never others. All above may differ between databases.
_FIRST_UNASSIGNED_OID: Final = 10_000

_known: Final[dict[int, asyncpg.Record]] = {}


class _Nothing:
    """In place of the statement that asks for types: one with a name, which took no other's place on the server."""

    name: Final = "not asked"


class KnowingConnection(asyncpg.Connection):
    async def _introspect_types(
        self,
        typeoids: Collection[int],
        timeout: float | None,  # noqa: ASYNC109 - the driver's
    ) -> tuple[list[asyncpg.Record], object]:
        if _known.keys() >= set(typeoids):
            return list(_known.values()), _Nothing
        types, statement = await super()._introspect_types(typeoids, timeout)  # type: ignore[misc] # not in the stubs
        _known.update((row["oid"], row) for row in types if row["oid"] < _FIRST_UNASSIGNED_OID)
        return types, statement
