"""Sealed secrets: stored together with their lifecycle event or not at all."""

from uuid import UUID, uuid4

import pytest

from eventstore import route_log
from eventstore.postgres.connect import Database
from eventstore.route_log import sealed_secrets
from tests.support.builders import ROUTE, draft

OTHER = UUID(int=7)


async def test_sealed_keys_and_headers_come_back_by_route_and_id(database: Database) -> None:
    async with database.transaction() as connection:
        await sealed_secrets.add_key(connection, ROUTE, "k1", b"\0one")
        await sealed_secrets.add_key(connection, ROUTE, "k2", b"two")
        await sealed_secrets.add_key(connection, OTHER, "k1", b"three")
        await sealed_secrets.add_headers(connection, ROUTE, "h1", b"four")
    assert await sealed_secrets.keys(database, [ROUTE]) == {(ROUTE, "k1"): b"\0one", (ROUTE, "k2"): b"two"}
    assert await sealed_secrets.keys(database, [ROUTE, OTHER, uuid4()]) == {
        (ROUTE, "k1"): b"\0one",
        (ROUTE, "k2"): b"two",
        (OTHER, "k1"): b"three",
    }
    assert await sealed_secrets.headers(database, [ROUTE, OTHER]) == {(ROUTE, "h1"): b"four"}
    assert await sealed_secrets.keys(database, []) == {}


async def test_a_key_goes_with_the_event_that_brought_it(database: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as connection:
            await sealed_secrets.add_key(connection, ROUTE, "k1", b"one")
            await route_log.append(connection, draft(route_id=ROUTE))
            raise ZeroDivisionError
    assert await sealed_secrets.keys(database, [ROUTE]) == {}
    assert await route_log.last_position(database) == 0


async def test_the_first_check_value_of_the_master_key_stays(database: Database) -> None:
    assert await sealed_secrets.master_key_check(database, "first") == "first"
    assert await sealed_secrets.master_key_check(database, "second") == "first"
