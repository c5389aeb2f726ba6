"""What the driver need not ask a server for, since every PostgreSQL has it; and how it asks for the rest."""

import asyncpg
import pytest

from eventstore.postgres.connect import Database
from eventstore.postgres.servers import introspection
from eventstore.postgres.servers.dialing import Dialer
from eventstore.progress.rows import ATTEMPT_COLUMNS


async def test_only_the_first_connection_of_a_process_asks_for_the_elements_of_arrays(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(introspection, "_known", {})
    asked = [await _queries(empty_database_url) for _ in range(2)]
    assert [any("pg_type" in query for query in queries) for queries in asked] == [True, False]


async def test_types_of_a_database_are_asked_for_by_each_connection(empty_database_url: str) -> None:
    database = Database(empty_database_url, pool_size=1)
    for labels in ("'small', 'large'", "'one'"):
        await database.open()
        async with database.connection() as connection:
            await connection.execute(f"DROP TYPE IF EXISTS size; CREATE TYPE size AS ENUM ({labels})")
            assert await connection.fetchval("SELECT enum_range(NULL::size)") == labels.replace("'", "").split(", ")
        await database.close()


async def test_the_rows_of_a_flush_are_understood_without_the_query_of_the_driver(database: Database) -> None:
    sent: list[str] = []
    async with database.connection() as connection:
        with connection.query_logger(lambda record: sent.append(record.query)):
            (row,) = await connection.fetch(
                "SELECT a FROM unnest($1::hookledger.attempt[]) a", [(None,) * len(ATTEMPT_COLUMNS)]
            )
    assert list(row["a"].keys()) == list(ATTEMPT_COLUMNS)
    assert [query for query in sent if "typeinfo_tree" in query] == []
    assert any("pg_attribute" in query for query in sent)


@pytest.mark.parametrize(
    ("made", "type_name", "value"),
    [
        ("TYPE size AS ENUM ('small', 'large')", "size", "large"),
        ("TYPE size AS ENUM ('small', 'large')", "size[]", ["large", "small"]),
        ("TYPE pair AS (a integer, b text)", "pair", (1, "x")),
        ("TYPE pair AS (a integer, b text)", "pair[]", [(1, "x"), None, (None, None)]),
        ("DOMAIN short AS text CHECK (length(value) < 9)", "short", "x"),
        ("DOMAIN short AS text CHECK (length(value) < 9)", "short[]", ["x"]),
        ("TYPE list AS (a integer[], b text)", "list[]", [([1, 2], "x")]),
        ("TYPE inner_row AS (a integer); CREATE TYPE outer_row AS (r inner_row, b text)", "outer_row", ((3,), "x")),
        ("TYPE span AS RANGE (subtype = bigint)", "span", asyncpg.Range(1, 5)),
        ("TYPE span AS RANGE (subtype = bigint)", "span[]", [asyncpg.Range(1, 5)]),
        ("TYPE span AS RANGE (subtype = bigint)", "span_multirange", [asyncpg.Range(1, 5)]),
    ],
)
async def test_any_type_goes_there_and_back(empty_database_url: str, made: str, type_name: str, value: object) -> None:
    connection = await Dialer(empty_database_url, where="here", settings={}, seconds=10)()
    try:
        await connection.execute(f"CREATE {made}")
        assert await connection.fetchval(f"SELECT $1::{type_name}", value) == value
    finally:
        await connection.close()


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
