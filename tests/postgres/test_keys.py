"""Sealed secrets: stored with their lifecycle event or not at all."""

from uuid import UUID, uuid4

import pytest

from eventstore import keys, log
from eventstore.connect import Database
from tests.support.builders import ROUTE, draft

OTHER = UUID(int=7)


async def test_sealed_keys_and_headers_come_back_by_route_and_id(database: Database) -> None:
    async with database.transaction() as connection:
        await keys.add_key(connection, ROUTE, "k1", b"\0one")
        await keys.add_key(connection, ROUTE, "k2", b"two")
        await keys.add_key(connection, OTHER, "k1", b"three")
        await keys.add_headers(connection, ROUTE, "h1", b"four")
    assert await keys.keys(database, [ROUTE]) == {(ROUTE, "k1"): b"\0one", (ROUTE, "k2"): b"two"}
    assert await keys.keys(database, [ROUTE, OTHER, uuid4()]) == {
        (ROUTE, "k1"): b"\0one",
        (ROUTE, "k2"): b"two",
        (OTHER, "k1"): b"three",
    }
    assert await keys.headers(database, [ROUTE, OTHER]) == {(ROUTE, "h1"): b"four"}
    assert await keys.keys(database, []) == {}


async def test_a_key_goes_with_the_event_that_brought_it(database: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as connection:
            await keys.add_key(connection, ROUTE, "k1", b"one")
            await log.append(connection, draft(route_id=ROUTE))
            raise ZeroDivisionError
    assert await keys.keys(database, [ROUTE]) == {}
    assert await log.last_position(database) == 0


async def test_the_first_check_value_of_the_master_key_stays(database: Database) -> None:
    assert await keys.master_key_check(database, "first") == "first"
    assert await keys.master_key_check(database, "second") == "first"
