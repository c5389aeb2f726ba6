"""A history is sealed, and then changed in one place by somebody with the database: the audit finds each change.

The history is made by a pipeline: routes, edits, a rotated key, headers, a deleted route, deliveries, failures and
retries, over several seals. Each kind of change is made in each column, in the oldest, a middle and the newest row.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import asyncpg
import pytest
import pytest_asyncio

from daemon.commands import Context
from daemon.core.routing.route import Route
from daemon.deliveries import replays
from daemon.deliveries.replays import ReplayPeriod, ReplayStatus
from daemon.sealing.sealer import Sealed
from eventstore.access import tokens
from eventstore.access.tokens import NewToken
from eventstore.domain_events import lost_log
from eventstore.postgres.connect import Database
from eventstore.progress import manual_retry
from eventstore.progress.manual_retry import RetryRequest
from eventstore.progress.replays import Replay
from eventstore.sources import positions
from eventstore.sources.positions import MessageBatch
from tests.support.audit.seals import VAULT, Attacker, anchors_of, audited, seal
from tests.support.pipeline.process import CONTEXT, PipelineProcess, pipeline_process
from tests.support.postgres.databases import of_database, temporary_database
from tests.support.receivers.receiver import Receiver, gate, receiver, status
from tests.support.rows.credentials import LOG_MACS
from tests.support.values.builders import new_event

pytestmark = pytest.mark.asyncio(loop_scope="session")

# For each table whose rows are covered: what tells a row, and another value for each column.
ROWS = {
    "domain_event": ("seq", {
        "seq": "seq + 1000000", "recorded_at": "recorded_at - interval '1 microsecond'", "tenant": "'other'", "id": "id || 'x'",
        "type": "'order.other'", "occurred_at": "recorded_at - interval '1 minute'", "data": "data || ' '", "context": "'{}'::bytea",
        "snapshot": "'{}'::bytea", "backfill": "NOT backfill", "test_route": "gen_random_uuid()", "hops": "3",
        "tick": "999", "txid": "'0'::xid8", "sealed_tick": "999",
        "source_partition": "coalesce(source_partition, 0) + 1", "source_offset": "coalesce(source_offset, 0) + 1",
    }),
    "attempt": ("at", {
        "at": "at + interval '1 microsecond'", "seq": "seq + 1", "tick": "tick + 1", "route_id": "gen_random_uuid()",
        "event_time": "event_time - interval '1 microsecond'", "started_at": "started_at - interval '1 second'", "shard": "(shard + 1) % 16",
        "status_code": "coalesce(status_code, 0) + 1", "number": "number + 1", "duration_ms": "duration_ms + 1",
        "route_version": "route_version + 1", "is_test": "NOT is_test", "outcome": "CASE outcome WHEN 'delivered' THEN 'failed' ELSE 'delivered' END",
        "error": "coalesce(error, '') || 'x'", "tenant": "'other'", "event_id": "event_id || 'x'", "event_type": "'order.other'",
        "key_ids": "coalesce(key_ids, '') || 'x'", "response_head": "coalesce(response_head, '') || ' '",
        "response_body": "coalesce(response_body, ''::bytea) || 'x'::bytea", "delivery_key": "coalesce(delivery_key, 0) # 1",
        "txid": "0", "seal": "1", "sealed_tick": "tick + 1",
    }),
    "tick": ("tick", {
        "tick": "tick + 1000000", "snap": "format('1:%s:', pg_snapshot_xmax(snap))::pg_snapshot", "at": "at + interval '1 s'",
        "route_pos": "route_pos + 1", "closed_upto": "closed_upto + interval '1 s'", "sealed_snap": "'1:1:'",
        "touched": "coalesce(touched, 0) # 1",
    }),
    "route_event": ("pos", {
        "pos": "pos + 1000", "route_id": "gen_random_uuid()", "tenant": "'other'", "version": "version + 100", "type": "'enabled'",
        "effective_at": "effective_at + interval '1 microsecond'", "actor": "'other'", "origin": "'other'", "reason": "'other'",
        "request_id": "'other'", "correlation_id": "'other'", "causation_id": "'other'", "body": "body || ' '",
        "prev_hash": "'\\x00'::bytea", "hash": "sha256(hash)",
    }),
    "route_event_signature": ("pos", {"pos": "pos + 1000", "signature": "sha256(signature) || sha256(signature)"}),
    "route_key": ("key_id", {"route_id": "gen_random_uuid()", "key_id": "key_id || 'x'", "created_at": "created_at - interval '1 s'"}),
    "route_headers": ("headers_id", {"route_id": "gen_random_uuid()", "headers_id": "headers_id || 'x'", "created_at": "created_at - interval '1 s'"}),
    "seal": ("n", {
        "n": "n + 1000", "at": "at + interval '1 microsecond'", "origin": "origin || 'x'", "snap": "format('1:%s:', pg_snapshot_xmax(snap))::pg_snapshot",
        "tick": "tick + 1", "tick_snap": "'1:2:'::pg_snapshot", "route_pos": "route_pos + 1", "route_hash": "sha256(route_hash)",
        "event_days": "event_days || date '2000-01-01'", "event_rows": "event_rows || 1::bigint", "event_roots": "event_roots || 'x'::bytea",
        "attempt_days": "attempt_days || date '2000-01-01'", "attempt_rows": "attempt_rows || 1::bigint", "attempt_roots": "attempt_roots || 'x'::bytea",
        "ticks": "ticks + 1", "ticks_root": "sha256(ticks_root)", "keys": "keys + 1", "keys_root": "sha256(keys_root)", "signatures": "signatures + 1",
        "checkpoints": "checkpoints || 1::bigint", "events_kept_from": "at - interval '1 day'", "attempts_kept_from": "at - interval '1 day'",
        "public_key": "sha256(public_key)", "prev_hash": "sha256(prev_hash)", "hash": "sha256(hash)", "signature": "sha256(signature) || sha256(signature)",
        "resends": "NULL", "replays": "coalesce(replays, '') || ' '", "replay_ends": "'2026-11-23 1 ' || repeat('0', 64)", "losses": "'x'",
        "tokens": "coalesce(tokens, '') || ','", "token_ends": "NULL",
    }),
    "resend": ("id", {
        "id": "DEFAULT", "at": "at - interval '1 microsecond'", "route_id": "gen_random_uuid()", "seq": "seq + 1000", "actor": "'mallory'",
        "origin": "'elsewhere'", "reason": "'because'", "request_id": "gen_random_uuid()::text", "causation_id": "'other'",
        "txid": "0", "seal": "1",
    }),
    "replay": ("created_at", {
        "id": "gen_random_uuid()", "route_id": "gen_random_uuid()", "tenant": "'other'", "wanted": "CASE wanted WHEN 'all' THEN 'failed' ELSE 'all' END",
        "since": "since + interval '1 s'", "until": "until - interval '1 s'", "sendable_from": "sendable_from - interval '1 s'",
        "actor": "'mallory'", "origin": "'elsewhere'", "reason": "'because'", "request_id": "'other'", "causation_id": "'other'",
        "created_at": "created_at - interval '1 microsecond'", "ended_at": "ended_at + interval '1 s'", "state": "'running'",
        "detail": "'cancelled by mallory'", "total": "total + 1", "scheduled": "scheduled + 1", "withdrawn": "withdrawn + 1",
        "txid": "0", "seal": "1", "ended_txid": "NULL", "ended_seal": "1",
    }),
    "lost_log": ("last_tick", {
        "timeline": "timeline + 1", "first_tick": "first_tick - 1", "last_tick": "last_tick + 5", "first_pos": "first_pos + 1",
        "last_pos": "last_pos + 1", "since": "now()", "until": "until - interval '1 s'", "found_by": "'other'", "txid": "0", "seal": "1",
    }),
    "api_token": ("id", {
        "id": "id || 'x'", "kind": "CASE kind WHEN 'admin' THEN 'producer' ELSE 'admin' END", "tenant": "'other'", "name": "'mallory'",
        "hash": "sha256(hash)", "created_at": "created_at - interval '1 s'", "created_by": "'mallory'",
        "expires_at": "coalesce(expires_at, now()) + interval '1 day'", "revoked_at": "CASE WHEN revoked_at IS NULL THEN now() END",
        "txid": "0", "seal": "1", "revoked_txid": "CASE WHEN revoked_txid IS NULL THEN 1 END", "revoked_seal": "1",
    }),
}  # fmt: skip
PLACES = {"the oldest": "count(*) * 0", "a middle": "count(*) / 2", "the newest": "count(*) - 1"}


def _row(table: str, key: str, place: str) -> str:
    """A condition that holds for one row alone."""
    return (
        f"({key} = (SELECT {key} FROM hookledger.{table} ORDER BY {key} "
        f"OFFSET (SELECT {PLACES[place]} FROM hookledger.{table}) LIMIT 1))"
    )


UPDATES = {
    f"{column} of {place} {table}": f"UPDATE hookledger.{table} SET {column} = {value} WHERE {_row(table, key, place)}"
    for table, (key, columns) in ROWS.items()
    for column, value in columns.items()
    for place in PLACES
}
DELETIONS = {
    f"{place} {table} deleted": f"DELETE FROM hookledger.{table} WHERE {_row(table, key, place)}"
    for table, (key, _) in ROWS.items()
    for place in PLACES
}


def _copied(table: str, place: str, **changed: str) -> str:
    """Inserts a copy of a row with other values in some columns."""
    key, columns = ROWS[table]
    names = [*columns, *({"route_key": ["sealed"], "route_headers": ["sealed"]}.get(table, []))]
    values = [changed.get(name, name) for name in names]
    return (
        f"INSERT INTO hookledger.{table} ({', '.join(names)}) OVERRIDING SYSTEM VALUE SELECT {', '.join(values)} "
        f"FROM hookledger.{table} WHERE {_row(table, key, place)}"
    )


def _swapped(table: str, column: str, key: str) -> str:
    """Exchanges the values of a column between the first two rows in which they differ."""
    return f"""
        WITH pair AS (SELECT a.{key} AS one, b.{key} AS two, a.{column} AS of_one, b.{column} AS of_two
                        FROM hookledger.{table} a JOIN hookledger.{table} b ON a.{key} < b.{key}
                         AND a.{column} IS DISTINCT FROM b.{column} ORDER BY 1, 2 LIMIT 1)
        UPDATE hookledger.{table} t SET {column} = CASE WHEN t.{key} = pair.one THEN pair.of_two ELSE pair.of_one END
          FROM pair WHERE t.{key} IN (pair.one, pair.two)"""


OTHERS = {
    **{
        f"an event inserted beside {place}": _copied("domain_event", place, seq="seq + 500000", id="id || 'x'")
        for place in PLACES
    },
    **{f"an outcome inserted beside {place}": _copied("attempt", place, number="number + 1") for place in PLACES},
    **{f"an outcome doubled beside {place}": _copied("attempt", place) for place in PLACES},
    **{
        f"a manual retry inserted beside {place}": _copied("resend", place, id="id + 1000", request_id="NULL")
        for place in PLACES
    },
    **{
        f"a replay inserted beside {place}": _copied("replay", place, id="gen_random_uuid()", request_id="NULL")
        for place in PLACES
    },
    "a loss inserted": _copied("lost_log", "the oldest", last_tick="last_tick + 7"),
    **{
        f"{column}s of manual retries swapped": _swapped("resend", column, "id")
        for column in ("actor", "reason", "seq", "at")
    },
    **{
        f"{column}s of replays swapped": _swapped("replay", column, "created_at")
        for column in ("actor", "reason", "wanted", "total", "state", "detail", "scheduled", "ended_at")
    },
    **{
        f"{column}s of tokens swapped": _swapped("api_token", column, "id")
        for column in ("kind", "name", "created_at", "revoked_at")
    },
    "a token inserted": _copied("api_token", "the oldest", id="'d4'"),
    "a token that is valid again": "UPDATE hookledger.api_token SET revoked_at = NULL, revoked_txid = NULL WHERE id = 'b2'",
    "a token revoked earlier": "UPDATE hookledger.api_token SET revoked_at = revoked_at - interval '1 s' WHERE id = 'b2'",
    "a token from before Christ": "UPDATE hookledger.api_token SET expires_at = '0044-03-15 BC'",
    "all manual retries deleted": "DELETE FROM hookledger.resend",
    "all replays deleted": "DELETE FROM hookledger.replay",
    "a manual retry at no time": f"UPDATE hookledger.resend SET at = 'infinity' WHERE {_row('resend', 'id', 'a middle')}",
    "a manual retry from before Christ": f"UPDATE hookledger.resend SET at = '0044-03-15 BC' WHERE {_row('resend', 'id', 'a middle')}",
    "a replay until before Christ": f"UPDATE hookledger.replay SET until = '0044-03-15 BC' WHERE {_row('replay', 'created_at', 'a middle')}",
    "a loss from before Christ": "UPDATE hookledger.lost_log SET since = '0044-03-15 BC'",
    "all manual retries said to be of before seals covered them": (
        "WITH gone AS (DELETE FROM hookledger.resend) UPDATE hookledger.seal SET resends = NULL, replays = NULL, replay_ends = NULL, "
        "losses = NULL, tokens = NULL, token_ends = NULL"
    ),
    "a tick of no number": _copied("tick", "the oldest", tick="0").replace("snap, ", "snap, ", 1),
    "a key inserted": _copied("route_key", "the oldest", key_id="'key_other'"),
    "headers inserted": _copied("route_headers", "the oldest", headers_id="'hdr_other'"),
    "a seal inserted before the first": _copied("seal", "the oldest", n="0"),
    "a seal forged behind the newest": _copied("seal", "the newest", n="n + 1", prev_hash="hash", hash="sha256(hash)"),
    "a signature of nothing": _copied("route_event_signature", "the newest", pos="pos + 500"),
    "offsets of messages swapped": _swapped("domain_event", "source_offset", "seq"),
    "the partition of messages called by another topic": "UPDATE hookledger.source_partition SET topic = 'other'",
    "the partition of messages deleted": "DELETE FROM hookledger.source_partition",
    "payloads of events swapped": _swapped("domain_event", "data", "seq"),
    "tenants of events swapped": _swapped("domain_event", "tenant", "seq"),
    "types of events swapped": _swapped("domain_event", "type", "seq"),
    "outcomes swapped": _swapped("attempt", "outcome", "at"),
    "durations swapped": _swapped("attempt", "duration_ms", "at"),
    "times of ticks swapped": _swapped("tick", "at", "tick"),
    "hashes of seals swapped": _swapped("seal", "hash", "n"),
    "signatures of seals swapped": _swapped("seal", "signature", "n"),
    "signatures of lifecycle events swapped": _swapped("route_event_signature", "signature", "pos"),
    "all seals from the second on deleted": "DELETE FROM hookledger.seal WHERE n > 1",
    "all seals deleted": "DELETE FROM hookledger.seal",
    "all signatures deleted": "DELETE FROM hookledger.route_event_signature",
    "the end of the route log deleted": "DELETE FROM hookledger.route_event WHERE pos > 3",
    "a checkpoint put back": "UPDATE hookledger.checkpoint SET tick = 0 WHERE shard = 3",
    "a checkpoint deleted": "DELETE FROM hookledger.checkpoint WHERE shard = 3",
    "events said to be dropped later than they can be": (
        "INSERT INTO hookledger.meta VALUES ('events_kept_from', (clock_timestamp() + interval '1 day')::text)"
    ),
    "outcomes said to be dropped later than they can be": (
        "INSERT INTO hookledger.meta VALUES ('attempts_kept_from', (clock_timestamp() + interval '1 day')::text)"
    ),
    **{
        f"{place} event read by an earlier tick than it was sealed under": (
            "UPDATE hookledger.domain_event SET sealed_tick = hookledger.tick_of(txid), tick = 1, txid = '0'::xid8 "
            f"WHERE {_row('domain_event', 'seq', place)}"
        )
        for place in PLACES
    },
    **{
        f"{place} event read by a later tick than it was sealed under": (
            "UPDATE hookledger.domain_event SET sealed_tick = hookledger.tick_of(txid), "
            "tick = (SELECT max(tick) FROM hookledger.tick), txid = '0'::xid8 "
            f"WHERE {_row('domain_event', 'seq', place)}"
        )
        for place in PLACES
    },
    **{
        f"{place} outcome of another tick than it was sealed with": (
            f"UPDATE hookledger.attempt SET sealed_tick = tick, tick = tick + 1 WHERE {_row('attempt', 'at', place)}"
        )
        for place in PLACES
    },
    "a seal from before Christ": "UPDATE hookledger.seal SET at = '0044-03-15 BC' WHERE n = 2",
    "a seal of no time": "UPDATE hookledger.seal SET at = 'infinity' WHERE n = 2",
    "a seal of a day before Christ": "UPDATE hookledger.seal SET event_days[1] = '0044-03-15 BC' WHERE n = 2",
    "a seal of no day": "UPDATE hookledger.seal SET event_days[1] = NULL, event_rows[1] = NULL, event_roots[1] = NULL WHERE n = 2",
    "a key from before Christ": "UPDATE hookledger.route_key SET created_at = '0044-03-15 BC'",
    "a tick of no time": "UPDATE hookledger.tick SET closed_upto = 'infinity' WHERE tick = 2",
    "an outcome from before Christ": f"UPDATE hookledger.attempt SET started_at = '0044-03-15 BC' WHERE {_row('attempt', 'at', 'a middle')}",
    "the log called by another name": "UPDATE hookledger.meta SET value = 'other' WHERE key = 'log_id'",
}
# Each column of each table is in ROWS, but for those that are computed from it, and secrets, which open or do not.
NOT_SEALED = {
    ("domain_event", "shard"),
    ("tick", "snap_xmax"),
    ("route_key", "sealed"),
    ("route_headers", "sealed"),
    ("replay", "shard"),
    ("api_token", "last_used_at"),
    ("api_token", "mac"),
    ("attempt", "mac"),
    ("resend", "mac"),
    ("replay", "mac"),
}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def history(
    postgres_url: str, administrator: asyncpg.Connection, small_template_database: str
) -> AsyncIterator[tuple[Database, Attacker, list[Sealed]]]:
    """A database with a sealed history, somebody who tampers with it, and its seals."""
    async with temporary_database(administrator, "sealed", template=small_template_database) as name:
        url = of_database(postgres_url, name)
        seals = await _history(url)
        database, sql = Database(url, pool_size=4), await asyncpg.connect(url)
        await database.open()
        attacker = Attacker(sql)
        await attacker.remember()
        yield database, attacker, seals
        sql.terminate()
        await database.close()


async def take_messages(database: Database, count: int) -> None:
    """Stores events that are messages of a source; no route gets them."""
    await positions.begin(database, "shop", {("orders", 0): 0})
    ((_, position),) = (await positions.read(database, "shop", ["orders"])).items()
    events = [new_event(id=f"m{offset}", tenant="globex") for offset in range(count)]
    batch = MessageBatch(partition_id=position.id, begin=0, end=count, events=events, offsets=list(range(count)))
    assert await positions.take(database, batch) is not None


LONG_AGO, NEVER = datetime(2020, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


async def _send_again(it: PipelineProcess, there: Receiver, route: Route) -> None:
    """Has deliveries sent again by hand and by replays, of which one is done and one cancelled."""
    rows = await it.rows("SELECT seq FROM hookledger.attempt WHERE route_id = $1 ORDER BY seq", route.id)
    seqs = [row["seq"] for row in rows]
    for number, actor in enumerate(("anna", "ben", "anna")):
        request = RetryRequest(actor=actor, origin="api", reason=f"for {number}", request_id=f"retry-{number}")
        await manual_retry.retry(it.database, route_id=route.id, seq=seqs[number], request=request, macs=LOG_MACS)
    await it.until_row("SELECT count(*) = 3 FROM hookledger.attempt WHERE number = 2 AND route_id = $1", route.id)
    done = await _replay(it, route, "anna", ReplayStatus.ALL, seqs[1:])
    await it.until_row("SELECT state = 'done' FROM hookledger.replay WHERE id = $1", done.id)
    opened = gate(there, "/orders")
    running = await _replay(it, route, "ben", ReplayStatus.FAILED, seqs)
    cancelled = await replays.cancel(it.database, running, Context(actor="ben", origin="api"))
    assert cancelled.state == "cancelled"
    opened.set()
    await it.until_row("SELECT count(*) = 0 FROM hookledger.retry WHERE route_id = $1", route.id)


async def _replay(it: PipelineProcess, route: Route, actor: str, status: ReplayStatus, seqs: list[int]) -> Replay:
    context = Context(actor=actor, origin="dashboard", reason=f"as {actor} says", request_id=f"replay-{actor}")
    return await replays.begin(
        it.database, route, ReplayPeriod(since=LONG_AGO, until=NEVER), status, context, chosen=seqs, macs=LOG_MACS
    )


async def _history(url: str) -> list[Sealed]:
    seals = []
    async with receiver() as there, pipeline_process(url) as it:
        there.answer["/broken"] = status(500)
        orders = await it.route(there.url + "/orders", "order.*", headers={"X-Shop": "a"})
        await it.publish("order.create", "customer.create", count=3, snapshot=b'{"customer": {}}')
        await it.until_accounted()
        await it.publish("order.create")
        await it.until_accounted()
        seals.append(await seal(it.database))
        broken = await it.route(there.url + "/broken", "order.create")
        await it.edit(orders, name="Orders")
        await _send_again(it, there, orders)
        for id, kind in (("a1", "admin"), ("b2", "producer"), ("c3", "tenant")):
            tenant = "acme" if kind == "tenant" else None
            new = NewToken(
                id=id, kind=kind, tenant=tenant, name=f"of {id}", hash=b"h" * 32, created_by="cli", expires_at=None
            )
            await tokens.add(it.database, new, macs=VAULT.macs)
        await tokens.revoke(it.database, "b2")
        for last in (20, 21):
            await lost_log.record(
                it.database, timeline=2, ticks=(18, last), positions=(5, 4), found_by=f"daemon {last}"
            )
        await take_messages(it.database, 3)
        await it.publish("order.create", count=2, context=b'{"by": "me"}')
        await it.until_row("SELECT count(*) >= 10 FROM hookledger.attempt WHERE route_id = $1", broken.id)
        seals.append(await seal(it.database))
        await it.commands.rotate_key("acme", orders.id, CONTEXT)
        await it.publish("order.create", "order.edit", tenant="other")
        await it.publish("order.create", "order.edit")
        await it.until_row("SELECT count(*) >= 15 FROM hookledger.attempt WHERE route_id = $1", broken.id)
        await it.commands.delete("acme", broken.id, CONTEXT)
        await it.until_accounted()
        seals.append(await seal(it.database))
    return seals


async def test_nothing_is_found_in_the_untouched_copy(history: tuple[Database, Attacker, list[Sealed]]) -> None:
    database, _, seals = history
    report = await audited(database, anchors=anchors_of(*seals))
    assert report.findings == []
    assert (report.seals, report.judged, report.anchors, report.dropped) == (3, 3, 3, 0)
    assert report.rows > 25


async def test_every_column_is_tampered_with(history: tuple[Database, Attacker, list[Sealed]]) -> None:
    database, *_ = history
    async with database.connection() as connection:
        rows = await connection.fetch(
            "SELECT relname, attname FROM pg_attribute JOIN pg_class c ON c.oid = attrelid WHERE attnum > 0 "
            "AND NOT attisdropped AND relnamespace = 'hookledger'::regnamespace AND relname = ANY ($1)",
            list(ROWS),
        )
    columns = {(table, column) for table, (_, columns) in ROWS.items() for column in columns}
    assert {tuple(row.values()) for row in rows} - NOT_SEALED == columns


@pytest.mark.parametrize("kind", [*UPDATES, *DELETIONS, *OTHERS])
async def test_the_audit_finds(history: tuple[Database, Attacker, list[Sealed]], kind: str) -> None:
    database, attacker, seals = history
    try:
        assert await attacker.tamper((UPDATES | DELETIONS | OTHERS)[kind]) > 0
        report = await audited(database, anchors=anchors_of(seals[-1]))
        assert report.findings
        assert all(finding.detail for finding in report.findings)
    finally:
        await attacker.undo()
