"""Glances: what a later snapshot shows that an earlier one does not, and that no event and no change is overlooked."""

import asyncpg
import pytest

from eventstore import domain_events
from eventstore.domain_events import polls
from eventstore.domain_events.glances import shows_nothing_new
from eventstore.domain_events.polls import Poll
from eventstore.leases import lifeline, process
from eventstore.leases.process import Process
from eventstore.postgres.connect import Database
from tests.support.postgres.queries import Connect
from tests.support.values.builders import new_event

HEARTBEATS = {100, 101, 105}


@pytest.mark.parametrize(
    ("before", "now", "is_same"),
    [
        ("100:100:", "100:100:", True),
        ("90:100:90,95", "90:100:90,95", True),
        ("100:100:", "101:101:", True),
        ("100:100:", "102:102:", True),
        ("100:100:", "103:103:", False),  # 102 is somebody else's
        ("100:100:", "102:103:102", True),  # … and is under way
        ("102:103:102", "103:103:", False),  # … and has committed
        ("100:101:100", "101:101:", True),  # a heartbeat that was under way
        ("105:105:", "106:106:", True),
        ("100:100:", "99:99:", False),  # another server's
        ("100:100:", "100:165:102", False),  # too many to look at
    ],
)
def test_only_heartbeats_may_come_between(before: str, now: str, is_same: bool) -> None:
    assert shows_nothing_new(before, now, known=HEARTBEATS) is is_same


async def poll(database: Database) -> Poll:
    return await polls.poll(database, known_tick=0, known_pos=0)


async def glance_is_same(sql: asyncpg.Connection, polled: Poll, known: set[int]) -> bool:
    assert polled.snapshot is not None
    _, glance = await lifeline.probe(sql, "me")
    assert glance.timeline == polled.mark.timeline
    return shows_nothing_new(polled.snapshot, glance.snapshot, known=known)


async def test_an_event_is_seen_once_it_has_committed(
    database: Database, sql: asyncpg.Connection, connect: Connect
) -> None:
    """Whatever else other databases of the server do, a glance after the event must differ from the poll before."""
    producer = await connect()
    async with producer.transaction():
        await producer.execute("SELECT hookledger.publish('acme', 'order.create', '{}'::jsonb)")
        under_way = await poll(database)
    assert under_way.made is None
    assert not await glance_is_same(sql, under_way, set())
    assert (await poll(database)).made == 1
    before = await poll(database)
    await domain_events.publish(database, [new_event()])
    assert not await glance_is_same(sql, before, set())


async def test_a_heartbeat_tells_its_transaction(database: Database, sql: asyncpg.Connection) -> None:
    me = Process(owner="me", host="here", pid=1, version="1", master_key="k")
    renewal = await process.heartbeat(database, me, {})
    status = await sql.fetchval("SELECT pg_xact_status($1::text::xid8)", str(renewal.txid))
    assert status == "committed"
    assert await sql.fetchval("SELECT xmin::text::bigint FROM hookledger.process") == renewal.txid
