"""What the driver need not ask a server for, since every PostgreSQL has it."""

import pytest

from eventstore.postgres.connect import Database
from eventstore.postgres.servers import builtin_types
from eventstore.postgres.servers.dialing import Dialer


async def test_only_the_first_connection_of_a_process_asks_for_the_elements_of_arrays(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builtin_types, "_known", {})
    asked = [await _queries(empty_database_url) for _ in range(2)]
    assert [any("typeinfo_tree" in query for query in queries) for queries in asked] == [True, False]


async def test_types_of_a_database_are_asked_for_by_each_connection(empty_database_url: str) -> None:
    database = Database(empty_database_url, pool_size=1)
    for labels in ("'small', 'large'", "'one'"):
        await database.open()
        async with database.connection() as connection:
            await connection.execute(f"DROP TYPE IF EXISTS size; CREATE TYPE size AS ENUM ({labels})")
            assert await connection.fetchval("SELECT enum_range(NULL::size)") == labels.replace("'", "").split(", ")
        await database.close()


async def _queries(url: str) -> list[str]:
    """What a new connection sends for a statement with arrays."""
    sent: list[str] = []
    connection = await Dialer(url, where="here", settings={}, seconds=10)()
    with connection.query_logger(lambda record: sent.append(record.query)):
        assert await connection.fetchval("SELECT $1::bigint[]", [1, 2]) == [1, 2]
        assert await connection.fetchval("SELECT $1::text[]", ["a", "b"]) == ["a", "b"]
        assert await connection.fetchval("SELECT ARRAY[1.5, 2]") == [1.5, 2]
    await connection.close()
    return sent
