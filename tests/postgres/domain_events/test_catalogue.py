"""The tables of event types."""

import asyncio

import asyncpg
import pytest

from eventstore.domain_events import catalogue
from eventstore.domain_events.catalogue import ListedType, OutlinedType, TypeRow
from eventstore.postgres.connect import Database
from eventstore.queries.events import sample_events
from tests.support.values.builders import ROUTE, new_event


def rows(*names: str) -> list[TypeRow]:
    return [TypeRow(name=name, description=f"about {name}", example='{"data":{}}') for name in names]


async def test_what_is_replaced_is_gone_and_what_is_new_is_there(database: Database) -> None:
    await catalogue.replace(database, rows("b.b", "a.a"))
    assert await catalogue.names(database) == ["a.a", "b.b"]
    await catalogue.replace(database, rows("c.c"))
    assert await catalogue.names(database) == ["c.c"]
    assert await catalogue.examples(database, ["a.a", "c.c"]) == {"c.c": '{"data":{}}'}


async def test_catalogues_that_come_at_once_are_not_mixed(database: Database) -> None:
    wanted = [[f"n{n}.t{t}" for t in range(20)] for n in range(8)]
    await asyncio.gather(*(catalogue.replace(database, rows(*names)) for names in wanted))
    assert await catalogue.names(database) in [sorted(names) for names in wanted]


async def test_a_catalogue_that_cannot_be_stored_leaves_the_one_before(database: Database) -> None:
    await catalogue.replace(database, rows("a.a"))
    with pytest.raises(Exception, match="duplicate key"):
        await catalogue.replace(database, rows("b.b", "b.b"))
    assert await catalogue.names(database) == ["a.a"]


async def test_seen_types_are_listed_beside_the_catalogued_ones(database: Database) -> None:
    await catalogue.replace(database, rows("a.a", "c.c"))
    await catalogue.note_seen(database, ["c.c", "b.b"])
    assert await catalogue.listed(database, after="", limit=10) == [
        ListedType(name="a.a", description="about a.a", example='{"data":{}}'),
        ListedType(name="b.b", description=None, example=None),
        ListedType(name="c.c", description="about c.c", example='{"data":{}}'),
    ]
    assert [each.name for each in await catalogue.listed(database, after="a.a", limit=1)] == ["b.b"]
    assert [each.name for each in await catalogue.listed(database, after="", limit=10, group="c")] == ["c.c"]


async def test_only_so_many_seen_types_are_kept_and_again_is_no_new_one(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalogue, "MAX_SEEN", 3)
    await catalogue.note_seen(database, ["a.a", "b.b"])
    await catalogue.note_seen(database, ["a.a", "b.b", "c.c"])
    await catalogue.note_seen(database, ["d.d", "e.e"])
    assert [each.name for each in await catalogue.listed(database, after="", limit=10)] == ["a.a", "b.b", "c.c"]


async def test_test_events_follow_each_other_in_the_order_given(database: Database, sql: asyncpg.Connection) -> None:
    events = [new_event(id=f"test_{n}", type=kind) for n, kind in enumerate(("b.b", "a.a", "c.c"))]
    await sample_events.publish(database, ROUTE, events)
    stored = await sql.fetch("SELECT type, test_route, backfill FROM hookledger.domain_event ORDER BY seq")
    assert [tuple(row) for row in stored] == [(kind, ROUTE, False) for kind in ("b.b", "a.a", "c.c")]


async def test_a_producer_cannot_send_to_a_single_route(sql: asyncpg.Connection) -> None:
    async with sql.transaction():
        await sql.execute("SET LOCAL ROLE hookledger_producer")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            async with sql.transaction():
                await sql.execute(
                    "INSERT INTO hookledger.domain_event (tenant, id, type, data, test_route) VALUES ('a', 'b', 'c.d', '{}', $1)",
                    ROUTE,
                )
    arguments = await sql.fetch("SELECT pg_get_function_arguments(oid) FROM pg_proc WHERE proname = 'publish'")
    assert not any("test" in row[0] for row in arguments)


async def test_an_outline_has_seen_types_only_if_they_are_wanted(database: Database) -> None:
    await catalogue.replace(database, rows("a.a"))
    await catalogue.note_seen(database, ["a.a", "b.b"])
    whole, own = [await catalogue.outline(database, characters=7, with_seen=seen) for seen in (True, False)]
    assert whole == [OutlinedType(name="a.a", description="about a"), OutlinedType(name="b.b", description=None)]
    assert own == whole[:1]
