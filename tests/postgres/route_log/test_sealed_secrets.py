"""Sealed secrets: stored together with their lifecycle event or not at all."""

from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from eventstore import route_log
from eventstore.postgres.connect import Database
from eventstore.route_log import sealed_secrets
from eventstore.route_log.sealed_secrets import Table
from tests.support.values.builders import ROUTE, draft

OTHER = UUID(int=7)


async def test_sealed_keys_and_headers_come_back_by_route_and_id(database: Database) -> None:
    async with database.transaction() as connection:
        await sealed_secrets.add_key(connection, ROUTE, "k1", b"\0one")
        await sealed_secrets.add_key(connection, ROUTE, "k2", b"two")
        await sealed_secrets.add_key(connection, OTHER, "k1", b"three")
        await sealed_secrets.add_headers(connection, ROUTE, "h1", b"four")
    assert await sealed_secrets.of_route(database, Table.KEYS, ROUTE, ["k1", "k2", "k3"]) == {
        "k1": b"\0one",
        "k2": b"two",
    }
    assert await sealed_secrets.of_route(database, Table.KEYS, OTHER, ["k1"]) == {"k1": b"three"}
    assert await sealed_secrets.of_route(database, Table.HEADERS, ROUTE, ["h1", "k1"]) == {"h1": b"four"}
    assert await sealed_secrets.of_route(database, Table.HEADERS, OTHER, ["h1"]) == {}
    assert await sealed_secrets.of_route(database, Table.KEYS, uuid4(), []) == {}


async def test_a_key_goes_with_the_event_that_brought_it(database: Database) -> None:
    with pytest.raises(ZeroDivisionError):
        async with database.transaction() as connection:
            await sealed_secrets.add_key(connection, ROUTE, "k1", b"one")
            await route_log.append(connection, draft(route_id=ROUTE))
            raise ZeroDivisionError
    assert await sealed_secrets.of_route(database, Table.KEYS, ROUTE, ["k1"]) == {}
    assert await route_log.last_position(database) == 0


async def test_the_first_check_value_of_the_master_key_stays(database: Database) -> None:
    assert await sealed_secrets.master_key_check(database, "first") == "first"
    assert await sealed_secrets.master_key_check(database, "second") == "first"


async def test_secrets_of_routes_that_were_deleted_before_a_moment_go_and_all_others_stay(database: Database) -> None:
    gone, living = uuid4(), uuid4()
    for route_id in (gone, living):
        async with database.transaction() as connection:
            await sealed_secrets.add_key(connection, route_id, "k1", b"key")
            await sealed_secrets.add_headers(connection, route_id, "h1", b"headers")
            await route_log.append(connection, draft(route_id=route_id))
    async with database.transaction() as connection:
        deleted = await route_log.append(connection, draft(route_id=gone, version=2, type="deleted"))
    moment = deleted.effective_at
    async with database.transaction() as connection:
        assert await sealed_secrets.forget_deleted(connection, before=moment) == 0
        assert await sealed_secrets.forget_deleted(connection, before=moment + timedelta(microseconds=1)) == 2
    for table, item in ((Table.KEYS, "k1"), (Table.HEADERS, "h1")):
        assert await sealed_secrets.of_route(database, table, gone, [item]) == {}
        assert list(await sealed_secrets.of_route(database, table, living, [item])) == [item]
