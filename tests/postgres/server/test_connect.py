"""Connections to PostgreSQL: deadlines hold, the driver's errors are translated, and the pool recovers."""

import asyncio
import os
import signal
import ssl
import struct
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from importlib import import_module
from inspect import Parameter, isasyncgenfunction, iscoroutinefunction, signature
from pathlib import Path
from pkgutil import walk_packages
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import asyncpg
import pytest

import eventstore
from eventstore import domain_events, route_log
from eventstore.access.macs import CredentialTable
from eventstore.access.sessions import PendingLink
from eventstore.access.tokens import NewToken
from eventstore.domain_events import ticks
from eventstore.domain_events.catalogue import TypeRow
from eventstore.domain_events.ticks import LogMark, Tick
from eventstore.leases.lifeline import Missed
from eventstore.leases.process import Process
from eventstore.postgres import connect
from eventstore.postgres.connect import Database, check_durability, translated
from eventstore.postgres.errors import (
    AccessRefused,
    SchemaMismatch,
    Standby,
    StoreError,
    StoreUnavailable,
    UnsafeServer,
    ValueRefused,
)
from eventstore.postgres.servers.database_url import location
from eventstore.progress import replays
from eventstore.progress.audit_jobs import AuditEnd, AuditJob, AuditProgress, NewAuditJob
from eventstore.progress.late_outcomes import LateOutcome
from eventstore.progress.manual_retry import RetryRequest
from eventstore.progress.recording import Flush
from eventstore.queries.deliveries import delivery_log
from eventstore.queries.deliveries.delivery_log import TOP
from eventstore.queries.events.field_search import SearchBounds
from eventstore.queries.metrics.route_health import HealthRow
from eventstore.route_log.sealed_secrets import Table
from eventstore.seals.stored import SealMark
from eventstore.sources.positions import MessageBatch, SourcePosition
from eventstore.sources.refusals import KeptRefusal
from tests.support.postgres.fault_proxy import fault_proxy
from tests.support.postgres.queries import Connect
from tests.support.rows.credentials import LOG_MACS, MACS
from tests.support.values.builders import NOON, ROUTE, draft, new_event
from tests.support.values.certificates import issue, pem, serving
from tests.support.values.deliveries import delivery, outcome


async def opened(url: str) -> None:
    database = Database(url, pool_size=1)
    try:
        await database.open()
    finally:
        await database.close()


@asynccontextmanager
async def server_that_answers(answer: bytes, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """A server that sends `answer` after the startup message of a client."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            (length,) = struct.unpack("!I", await reader.readexactly(4))
            if await reader.readexactly(length - 4) != struct.pack("!I", 80877103):
                break
            writer.write(b"N" if tls is None else b"S")
            if tls is not None:
                await writer.start_tls(tls)
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"postgresql://someone:s3cret@127.0.0.1:{server.sockets[0].getsockname()[1]}/name"
    finally:
        server.close()


def error_message(sqlstate: str, text: str) -> bytes:
    fields = b"".join(
        b"%s%s\0" % (kind, value.encode()) for kind, value in ((b"S", "FATAL"), (b"C", sqlstate), (b"M", text))
    )
    return b"E" + struct.pack("!I", len(fields) + 5) + fields + b"\0"


@pytest.mark.parametrize(("sqlstate", "expected"), [
    ("28P01", AccessRefused), ("28000", AccessRefused), ("3D000", AccessRefused), ("42501", AccessRefused),
    ("53300", StoreUnavailable), ("57P03", StoreUnavailable), ("57P01", StoreUnavailable), ("08006", StoreUnavailable),
    ("55000", AccessRefused), ("P0001", AccessRefused), ("XX000", AccessRefused), ("22023", AccessRefused),
])  # fmt: skip
async def test_what_the_server_says_at_the_door_has_a_meaning_and_a_hint(
    sqlstate: str, expected: type[StoreError]
) -> None:
    async with server_that_answers(error_message(sqlstate, "go away")) as url:
        with pytest.raises(StoreError) as refusal:
            await opened(url)
    assert type(refusal.value) is expected
    assert refusal.value.hint
    assert not refusal.value.hint.endswith(".")
    assert "s3cret" not in str(refusal.value) + refusal.value.hint


@pytest.mark.parametrize("sqlstate", ["08P01", "53200", "57P03", "58030", "55000"])
async def test_what_the_server_says_is_passed_on_to_the_operator(sqlstate: str) -> None:
    async with server_that_answers(error_message(sqlstate, "the reason")) as url:
        with pytest.raises(StoreUnavailable, match="the reason"):
            await opened(url)


async def test_a_line_that_is_missing_in_pg_hba_is_no_wrong_password() -> None:
    text = 'no pg_hba.conf entry for host "10.0.0.1", user "me", database "x", no encryption'
    async with server_that_answers(error_message("28000", text)) as url:
        with pytest.raises(AccessRefused, match=r"no line in its pg_hba\.conf") as refusal:
            await opened(url)
    assert "sslmode=require" in refusal.value.hint


async def test_a_server_without_tls_that_is_asked_for_it_is_told_from_one_that_is_down() -> None:
    async with server_that_answers(b"") as url:
        with pytest.raises(StoreUnavailable, match="takes no TLS") as refusal:
            await opened(f"{url}?sslmode=require")
    assert "sslmode" in refusal.value.hint


async def test_a_server_that_does_not_prove_who_it_is_is_told_from_one_that_is_down(tmp_path: Path) -> None:
    authority = issue("authority")
    (tmp_path / "authority").write_bytes(pem(authority))
    (tmp_path / "other").write_bytes(pem(issue("other")))
    tls = serving(issue("db.example", issuer=authority), tmp_path)
    async with server_that_answers(error_message("28P01", "come in"), tls=tls) as url:
        for parameters, message in {
            f"verify-full&sslrootcert={tmp_path}/authority": "does not prove who it is: IP address mismatch",
            f"verify-ca&sslrootcert={tmp_path}/other": "does not prove who it is: unable to get local issuer certificate",
        }.items():
            with pytest.raises(StoreUnavailable, match=message) as refusal:
                await opened(f"{url}?sslmode={parameters}")
            assert "sslrootcert" in refusal.value.hint
        with pytest.raises(AccessRefused, match="user or password"):
            await opened(f"{url}?sslmode=verify-ca&sslrootcert={tmp_path}/authority")


async def test_a_server_that_cannot_do_the_tls_asked_for_is_told_from_one_that_is_down() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        writer.write(b"S")
        await reader.read(1)
        writer.write(bytes.fromhex("15 03 01 00 02 02 46"))  # the alert protocol_version
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(StoreUnavailable, match=r"do not agree on TLS .*PROTOCOL_VERSION"):
            await opened(f"postgresql://127.0.0.1:{port}/x?sslmode=require")


@pytest.mark.parametrize(
    ("variable", "value", "says", "hint"),
    [
        ("PGSSLNEGOTIATION", "direct", "is not understood", "look also at PGSSLNEGOTIATION in the"),
        ("PGSSLMODE", "safe", "is not understood", "look also at PGSSLMODE in the"),
        ("PGTARGETSESSIONATTRS", "read-only", "not the one that target_session_attrs asks for", "PGTARGETSESSIONATTRS"),
    ],
)
async def test_a_variable_that_stands_in_the_way_is_named(
    database_url: str, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, says: str, hint: str
) -> None:
    """The driver takes from variables what a URL leaves out."""
    whole = urlsplit(database_url)
    query = urlencode([(name, each) for name, each in parse_qsl(whole.query) if name in ("host", "port")])
    monkeypatch.setenv(variable, value)
    with pytest.raises(StoreError) as refused:
        await Database(urlunsplit(whole._replace(query=query))).open()
    assert says in str(refused.value)
    assert hint in refused.value.hint


async def test_a_host_without_an_address_says_so() -> None:
    with pytest.raises(StoreUnavailable, match="its host has no address"):
        await opened("postgresql://no.such.host.invalid/x")


async def test_a_server_that_is_no_postgresql_is_an_outage() -> None:
    for answer in (b"HTTP/1.1 400 Bad Request\r\n\r\n", b"", b"\xff" * 100):
        async with server_that_answers(answer) as url:
            with pytest.raises(StoreUnavailable):
                await opened(url)


async def test_a_port_where_nobody_listens_is_an_outage() -> None:
    async with server_that_answers(b"") as url:
        pass
    with pytest.raises(StoreUnavailable) as outage:
        await opened(url)
    assert "127.0.0.1" in str(outage.value)
    assert "s3cret" not in str(outage.value)


async def test_a_database_that_does_not_exist_is_named(database_url: str, sql: asyncpg.Connection) -> None:
    name = await sql.fetchval("SELECT current_database()")
    with pytest.raises(AccessRefused, match=f"{name}x") as refusal:
        await opened(database_url.replace(name, f"{name}x"))
    assert "createdb" in refusal.value.hint


@pytest.mark.parametrize(
    "url",
    [
        "mysql://me:s3cret@localhost/x",
        "postgresql://me:s3/cret@localhost:5432/x",
        "postgresql://me:3/cret@localhost:5432/x",
        "postgresql://me:s3cret@host:port/x",
        "postgresql://me:s3@cret@host/x",
        "postgresql://me:s3?cret@host/x",
        "postgresql://me:s3#cret@host/x",
        "postgresql://me:p@ss/cret#1@host/x",
    ],
)
async def test_a_url_that_is_none_is_refused_without_quoting_it(url: str) -> None:
    with pytest.raises(StoreError) as refusal:
        await opened(url)
    told = f"{refusal.value} {refusal.value.hint} {refusal.value.__cause__}"
    assert "cret" not in told


@pytest.mark.parametrize(("url", "where"), [
    ("postgresql://me:pw@db.example:5433/shop", "db.example:5433/shop"), ("postgresql://me:pw@db/shop?sslmode=require", "db/shop"),
    ("postgresql:///shop?host=/tmp", "the local socket/shop"), ("postgresql://me:p@w@db/shop", "a malformed URL"), ("postgresql://a:1,b:2/x", "a:1, b:2/x"),
    ("postgresql://h:nope/x", "a malformed URL"), ("postgresql://[::1]:5432/x", "::1:5432/x"),
    ("postgresql:///x?host=a,b&port=1,2", "a:1, b:2/x"), ("postgresql://me:pw@/x?host=a,::1&port=5&user=me", "a:5, ::1:5/x"),
])  # fmt: skip
def test_a_place_names_host_port_and_database_only(url: str, where: str) -> None:
    assert location(url) == where


async def test_a_closed_pool_says_so(database_url: str) -> None:
    database = Database(database_url)
    with pytest.raises(StoreUnavailable, match="closed"):
        await ticks.make(database)
    await database.open()
    await database.close()
    await database.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await ticks.make(database)


async def test_a_server_that_loses_acknowledged_writes_is_unsafe(
    database: Database, database_url: str, sql: asyncpg.Connection
) -> None:
    await check_durability(database)
    await sql.execute(
        f'ALTER DATABASE "{await sql.fetchval("SELECT current_database()")}" SET synchronous_commit = off'
    )
    careless = Database(database_url, pool_size=1)
    await careless.open()
    with pytest.raises(UnsafeServer, match="synchronous_commit"):
        await check_durability(careless)
    await careless.close()


async def test_an_older_server_is_refused(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eventstore.postgres.connect.OLDEST_SERVER", 990000)
    database = Database(database_url)
    with pytest.raises(UnsafeServer, match="too old"):
        await database.open()
    with pytest.raises(StoreUnavailable, match="closed"):
        await ticks.make(database)


# --- transactions


@pytest.mark.parametrize("error", [ZeroDivisionError, asyncio.CancelledError, KeyboardInterrupt])
async def test_a_transaction_is_rolled_back_whatever_ends_it(database: Database, error: type[BaseException]) -> None:
    with pytest.raises(error):
        async with database.transaction() as connection:
            await route_log.append(connection, draft())
            raise error
    assert await route_log.last_position(database) == 0
    async with database.transaction() as connection:
        await route_log.append(connection, draft())
    assert await route_log.last_position(database) == 1


async def test_an_error_of_ours_passes_through_a_transaction_unchanged(database: Database) -> None:
    with pytest.raises(ValueRefused, match="mine"):
        async with database.transaction():
            raise ValueRefused("mine")


async def test_after_an_error_the_connection_is_as_good_as_new(database_url: str) -> None:
    single = Database(database_url, pool_size=1)
    await single.open()
    for statement in ("SELECT 1/0", "SELECT nothing", "BEGIN; SELECT 1/0", "BEGIN"):
        with pytest.raises(StoreError):
            async with single.connection() as connection:
                await connection.execute(statement)
                raise StoreError("was not an error")
        async with single.connection() as connection:
            assert not connection.is_in_transaction()
            assert await connection.fetchval("SELECT 1") == 1
    await single.close()


async def test_a_commit_that_fails_is_an_error(database: Database, sql: asyncpg.Connection) -> None:
    await sql.execute(
        "ALTER TABLE hookledger.route_key ADD CONSTRAINT late UNIQUE (sealed) DEFERRABLE INITIALLY DEFERRED"
    )
    with pytest.raises(StoreError, match="late"):
        async with database.transaction() as connection:
            for key in "ab":
                await connection.execute("INSERT INTO hookledger.route_key VALUES ($1, $2, 'same')", ROUTE, key)
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT count(*) FROM hookledger.route_key") == 0


# --- deadlines


async def test_a_statement_that_takes_too_long_is_cut_and_the_pool_goes_on(database: Database) -> None:
    with pytest.raises(StoreUnavailable, match="in time"):
        async with database.connection(seconds=0.1) as connection:
            await connection.execute("SELECT pg_sleep(60)")
    assert await ticks.newest(database) == 0


async def test_waiting_for_a_connection_counts(database_url: str) -> None:
    single = Database(database_url, pool_size=1)
    await single.open()
    async with single.connection():
        with pytest.raises(StoreUnavailable, match="in time"):
            async with single.connection(seconds=0.1):
                pass
    assert await ticks.newest(single) == 0
    await single.close()


async def test_being_cancelled_is_no_error_of_the_store(database: Database) -> None:
    started = asyncio.Event()

    async def use() -> None:
        async with database.connection() as connection:
            started.set()
            await connection.execute("SELECT pg_sleep(60)")

    task = asyncio.create_task(use())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await ticks.newest(database) == 0


async def test_a_frozen_server_is_given_up_in_time_and_used_again_once_it_thaws(
    database: Database, sql: asyncpg.Connection
) -> None:
    await asyncio.gather(*(domain_events.publish(database, [new_event()]) for _ in range(8)))
    pids = [
        row["pid"] for row in await sql.fetch("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
    ]
    name = await sql.fetchval("SELECT current_database()")
    if not all(is_backend_here(pid, name) for pid in pids):
        pytest.skip("the server's processes are not on this machine")
    postmaster = int(Path(f"/proc/{pids[0]}/stat").read_text().rpartition(")")[2].split()[1])
    under_way = asyncio.create_task(sleep_in_the_server(database))
    async with asyncio.timeout(10):
        while not await sql.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND datname = current_database()"
        ):
            await asyncio.sleep(0)
    try:
        for pid in (postmaster, *pids):
            os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        tasks = [
            under_way,
            *(asyncio.create_task(domain_events.publish(database, [new_event()])) for _ in range(12)),
            asyncio.create_task(route_log.last_position(database)),
        ]
        # There is no timeout around it: the server must be thawed, whatever hangs here.
        done, hanging = await asyncio.wait(tasks, timeout=20)
        took = time.monotonic() - began
    finally:
        for pid in (*pids, postmaster):
            os.kill(pid, signal.SIGCONT)
    assert not hanging
    assert {type(task.exception()) for task in done} == {StoreUnavailable}
    assert took < 6  # its deadline is 3 s; the machine may be busy with other tests
    assert await domain_events.publish(database, [new_event()]) == [True]
    await asyncio.gather(*(ticks.make(database) for _ in range(8)))


def is_backend_here(pid: int, database_name: str) -> bool:
    """Checked before a signal is sent: the pid of another machine may belong to any process here."""
    with suppress(OSError):
        return database_name in Path(f"/proc/{pid}/cmdline").read_text()
    return False


async def sleep_in_the_server(database: Database) -> None:
    async with database.connection() as connection:
        await connection.execute("SELECT pg_sleep(60)")


async def test_closing_a_pool_does_not_wait_for_a_silent_server(database_url: str) -> None:
    async with fault_proxy(database_url) as proxy:
        database = Database(proxy.url, pool_size=2)
        await database.open()
        proxy.stall()
        async with asyncio.timeout(2.5):
            await database.close()


async def test_a_cut_line_is_an_outage_until_it_is_mended(database_url: str) -> None:
    async with fault_proxy(database_url) as proxy:
        database = Database(proxy.url, pool_size=3)
        await database.open()
        await asyncio.gather(*(domain_events.publish(database, [new_event()]) for _ in range(3)))
        proxy.cut()
        for _ in range(4):
            with pytest.raises(StoreUnavailable):
                await ticks.make(database)
        with pytest.raises(StoreUnavailable):
            async with database.transaction():
                pass
        proxy.restore()
        assert await ticks.make(database) == 1
        await database.close()


async def test_a_transaction_whose_connection_is_killed_is_an_outage(
    database: Database, sql: asyncpg.Connection
) -> None:
    with pytest.raises(StoreUnavailable):
        async with database.transaction() as connection:
            await route_log.append(connection, draft())
            await sql.execute("SELECT pg_terminate_backend($1)", await connection.fetchval("SELECT pg_backend_pid()"))
            await connection.execute("SELECT 1")
    assert await route_log.last_position(database) == 0


# --- no error of the driver leaves


REPLAYED = replays.ReplayScope(
    route_id=ROUTE, tenant="acme", since=NOON, until=NOON, sendable_from=NOON, wanted="failed"
)
REPLAY = replays.Replay(
    id=ROUTE, route_id=ROUTE, tenant="acme", shard=0, wanted="failed", since=NOON, until=NOON, sendable_from=NOON, actor="me",
    reason=None, request_id=None, causation_id=None, created_at=NOON, ended_at=None, state="running", detail=None, total=1,
    scheduled=0, withdrawn=0, waiting=0, is_unscheduled=True,
)  # fmt: skip
HEALTH = HealthRow(
    route_id=ROUTE, tenant="acme", shard=0, epoch=1, state="ok", since=NOON, run_since=NOON, ill_since=None, failures=0,
    successes=1, failed_at=None, failed_status=None, failed_error=None, failed_event=None, failed_event_time=None,
    delivered_at=NOON, delivered_status=200, delivered_event="e", delivered_event_time=NOON,
)  # fmt: skip
POSITION = SourcePosition(id=1, topic="t", partition=0, next_offset=1)
REFUSAL = KeptRefusal(
    source="s", topic="t", partition=0, partition_id=1, offset=1, upto=None, at=NOON, reason="r", message_at=None, key=None,
    beginning=None, size_bytes=None,
)  # fmt: skip
AUDIT_JOB = AuditJob(
    id=ROUTE, tenant=None, since=None, until=None, actor="a", state="running", created_at=NOON, ended_at=None, events=0,
    reached=None, found=0, gaps="[]", detail=None, signature=None, findings_sha256="", is_lost=False, findings="[]",
)  # fmt: skip
ARGUMENTS: dict[str, object] = {
    "events": [new_event()], "event_id": "a", "recorded_ats": {1: NOON}, "start": NOON, "end": datetime.now(UTC), "tenant": None,
    "after_seq": 0, "limit": 1, "each": 1, "tick": 1, "before": "1:1:", "shards": [0], "owner": "me", "epochs": {0: 1}, "batch": Flush(),
    "number": 1, "shard": 0, "epoch": 1, "route_id": ROUTE, "closed_at": NOON, "in_flight": [], "route_version": 1, "held": [],
    "after": None, "above_tick": 0, "above": {0: 0}, "routes": [ROUTE], "first": 1, "last": 2, "value": "x", "request_id": "r", "seconds": 1.0,
    "holder": "me", "outcomes": [LateOutcome(outcome(delivery()), 0, None)],
    "process": Process(owner="me", host="here", pid=1, version="0", master_key=""),
    "link": PendingLink(tenant="acme", actor="a", role="view"),
    "token_id": "t", "count": 1, "link_hash": b"l", "session_hash": b"s", "created_by": "me", "life": timedelta(1), "master_key": "k",
    "new": NewToken(id="t", kind="admin", tenant=None, name="", hash=b"h" * 32, created_by="me", expires_at=None),
    "macs": MACS, "table": Table.KEYS, "stale": "x", "fresh": "y",
    "scope": delivery_log.ListScope(tenant="acme"), "begin": TOP, "rows": 1, "packed": 1, "outcome": None, "event_type": None, "since": NOON,
    "keys": [("acme", "e")], "tenants": ["acme"], "bounds": SearchBounds(rows=1, data_bytes=1, hits=1), "seq": 1, "event_time": NOON, "key": 1, "pairs": [(ROUTE, 1, NOON)], "for_at_least": timedelta(1),
    "replay_id": ROUTE, "replay_ids": [ROUTE], "replay": REPLAY, "detail": "d", "request": RetryRequest(actor="me", origin="here", request_id="r"),
    "name": "a.b", "characters": 10, "patterns": ["a.*"], "event_types": ["a.*"], "most": 1, "names": ["a.b"], "until": NOON, "route_ids": [ROUTE], "hours": 24,
    "event_ids": ["a"], "version": 1, "items": ["k"], "dead": Missed("me", 1, NOON),
    "known_tick": 1, "known_pos": 1, "timeline": 1, "ticks": (1, 2), "positions": (1, 2), "found_by": "me",
    "log": "attempt", "read": 0, "microseconds": 0, "mark": LogMark(), "at": NOON, "upto": 1, "versions": [(ROUTE, 1)],
    "numbers": [1], "restored": 0, "restored_tick": 0, "newest": SealMark(), "origin": "hookledger/a/1", "job_id": ROUTE, "job": AUDIT_JOB, "progress": AuditProgress(), "ended": AuditEnd(state="done"), "sign": lambda _: b"", "chosen": [1],
    "source": "s", "topics": ["t"], "position": POSITION, "offset": 1, "reason": "r", "fault": "f", "partition_ids": [1], "log_ends": {1: 2},
    "refusal": REFUSAL, "event": None, "recorded_at": NOON,
    "request_ids": ["r"], "needles": [b"x"], "event_name": "a.b",
}  # fmt: skip
OTHERWISE: dict[str, object] = {
    "macs.pages.table": CredentialTable.SESSION,
    "audit_jobs.add.new": NewAuditJob(id=ROUTE, tenant=None, since=None, until=None, actor="a"),
    "log_marks.wrong_ticks.after": 0,
    "recording.flush.macs": LOG_MACS,
    "recording.suppress.macs": LOG_MACS,
    "late_outcomes.write.macs": LOG_MACS,
    "retention.sweep.macs": LOG_MACS,
    "catalogue.replace.types": [TypeRow(name="a.b", description="", example="{}")],
    "catalogue.add_missing.types": [TypeRow(name="a.b", description="", example="{}")],
    "catalogue.note_seen.types": ["a.b"],
    "listing.listed.begin": (NOON, 1),
    "listing.of_names.begin": (NOON, 1),
    "replays.count.scope": REPLAYED,
    "route_health.write.rows": [HEALTH],
    "undecided.marks.tenant": "acme",
    "replays.begin.scope": REPLAYED,
    "sealed_secrets.exchange.stale": [],
    "sealed_secrets.exchange.fresh": [],
    "positions.begin.begins": {("t", 0): 1},
    "positions.take.batch": MessageBatch(partition_id=1, begin=0, end=1),
    "positions.pass_gap.end": 2,
    "tail.read_cut.tick": Tick(tick=1, snap="1:1:", at=NOON, route_pos=0, closed_upto=NOON, touched=None),
}


def functions_of_a_database() -> list[tuple[str, Callable[..., object]]]:
    found = []
    for module in walk_packages(eventstore.__path__, "eventstore."):
        contents = import_module(module.name)
        for name, function in vars(contents).items():
            if not (iscoroutinefunction(function) or isasyncgenfunction(function)) or name.startswith("_"):
                continue
            is_of_a_database = next(iter(signature(function).parameters), "") == "database"
            if is_of_a_database and function.__module__ == contents.__name__:
                found.append((f"{module.name.rpartition('.')[2]}.{name}", function))
    return found


async def called(name: str, function: Callable[..., object], database: Database) -> None:
    _, *parameters = signature(function).parameters.values()
    needed = [p.name for p in parameters if p.default is Parameter.empty]
    known = ARGUMENTS | {need: OTHERWISE[f"{name}.{need}"] for need in needed if f"{name}.{need}" in OTHERWISE}
    arguments = {need: known[need] for need in needed}
    result: Any = function(database, **arguments)
    if isasyncgenfunction(function):
        async for _ in result:
            pass
    else:
        await result


def test_a_standby_says_that_it_is_read_only_and_what_to_do() -> None:
    refusal = Standby("db-2:5432/app")
    assert str(refusal) == "PostgreSQL at db-2:5432/app is a standby, and so read-only"
    assert refusal.hint.startswith("let database.url lead to the primary, or name all servers in it: ")


async def test_every_function_of_a_database_that_went_away_says_store_unavailable(database_url: str) -> None:
    functions = functions_of_a_database()
    assert len(functions) > 25
    async with fault_proxy(database_url) as proxy:
        database = Database(proxy.url, pool_size=1)
        await database.open()
        proxy.cut()
        for name, function in functions:
            with pytest.raises(StoreUnavailable):
                await called(name, function, database)
                pytest.fail(f"{name} raised nothing")
        await database.close()


async def test_every_function_of_a_database_without_a_schema_raises_an_error_of_ours(empty_database_url: str) -> None:
    database = Database(empty_database_url, pool_size=1)
    await database.open()
    for name, function in functions_of_a_database():
        if name not in {"schema.plan", "schema.migrate", "connect.check_durability"}:
            with pytest.raises(SchemaMismatch):
                await called(name, function, database)
                pytest.fail(f"{name} raised nothing")
    await database.close()


async def test_a_statement_that_the_driver_refuses_is_no_outage(database: Database) -> None:
    with pytest.raises(StoreError) as refusal:
        async with database.connection() as connection:
            await connection.fetch("SELECT $1::integer", 1, 2)
    assert not isinstance(refusal.value, StoreUnavailable)
    with pytest.raises(ValueRefused):
        async with database.connection() as connection:
            await connection.fetch("SELECT $1::integer", "one")


# Who owns the database may set defaults for its sessions. Here: what hides rows, shadows a function, or an operator.
DEFAULTS_OF_OTHERS = {
    "search_path": ("trap, pg_catalog", "SELECT encode(sha256('x'), 'hex')", "2d711642b726b04401627ca9fbac32f5"),
    "transform_null_equals": ("on", "SELECT coalesce((NULL::text = NULL)::text, 'unknown')", "unknown"),
    "constraint_exclusion": ("on", "SHOW constraint_exclusion", "partition"),
    "row_security": ("on", "SHOW row_security", "off"),
    "datestyle": ("'SQL, DMY'", "SELECT '2026-11-30'::date::text", "2026-11-30"),
    "standard_conforming_strings": ("off", r"SELECT '\x'", r"\x"),
    "quote_all_identifiers": ("on", "SELECT 'pg_class'::regclass::text", "pg_class"),
}


@pytest.mark.parametrize("name", DEFAULTS_OF_OTHERS)
async def test_no_default_of_the_database_changes_what_our_statements_mean(
    database_url: str, sql: asyncpg.Connection, name: str
) -> None:
    await sql.execute(
        "CREATE SCHEMA trap; "
        "CREATE FUNCTION trap.sha256(bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT '\\x00'::bytea $$"
    )
    value, statement, expected = DEFAULTS_OF_OTHERS[name]
    await sql.execute(f'ALTER DATABASE "{await sql.fetchval("SELECT current_database()")}" SET {name} = {value}')
    database = Database(database_url, pool_size=1)
    await database.open()
    async with database.connection() as connection:
        found = str(await connection.fetchval(statement))
    await database.close()
    assert found.startswith(expected)


@pytest.mark.parametrize("name", [*DEFAULTS_OF_OTHERS, "session_replication_role"])
async def test_no_trigger_at_a_login_changes_what_our_statements_mean(
    database_url: str, sql: asyncpg.Connection, name: str
) -> None:
    if sql.get_server_version().major < 17:
        pytest.skip("this PostgreSQL has no triggers that fire at a login")
    value, statement, expected = (
        DEFAULTS_OF_OTHERS | {"session_replication_role": ("replica", "SHOW session_replication_role", "origin")}
    )[name]
    await sql.execute(
        "CREATE SCHEMA trap; "
        "CREATE FUNCTION trap.sha256(bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT '\\x00'::bytea $$; "
        f"CREATE FUNCTION trap.set() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN SET {name} = {value}; END $$; "
        "CREATE EVENT TRIGGER springs ON login EXECUTE FUNCTION trap.set()"
    )
    database = Database(database_url, pool_size=1)
    await database.open()
    async with database.connection() as connection:
        found = str(await connection.fetchval(statement))
    await database.close()
    assert found.startswith(expected)


# The administrator guards the server against long transactions and idle sessions; ours have limits of their own.
TIMEOUTS_OF_OTHERS = {"transaction_timeout": "50ms", "idle_session_timeout": "50ms", "statement_timeout": "50ms"}


@pytest.mark.parametrize("name", TIMEOUTS_OF_OTHERS)
async def test_no_timeout_of_the_database_ends_our_sessions_and_transactions(
    database_url: str, sql: asyncpg.Connection, name: str
) -> None:
    if await sql.fetchval("SELECT current_setting($1, true)", name) is None:
        pytest.skip(f"this PostgreSQL has no {name}")
    own = await sql.fetchval("SELECT quote_ident(current_database())")
    await sql.execute(f"ALTER DATABASE {own} SET {name} = '{TIMEOUTS_OF_OTHERS[name]}'")
    database = Database(database_url, pool_size=1)
    await database.open()
    async with database.transaction() as connection:
        await connection.execute("SELECT pg_sleep(0.1)")
    await sql.execute("SELECT pg_sleep(0.1)")  # longer than a session might be idle
    async with database.connection() as connection:
        assert await connection.fetchval("SELECT pg_backend_pid()") == connection.get_server_pid()
        assert await connection.fetchval(f"SHOW {name}") in {"0", "1min"}
    await database.close()


async def test_rows_that_a_policy_would_hide_make_a_statement_fail(database: Database, sql: asyncpg.Connection) -> None:
    await sql.execute(
        "CREATE ROLE hookledger_test_bound; CREATE TABLE public.bound (a int); GRANT ALL ON public.bound TO PUBLIC; "
        "ALTER TABLE public.bound ENABLE ROW LEVEL SECURITY; CREATE POLICY none ON public.bound USING (false)"
    )
    try:
        with pytest.raises(StoreError, match="row-level security"):
            async with database.transaction() as connection:
                await connection.execute("SET LOCAL ROLE hookledger_test_bound")
                await connection.fetch("SELECT * FROM public.bound")
    finally:
        await sql.execute("DROP TABLE public.bound; DROP ROLE hookledger_test_bound")


@pytest.mark.parametrize(
    "sqlstate",
    [
        "54000",  # no transaction ids are left
        "55000", "55006",
        "72000",
        "XX000", "XX001", "XX002",  # a page or an index is broken
    ],
)  # fmt: skip
async def test_what_another_time_or_a_person_may_mend_is_an_outage_that_says_what(
    database: Database, sqlstate: str
) -> None:
    with pytest.raises(StoreUnavailable, match="the reason") as outage:
        async with database.connection() as connection:
            await connection.execute(f"DO $$ BEGIN RAISE EXCEPTION 'the reason' USING ERRCODE = '{sqlstate}'; END $$")
    assert outage.value.hint


async def test_a_statement_whose_table_was_changed_meanwhile_is_tried_again(
    database: Database, sql: asyncpg.Connection
) -> None:
    await sql.execute("CREATE TABLE own (one integer)")
    with pytest.raises(StoreUnavailable):
        async with database.transaction() as connection:
            await connection.fetch("SELECT * FROM public.own")
            await connection.execute("ALTER TABLE public.own ADD COLUMN two integer")
            await connection.fetch("SELECT * FROM public.own")


async def test_rows_of_a_default_partition_are_not_taken_for_a_day_that_is_missing(
    database: Database, sql: asyncpg.Connection
) -> None:
    await sql.execute("CREATE TABLE hookledger.others PARTITION OF hookledger.domain_event DEFAULT")
    await sql.execute(
        "INSERT INTO hookledger.domain_event (tenant, id, type, data, recorded_at) "
        "VALUES ('acme', '1', 'order.create', '{}', '2020-01-01 12:00:00+00')"
    )
    with pytest.raises(StoreUnavailable, match='default partition "others"'):
        async with database.transaction() as connection:
            await connection.fetchval("SELECT hookledger.ensure_partitions('2020-01-01', '2020-01-01')")


async def test_a_deadlock_is_an_outage_since_the_next_time_may_do(database: Database, connect: Connect) -> None:
    other = await connect()
    await other.execute("BEGIN; SET deadlock_timeout = '1h'; SELECT pg_advisory_xact_lock(1)")
    with pytest.raises(StoreUnavailable):
        async with database.transaction() as connection:
            await connection.execute("SET LOCAL deadlock_timeout = '10ms'; SELECT pg_advisory_xact_lock(2)")
            waiting = asyncio.create_task(other.execute("SELECT pg_advisory_xact_lock(2)"))
            await connection.execute("SELECT pg_advisory_xact_lock(1)")
    await waiting


def test_what_is_none_of_the_drivers_errors_is_left_as_it_is() -> None:
    error = ZeroDivisionError()
    assert translated(error, "postgresql:///x") is error


@pytest.mark.parametrize("ends", [asyncio.CancelledError, asyncpg.AdminShutdownError])
async def test_what_ends_the_use_of_a_connection_is_told_also_if_it_is_lost_in_the_same_moment(
    database_url: str, ends: type[BaseException]
) -> None:
    database = Database(database_url, pool_size=1)
    await database.open()

    async def use() -> None:
        async with database.connection() as connection:
            connection.terminate()  # what the driver does when the server is gone: the pool has it back at once
            raise ends

    async with asyncio.timeout(10):
        (found,) = await asyncio.gather(asyncio.create_task(use()), return_exceptions=True)
    assert type(found) is (StoreUnavailable if ends is asyncpg.AdminShutdownError else ends)
    assert found is not None
    assert "InterfaceError" not in str(found)
    await database.close()


@pytest.mark.parametrize("is_cancelled", [True, False])
async def test_a_rollback_that_fails_does_not_take_the_place_of_a_cancel(
    database: Database, is_cancelled: bool
) -> None:
    """Who is cancelled while PostgreSQL goes away, as when a machine is shut down, must end. A deadline is an outage."""
    entered = asyncio.Event()

    async def use() -> None:
        async with database.connection(seconds=60 if is_cancelled else 0.2) as connection, connection.transaction():
            entered.set()
            try:
                await asyncio.sleep(60)
            finally:
                connection.terminate()

    using = asyncio.create_task(use())
    await entered.wait()
    if is_cancelled:
        using.cancel()
    with pytest.raises(asyncio.CancelledError if is_cancelled else StoreUnavailable):
        await using


async def test_while_it_rests_its_uses_take_turns_on_a_new_connection(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "TURN_SECONDS", 30.0)
    pids: list[int] = []

    async def use() -> None:
        async with database.connection() as connection:
            pids.append(int(await connection.fetchval("SELECT pg_backend_pid() FROM pg_sleep(0.01)")))

    await use()
    await database.rest()
    await asyncio.gather(*(use() for _ in range(3)))
    assert len(set(pids[1:])) == 1
    assert pids[0] not in pids[1:]
    with pytest.raises(StoreUnavailable):
        async with database.connection(), database.connection(seconds=0.05):
            raise AssertionError("the second use waits for the first one")
    await use()
    assert pids[-1] == pids[1], "a wait that was given up keeps no turn"
    database.wake()
    async with database.connection() as first, database.connection() as second:
        assert first.get_server_pid() != second.get_server_pid()


async def test_a_use_does_not_wait_for_its_turn_for_long(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect, "TURN_SECONDS", 0.01)
    await database.rest()
    async with database.connection() as first, database.connection() as second:
        assert first.get_server_pid() != second.get_server_pid()
    monkeypatch.setattr(connect, "TURN_SECONDS", 30.0)
    async with database.connection(seconds=10) as third:  # nobody has kept a turn
        assert await third.fetchval("SELECT 1") == 1
