"""`hookledger status`: once for scripts, and live on a terminal until Ctrl-C."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator, Iterator

import asyncpg
import pytest
import pytest_asyncio

from eventstore.domain_events.events import SHARDS
from eventstore.postgres.connect import Database
from eventstore.queries.metrics import route_health
from tests.support.processes.cli import CommandLine
from tests.support.processes.terminal import CONTROL_C, ENTER_SCREEN, LEAVE_SCREEN, SHOW_CURSOR, Terminal
from tests.support.rows.healths import row

OWNED = """
INSERT INTO hookledger.process (owner, host, pid, version, master_key) VALUES ('here:1:a', 'here', 1, '0.1.0', '');
UPDATE hookledger.lease SET owner = 'here:1:a', epoch = 2, expires_at = clock_timestamp() + interval '1 h';
"""


@pytest_asyncio.fixture
async def sql(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    connection.terminate()


@pytest.fixture
def live(hookledger: CommandLine) -> Iterator[Terminal]:
    command = [sys.executable, "-m", "daemon", "status", "--every", "0.5"]
    # With these a terminal has that size for ever; readline sets them.
    sizes = ("COLUMNS", "LINES")
    environment = {name: value for name, value in hookledger.environment.items() if name not in sizes}
    with Terminal(command, environment=environment, folder=hookledger.home, columns=100, lines=40) as terminal:
        yield terminal


async def fail(database_url: str, route_id: str, **more: object) -> None:
    """Notes that all requests of a route have failed."""
    database = Database(database_url)
    await database.open()
    await route_health.write(database, [row({"id": route_id, "tenant": "acme"}, **more)])
    await database.close()


def test_an_installation_without_a_daemon_says_that_nobody_delivers(hookledger: CommandLine) -> None:
    ended = hookledger("status")
    nobody = f"nobody delivers for shards {', '.join(map(str, range(SHARDS)))}"
    assert f"warning: {nobody}" in ended.out.splitlines()
    assert "only the daemons know" in ended.err
    shown = hookledger("status", "--json").json
    assert shown["warnings"] == [nobody]
    assert [each["owner"] for each in shown["shards"]] == [None] * SHARDS
    assert (shown["processes"], shown["failing"], shown["worst"], shown["unread"]) == (
        [],
        {"failing": 0, "down": 0},
        [],
        [],
    )
    assert shown["throughput"] == {
        "events": 0, "requests": 0, "unsuccessful": 0, "delivered": 0, "given_up": 0, "most_ms": None,
    }  # fmt: skip


async def test_owners_events_and_routes_that_fail_are_shown(
    hookledger: CommandLine, database_url: str, sql: asyncpg.Connection
) -> None:
    route = hookledger.create_route()
    hookledger("publish", stdin='{"tenant": "acme", "type": "order.create", "id": "evt_1", "data": {}}')
    await sql.execute(OWNED)
    await fail(database_url, route["id"])
    shown = hookledger("status", "--json").json
    assert shown["warnings"] == []
    assert {each["owner"] for each in shown["shards"]} == {"here:1:a"}
    assert shown["throughput"]["events"] == pytest.approx(1 / 60)
    assert shown["failing"] == {"failing": 1, "down": 1}
    (worst,) = shown["worst"]
    assert (worst["id"], worst["tenant"], worst["name"], worst["health"]["state"]) == (
        route["id"],
        "acme",
        "Orders",
        "down",
    )
    out = hookledger("status", "--once").out
    assert "500 Internal Server Error" in out
    assert f"0-{SHARDS - 1}" in out
    hookledger("routes", "disable", route["id"])
    assert hookledger("status", "--json").json["worst"] == []


async def test_a_part_that_cannot_be_read_is_named(hookledger: CommandLine, sql: asyncpg.Connection) -> None:
    await sql.execute("BEGIN; LOCK TABLE hookledger.route_recent")
    ended = hookledger("status")
    assert "unread: what is done in a second cannot be read now: " in ended.out
    assert "another transaction holds a lock" in ended.out
    shown = hookledger("status", "--json").json
    assert (shown["throughput"], len(shown["unread"]), len(shown["shards"])) == (None, 1, SHARDS)
    await sql.execute("ROLLBACK")


def test_without_a_database_it_ends_with_69(without_database: CommandLine) -> None:
    without_database.environment["HOOKLEDGER_DATABASE__URL"] = "postgresql://127.0.0.1:1/nothing"
    ended = without_database("status", code=69)
    assert ended.err.startswith("error: PostgreSQL at ")


@pytest.mark.parametrize("end", ["Ctrl-C", "SIGTERM"])
async def test_the_live_table_follows_the_installation_until_it_is_ended(
    live: Terminal, sql: asyncpg.Connection, end: str
) -> None:
    live.until("nobody delivers for shards")
    assert ENTER_SCREEN in live.written
    await sql.execute(OWNED)
    live.until("here:1:a", since=len(live.written))
    if end == "Ctrl-C":
        live.press(CONTROL_C)
    else:
        live.process.send_signal(signal.SIGTERM)
    assert live.end() == 0
    assert LEAVE_SCREEN in live.written
    assert SHOW_CURSOR in live.written
    assert "Traceback" not in live.text
    assert "error" not in live.text


def test_events_that_wait_for_a_tick_are_told_once_they_have_waited_for_long(
    hookledger: CommandLine, live: Terminal
) -> None:
    live.until("nobody delivers for shards")
    hookledger("publish", stdin='{"tenant": "acme", "type": "order.create", "id": "evt_1", "data": {}}')
    live.until("! no tick was made for ")


async def test_another_size_of_the_terminal_is_filled_at_once(live: Terminal, sql: asyncpg.Connection) -> None:
    await sql.execute(OWNED)
    live.until("checkpoint")
    seen = len(live.written)
    live.resize(160, 20)
    live.until("version", since=seen)  # a column that it had no place for


async def test_while_the_database_does_not_answer_the_table_stays_and_says_so(
    live: Terminal, sql: asyncpg.Connection
) -> None:
    live.until("nobody delivers for shards")
    await sql.execute("BEGIN; LOCK TABLE hookledger.lease")
    seen = len(live.written)
    live.until("cannot be read since", since=seen)
    await sql.execute("ROLLBACK")
    live.until("! nobody", since=len(live.written))
