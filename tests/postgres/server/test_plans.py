"""The hot statements find their rows by the index that was made for them, on tables of a realistic size.

The generic plan is explained, in a session with the settings of the product, because that plan runs in production.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio

from eventstore import domain_events, route_log
from eventstore.domain_events import same_ids, tail, ticks
from eventstore.postgres import schema
from eventstore.postgres.connect import SERVER_SETTINGS
from eventstore.progress import backlog, late_outcomes, manual_retry, recording, replays
from eventstore.progress.steady_time import STATEMENT_TIME
from eventstore.queries.auditing import audited
from eventstore.queries.deliveries import attempts, deliveries_of_type, delivery_log, undecided, waiting_reasons
from eventstore.queries.deliveries.delivery_log import ListScope
from eventstore.queries.events import field_search, listing
from eventstore.queries.metrics import rates, route_health, route_metrics, tally
from eventstore.route_log import sealed_secrets
from eventstore.seals import covered, places, turns
from tests.support.values.builders import ROUTE

POPULATE = """
SELECT hookledger.ensure_partitions((now() AT TIME ZONE 'UTC')::date - 30, (now() AT TIME ZONE 'UTC')::date);
INSERT INTO hookledger.domain_event (tenant, id, type, data, txid)
SELECT 't' || n % 500, 'evt-' || n, 'order.create', '{}', (1000 + n / 3)::text::xid8 FROM generate_series(1, 30000) n;
INSERT INTO hookledger.domain_event (tenant, id, type, data, txid, tick)
SELECT 't' || n % 500, 'old-' || n, 'order.create', '{}', '0', n % 300 FROM generate_series(1, 6000) n;
INSERT INTO hookledger.tick (tick, snap, at, route_pos, closed_upto)
SELECT n, format('%s:%s:', 1000 + n * 10, 1000 + n * 10)::pg_snapshot, now(), 0, now() FROM generate_series(1, 1000) n;
INSERT INTO hookledger.attempt (seq, tick, route_id, event_time, started_at, shard, number, duration_ms, route_version, outcome, tenant, event_id, event_type, delivery_key, txid)
SELECT n, n / 30, ('00000000-0000-0000-0000-' || lpad((n % 300)::text, 12, '0'))::uuid, now() + n * interval '1 ms', now(), n % 16, 1, 1, 1, CASE n % 50 WHEN 7 THEN 'failed' ELSE 'delivered' END, 't' || n % 500, 'evt-' || n, 'order.create', n, 1000 + n / 3
  FROM generate_series(1, 30000) n;
INSERT INTO hookledger.retry (route_id, seq, recorded_at, event_time, tick, shard, failures, due_at, tenant)
SELECT gen_random_uuid(), n, now(), now() + n * interval '1 ms', n / 30, n % 16, 1, now() + n * interval '1 second', 't' || n % 100 FROM generate_series(-500, 10000) n;
INSERT INTO hookledger.parked (shard, epoch, flush, route_id, last_tick, seqs, ticks, recorded_ats, event_times, tenant)
SELECT n % 16, 1, n, ('00000000-0000-0000-0000-' || lpad((n % 300)::text, 12, '0'))::uuid, n, ARRAY[n], ARRAY[n], ARRAY[now()], ARRAY[now() + n * interval '1 ms'], 't' || n % 300 FROM generate_series(1, 3000) n;
INSERT INTO hookledger.replay (id, route_id, tenant, wanted, since, until, sendable_from, actor, origin, state, ended_at, total, txid, ended_txid)
SELECT ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, gen_random_uuid(), 't', 'all', now(), now(), now(), 'a', 'o', CASE WHEN n <= 2000 THEN 'done' ELSE 'running' END, CASE WHEN n <= 2000 THEN now() END, 1, n, CASE WHEN n <= 2000 THEN n END FROM generate_series(1, 2003) n;
INSERT INTO hookledger.resend (route_id, seq, actor, origin, txid) SELECT gen_random_uuid(), n, 'a', 'o', n FROM generate_series(1, 10000) n;
INSERT INTO hookledger.replay_part SELECT ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, p, ARRAY[24007, 24307, 24607] FROM generate_series(1, 1000) n, generate_series(1, 3) p;
INSERT INTO hookledger.seal
SELECT n, now(), 'hookledger/' || (SELECT value FROM hookledger.meta WHERE key = 'log_id') || '/' || (SELECT value FROM hookledger.meta WHERE key = 'system_identifier'),
       format('%s:%s:', 1000 + n, 1000 + n)::pg_snapshot, n / 10, '1:1:', 0, '', '{}', '{}', '{}', '{}', '{}', '{}', 1, '', 1, '', 1, '{}', NULL, NULL, '', '', '', '', '', '', '', '', '', '' FROM generate_series(1, 10000) n;
INSERT INTO hookledger.route_event
SELECT n, gen_random_uuid(), 't' || n % 500, 1, 'created', now() + n * interval '1 microsecond', 'a', 'o', NULL, 'r' || n, NULL, NULL, '{}', '', '' FROM generate_series(1, 5000) n;
"""

SHARDS, SEQS = "'{0,1,2,3}'", "'{29001,29002,29003}'"
OUT = "'{t7}'"
CUT = f"{SHARDS}, '9000', '9010', '{{9003}}', '{{8999}}'"
ROUTES = "'{00000000-0000-0000-0000-000000000007}'"
# Owner, shards, epochs, the number of the flush, the shards it writes for, the log that was read, the time, and an
# empty array for each field of its rows.
FLUSH_ARGUMENTS = ", ".join(
    ["'me'", SHARDS, "'{1,1,1,1}'", "1", "'{}'", "NULL", "0", "'1:1:'", "now()", *["'{}'"] * 32]
)
# What was taken of a route: three packed deliveries, of now.
TAKEN = f"{ROUTES.replace('{', '').replace('}', '')}, {SEQS}, '{{1,1,1}}', '{{now,now,now}}', '{{now,now,now}}', '{{t,t,t}}'"
COUNT = replays._COUNT.format(found=replays._FOUND.format(rule=replays._RULES["all"]))
COUNT_FEW = replays._COUNT.format(found=replays._FEW_FOUND)
SCHEDULE = replays._SCHEDULE.format(rule=replays._RULES["all"], steady_time=STATEMENT_TIME)


# The body of hookledger.tick_of, whose plan cannot be seen from outside. A test compares it with the function.
TICK_OF = """
    SELECT tick FROM hookledger.tick
     WHERE snap_xmax > $1::xid8 AND pg_visible_in_snapshot($1::xid8, snap)
     ORDER BY snap_xmax, tick LIMIT 1
"""


# Arguments of the statements of lists: the position to begin below, and the lowest event time.
TOP = "'9999-12-31', 0, '00000000-0000-0000-0000-000000000000', '1970-01-01'"


OF_TENANT = ListScope(tenant="t7")
OF_ROUTE = ListScope(tenant="t7", route_id=UUID(int=7))
OF_TYPE = ListScope(tenant="t7", event_type="order.rare")
# Arguments of the statements that begin with the events of a type.
TYPE_TOP = "'t7', 'order.create', '9999-12-31', 0, '1970-01-01', 20"


@dataclass(frozen=True)
class Hot:
    """A statement, the indexes it must use, and `rows`: how many rows its scans may touch, including filtered ones."""

    name: str
    statement: str
    arguments: str
    indexes: set[str]
    rows: int


STATEMENTS = (
    Hot("cut, its few events", tail._FEW, f"{CUT}, 32", {"domain_event_txid_idx"}, 60),
    Hot("cut, measured", tail._MEASURE, CUT, {"domain_event_txid_idx"}, 60),
    Hot("cut, read whole", tail._WHOLE, f"{CUT}, 1000", {"domain_event_txid_idx"}, 60),
    Hot("cut, walked", tail._WALK, f"{CUT}, 24000, 25000, 1000", {"domain_event_pkey"}, 1100),
    Hot("few without a tenant", tail._without(tail._FEW), f"{CUT}, 32, {OUT}", {"domain_event_txid_idx"}, 60),
    Hot("measured without a tenant", tail._without(tail._MEASURE), f"{CUT}, {OUT}", {"domain_event_txid_idx"}, 60),
    Hot("walked without a tenant", tail._without(tail._WALK), f"{CUT}, 24000, 25000, 1000, {OUT}", {"domain_event_pkey"}, 1100),
    Hot("picked without a tenant", tail._without(tail._PICK), f"{CUT}, 24000, 25000, 1000, {OUT}", {"domain_event_txid_idx"}, 60),
    Hot("cut of before a restore", tail._RESTORED, f"{SHARDS}, 7, 0, 100", {"domain_event_tick_seq_idx"}, 30),
    Hot("cut, picked", tail._PICK, f"{CUT}, 24000, 25000, 1000", {"domain_event_txid_idx"}, 60),
    Hot("cut, its few events without payloads", tail._LEAN_FEW, f"{CUT}, 32", {"domain_event_txid_idx"}, 60),
    Hot("cut, walked without payloads", tail._LEAN_WALK, f"{CUT}, 24000, 25000, 1000", {"domain_event_pkey"}, 1100),
    Hot("cut, picked without payloads", tail._LEAN_PICK, f"{CUT}, 24000, 25000, 1000", {"domain_event_txid_idx"}, 60),
    Hot("cut of before a restore without payloads", tail._LEAN_RESTORED, f"{SHARDS}, 7, 0, 100", {"domain_event_tick_seq_idx"}, 30),
    Hot("events of a seal", covered._EVENTS, f"990, 991, {CUT.removeprefix(SHARDS + ', ')}", {"domain_event_txid_idx", "domain_event_tick_seq_idx", "domain_event_sealed_tick_seq_idx"}, 60),
    Hot("outcomes of a seal", covered.ByTransaction.ATTEMPT.value.present, CUT.removeprefix(SHARDS + ", "), {"attempt_txid_idx"}, 6000),
    Hot("outcomes of a seal of before a restore", covered.ByTransaction.ATTEMPT.value.restored, "5, 6", {"attempt_seal_seq_idx"}, 10),
    Hot("manual retries of a seal", covered.ByTransaction.RESEND.value.present, CUT.removeprefix(SHARDS + ", "), {"resend_txid_idx"}, 30),
    Hot("replays of a seal", covered.ByTransaction.REPLAY.value.present, "'1000', '1010', '{1003}', '{999}'", {"replay_txid_idx"}, 30),
    Hot("ends of replays of a seal", covered.ByTransaction.REPLAY_END.value.present, "'1000', '1010', '{1003}', '{999}'", {"replay_ended_txid_idx"}, 30),
    Hot("requests since a seal", turns._NEW_REQUESTS, "'20000', '20010', '{20003}', '{19999}'", {"resend_txid_idx", "replay_txid_idx", "replay_ended_txid_idx"}, 10),
    Hot("where an event is sealed", places._EVENT, "29000, now() - interval '1 day'", {"domain_event_pkey", "seal_tick_idx"}, 20),
    Hot("where outcomes are sealed", places._ATTEMPTS, f"{ROUTES[2:-2].join([chr(39), chr(39)])}, 29107, now()", {"attempt_route_id_seq_idx", "seal_snap_xmax_idx", "seal_pkey"}, 310),
    Hot("where manual retries are sealed", places._RESENDS, "'00000000-0000-0000-0000-000000000001', 5", {"resend_delivery_idx", "seal_snap_xmax_idx", "seal_pkey"}, 310),
    Hot("ticks behind one", f"SELECT {ticks._COLUMNS} FROM hookledger.tick WHERE tick > $1 ORDER BY tick LIMIT $2", "998, 200", {"tick_pkey"}, 10),
    Hot("event by id", domain_events.events._BY_ID, "'t7', 'evt-7007'", {"domain_event_id_key", "tick_pkey"}, 10),
    Hot("event by id of any tenant", domain_events.events._BY_ID_ANY_TENANT, "'evt-7007'", {"domain_event_id_key", "tick_pkey"}, 10),
    Hot("events by seq", domain_events.events._BY_SEQ, f"{SEQS}, now() - interval '1 day', now()", {"domain_event_pkey"}, 10),
    Hot("the first events by seq", domain_events.events._FIRST_BY_SEQ, f"{SEQS}, now() - interval '1 day', now(), 1000", {"domain_event_pkey"}, 10),
    Hot("events of an audit", audited._EVENTS_OF[False], "29000, 36000, now() - interval '1 hour', now(), 100", {"domain_event_pkey", "tick_snap_xmax_idx", "tick_pkey"}, 600),
    Hot("outcomes of an audit", audited._ATTEMPTS, f"{ROUTES}, 29000, 30000, now() - interval '1 day'", {"attempt_route_id_seq_idx"}, 10),
    Hot("reasons for waiting", waiting_reasons._REASONS, f"{ROUTES}, 29107", {"route_failing_pkey", "attempt_route_id_event_time_seq_idx1", "retry_pkey", "resend_delivery_idx", "parked_route_idx"}, 60),
    Hot("lifecycle events by version", route_log.log._OF_VERSIONS, f"{ROUTES}, '{{1}}'", {"route_event_version_key"}, 10),
    Hot("retries of an audit", audited._RETRIES, f"{ROUTES}, 29000, 30000", {"retry_pkey"}, 10),
    Hot("parked deliveries of an audit", audited._PARKED, f"{ROUTES}, 29000, 30000, 2990, now()", {"parked_route_idx"}, 40),
    Hot("due retries", backlog._DUE, f"{SHARDS}, '{{}}', '{{}}', 100, '{{}}', now(), '{{}}'", {"retry_due_idx", "domain_event_pkey"}, 300),
    Hot("first retries of routes", backlog._FIRST_OF_ROUTES, f"{ROUTES}, 64, now(), 100", {"retry_pkey"}, 100),
    Hot("what ordered routes wait for", backlog._FAILING, f"{ROUTES}, 1000", {"retry_pkey"}, 1100),
    Hot("next retry", backlog._WAITING, SHARDS, {"retry_due_idx"}, 7),
    Hot("oldest packed", backlog._OLDEST_PACKED, f"'{ROUTES[2:-2]}', 0, 0", {"parked_pkey"}, 15),
    Hot("done of a packed row", backlog._DONE_OF, f"'{ROUTES[2:-2]}', {SEQS}, now()", {"attempt_route_id_seq_idx"}, 110),
    Hot("accounted for", backlog._ACCOUNTED, f"{SHARDS}, '{{990,991,992,2990}}', 990", {"attempt_tick_idx"}, 6000),
    Hot("failures of a route", tally._FAILURES, f"'{ROUTES[2:-2]}', now() - interval '1 hour', '{{}}'", {"attempt_route_id_seq_idx"}, 220),
    Hot("health of a list", route_health._READ, ROUTES, {"route_health_pkey", "retry_pkey", "parked_route_idx", "attempt_route_id_seq_idx"}, 60),
    Hot("routes that fail", route_health._PAGE, f"'down', now() - interval '1 hour', '{ROUTE}', 20", {"route_health_ill_idx", "retry_pkey", "parked_route_idx", "attempt_route_id_seq_idx"}, 120),
    Hot("attempts of a route", attempts._ATTEMPTS, f"{ROUTES}, 29000, 30000, 1000", {"attempt_route_id_seq_idx"}, 10),
    Hot("flush", recording._FLUSH, FLUSH_ARGUMENTS, {"lease_pkey"}, 100),
    Hot("late outcome", late_outcomes._WRITE, ", ".join(["'me'", "now()", *["'{}'"] * 23]), {"retry_pkey"}, 20),
    Hot("suppression", recording._TAKE_CLOSED, f"'me', 1, 1, '{ROUTE}', now(), '{{}}', NULL, 0, ''", {"lease_pkey", "retry_pkey", "parked_pkey"}, 20),
    Hot("suppression, noted", recording._NOT_ENDED, TAKEN, {"attempt_route_id_seq_idx", "retry_pkey", "domain_event_pkey"}, 20),
    Hot("retry by hand", manual_retry._REQUEUE, "'00000000-0000-0000-0000-000000000007', 29107", {"attempt_route_id_seq_idx", "retry_pkey", "domain_event_pkey"}, 10),
    Hot("replay, counted", COUNT, "'00000000-0000-0000-0000-000000000007', now() - interval '1 hour', now() + interval '1 hour'", {"attempt_route_id_event_time_seq_idx"}, 110),
    Hot("replay of what failed, counted", COUNT_FEW, "'00000000-0000-0000-0000-000000000007', now() - interval '1 hour', now() + interval '1 hour'", {"attempt_route_id_outcome_event_time_seq_idx", "attempt_route_id_seq_idx", "retry_pkey"}, 210),
    Hot("replay, scheduled", SCHEDULE, f"'{UUID(int=3)}', 500, '00000000-0000-0000-0000-000000000007', now() - interval '1 hour'", {"replay_part_pkey", "attempt_route_id_seq_idx", "domain_event_pkey"}, 40),
    Hot("replays that run", replays._RUNNING, SHARDS, {"replay_running_key", "retry_replay_idx"}, 20),
    Hot("replay, withdrawn", replays._WITHDRAW, f"'{UUID(int=3)}'", {"retry_replay_idx", "replay_pkey"}, 10),
    Hot("route log", f"SELECT {route_log.log._COLUMNS} FROM hookledger.route_event WHERE pos > $1 ORDER BY pos LIMIT $2", "4990, 1000", {"route_event_pkey"}, 20),
    Hot("history", f"SELECT {route_log.log._COLUMNS} FROM hookledger.route_event WHERE route_id = $1 AND version > $2::bigint ORDER BY version", f"'{ROUTE}', 0", {"route_event_version_key"}, 10),
    Hot("routes of a tenant, counted", route_log.log._COUNT_ROUTES, "'t7', 0", {"route_event_pkey"}, 60),
    Hot("secrets of a route", sealed_secrets._OF_ROUTE[sealed_secrets.Table.KEYS], f"'{ROUTE}', '{{k1,k2}}'", {"route_key_pkey"}, 10),
    Hot("route log of a tenant", f"SELECT {route_log.log._COLUMNS} FROM hookledger.route_event WHERE pos > $1 AND tenant = $3 ORDER BY pos LIMIT $2", "0, 1000, 't7'", {"route_event_tenant_idx"}, 20),
    Hot("what happened to a tenant's routes", route_log.log._OF_TENANT, "'t7', 4000, 51", {"route_event_tenant_idx"}, 60),
    Hot("one type of it", route_log.log._OF_TENANT_AND_TYPE, "'t7', 4000, 51, 'deleted'", {"route_event_tenant_type_idx"}, 5),
    Hot("what happened to a route", route_log.log._OF_ROUTE, f"'{ROUTE}', 4000, 51, NULL", {"route_event_version_key"}, 10),
    Hot("tried, of a tenant", delivery_log.attempted_statement(OF_TENANT, None), f"'t7', {TOP}, 20", {"attempt_tenant_event_time_seq_idx", "attempt_tenant_event_time_seq_idx1", "attempt_tenant_outcome_event_time_seq_idx"}, 70),
    Hot("tried, of a route", delivery_log.attempted_statement(OF_ROUTE, None), f"'{ROUTES[2:-2]}', {TOP}, 20", {"attempt_route_id_event_time_seq_idx", "attempt_route_id_event_time_seq_idx1", "attempt_route_id_outcome_event_time_seq_idx"}, 70),
    Hot("failed, of a tenant", delivery_log.attempted_statement(OF_TENANT, "failed"), f"'t7', {TOP}, 20", {"attempt_tenant_outcome_event_time_seq_idx"}, 40),
    Hot("failed, of a route", delivery_log.attempted_statement(OF_ROUTE, "failed"), f"'{ROUTES[2:-2]}', {TOP}, 20", {"attempt_route_id_outcome_event_time_seq_idx"}, 40),
    Hot("delivered, of a tenant", delivery_log.attempted_statement(OF_TENANT, "delivered"), f"'t7', {TOP}, 20", {"attempt_tenant_event_time_seq_idx"}, 40),
    Hot("tried, of a type", deliveries_of_type.attempted_statement(OF_TYPE, None), TYPE_TOP, {"domain_event_tenant_type_least_seq_idx", "attempt_tenant_event_time_seq_idx", "attempt_tenant_event_time_seq_idx1", "attempt_tenant_outcome_event_time_seq_idx"}, 90),
    Hot("tried, of a type and few routes", deliveries_of_type.OF_ROUTES, f"{TYPE_TOP}, {ROUTES}", {"domain_event_tenant_type_least_seq_idx", "attempt_route_id_seq_idx"}, 90),
    Hot("failed, of a type", deliveries_of_type.attempted_statement(OF_TYPE, "failed"), TYPE_TOP, {"domain_event_tenant_type_least_seq_idx", "attempt_tenant_outcome_event_time_seq_idx"}, 90),
    Hot("retrying, of a type", deliveries_of_type.retrying_statement(OF_TYPE), TYPE_TOP, {"domain_event_tenant_type_least_seq_idx", "retry_tenant_idx"}, 90),
    Hot("parked, of a type", deliveries_of_type.parked_statement(OF_TYPE), TYPE_TOP, {"domain_event_tenant_type_least_seq_idx", "parked_span_idx"}, 90),
    Hot("retrying, of a tenant", delivery_log._RETRYING.format(whose="tenant = $1"), f"'t7', {TOP}, 20", {"retry_tenant_idx", "domain_event_pkey"}, 45),
    Hot("retrying, of a route", delivery_log._RETRYING.format(whose="route_id = $1"), f"'{ROUTES[2:-2]}', {TOP}, 20", {"retry_pkey"}, 45),
    Hot("parked, of a tenant", delivery_log._PARKED.format(whose="tenant = $1"), f"'t7', {TOP}, 20, 4", {"parked_tenant_idx", "parked_span_idx", "domain_event_pkey"}, 30),
    Hot("parked, of a route", delivery_log._PARKED.format(whose="route_id = $1"), f"'{ROUTES[2:-2]}', {TOP}, 20, 4", {"parked_route_idx", "parked_span_idx"}, 30),
    Hot("what deliveries came to", attempts._SUMMARIES, f"{ROUTES}, '{{29107}}', '{{now}}'", {"attempt_route_id_seq_idx"}, 5),
    Hot("a delivery's requests", attempts._EXCHANGES, f"'{ROUTES[2:-2]}', 29107, now(), 1000", {"attempt_route_id_seq_idx"}, 5),
    Hot("a delivery by its id", attempts._BY_KEY, "'t7', 29007", {"attempt_delivery_key_idx"}, 5),
    Hot("a delivery of anybody by its id", attempts._BY_KEY_ANY_TENANT, "29007", {"attempt_delivery_key_idx"}, 5),
    Hot("newest events, counted", rates._EVENTS, "'1 minute', 500", {"domain_event_pkey"}, 510),
    Hot("routes of a tenant that fail", route_health._FAILING, "'t7'", {"route_health_ill_idx"}, 120),
    Hot("what of an event waits", attempts._WAITING, f"{ROUTES}, 29007, now()", {"retry_pkey", "parked_span_idx"}, 10),
    Hot("read after a tick", undecided._FEW, "'t7', '10990:10990:', 999, 2001", {"domain_event_txid_idx", "domain_event_tick_seq_idx"}, 100),
    Hot("read after a tick, walked", undecided.walk_statement(None), "'t7', '10990:10990:', 999, '9999-12-31', 0, '1970-01-01', 20", {"domain_event_tenant_least_seq_idx"}, 30),
    Hot("read after a tick, walked by type", undecided.walk_statement("order.create"), "'t7', '10990:10990:', 999, '9999-12-31', 0, '1970-01-01', 20, 'order.create'", {"domain_event_tenant_type_least_seq_idx"}, 30),
    Hot("events of a tenant", listing._LISTED.format(condition="true"), "'t7', '9999-12-31', 0, '1970-01-01', 20, 20", {"domain_event_tenant_least_seq_idx"}, 50),
    Hot("events of some types", listing._OF_NAMES, "'t7', '9999-12-31', 0, '1970-01-01', 20, '{order.create,order.rare}'", {"domain_event_tenant_type_least_seq_idx"}, 50),
    Hot("types of a tenant", listing._NAMES, "'t7', '{order.}', 200", {"domain_event_tenant_type_least_seq_idx"}, 20),
    Hot("events with a value", field_search.OF_ANY_TYPE, "'t7', '9999-12-31', 0, '1970-01-01', 20, '{nothing}', 20, 1000000", {"domain_event_tenant_least_seq_idx"}, 60),
    Hot("events of a type with a value", field_search.OF_TYPE, "'t7', '9999-12-31', 0, '1970-01-01', 20, '{nothing}', 20, 1000000, 'order.create'", {"domain_event_tenant_type_least_seq_idx"}, 60),
    Hot("whose event an id is", listing._OWNERS, "'evt-7007', 20", {"domain_event_id_key"}, 10),
    Hot("the oldest event of a tenant", listing._OLDEST, "'t7'", {"domain_event_tenant_least_seq_idx"}, 5),
    Hot("events of an id", listing._BY_ID, "'t7', 'evt-7007'", {"domain_event_id_key"}, 10),
    Hot("contexts of ids", same_ids._CONTEXTS, "'{t7}', '{evt-7007}'", {"domain_event_id_key"}, 10),
    Hot("tick of a transaction", TICK_OF, "'9000'", {"tick_snap_xmax_idx"}, 5),
    Hot("publish", domain_events.events._PUBLISH, "'{t1}', '{x}', '{a.b}', '{now}', '{x}', '{x}', '{x}', '{f}', '{1}'", set(), 10),
)  # fmt: skip


@pytest.fixture
def days_ahead() -> int:
    """As many as with a daemon."""
    return schema.PARTITION_DAYS_AHEAD


@pytest_asyncio.fixture
async def populated(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url, server_settings=SERVER_SETTINGS)
    await connection.execute(POPULATE)
    yield connection
    connection.terminate()


async def test_each_hot_statement_finds_its_rows_by_index(populated: asyncpg.Connection) -> None:
    """Without statistics, as after midnight, and with them. A block range index covers only what was last summarized."""
    wrong = []
    for analysed in (False, True):
        if analysed:
            await populated.execute("VACUUM ANALYZE")
        for hot in STATEMENTS:
            plan = await explained(populated, hot)
            used = {_general(scan["Index Name"]) for scan in plan if "Index Name" in scan}
            touched = sum(_touched(scan) for scan in plan)
            whole = {scan["Relation Name"] for scan in plan if scan["Node Type"] == "Seq Scan"} - {
                "steady_clock",  # one row
                "lost_log",  # one for each promotion
                "api_token",  # a few, and here none
            }
            is_many = touched > hot.rows and (analysed or not hot.indexes & {"attempt_tick_idx", "attempt_txid_idx"})
            if not hot.indexes <= used or whole or is_many:
                wrong.append(
                    (hot.name, "analysed" if analysed else "new", "used", used, "whole", whole, "touched", touched)
                )
    assert not wrong, "\n".join(map(str, wrong))


async def test_a_batch_is_stored_by_a_plan_that_was_made_while_the_day_was_empty(database_url: str) -> None:
    """VACUUM tells the planner that an empty partition has no rows, and a generic plan is kept until the next ANALYZE. It
    read all events of the day once for each new one, and no batch of 10,000 was ever stored.
    """
    connection = await asyncpg.connect(database_url, server_settings=SERVER_SETTINGS)
    await connection.execute("VACUUM ANALYZE")
    await connection.execute("BEGIN")  # nobody analyses what is not committed
    for first in (0, 500, 1000, 1500):
        await _publish(connection, range(first, first + 500))
    read = await _rows_read(connection, "pg_stat_xact_user_tables")
    assert await _publish(connection, range(1000, 2500)) == [False] * 1000 + [True] * 500
    assert await _rows_read(connection, "pg_stat_xact_user_tables") - read <= 1000
    await connection.close()


async def _publish(connection: asyncpg.Connection, ids: Sequence[int]) -> list[bool]:
    every, none = ["acme"] * len(ids), [None] * len(ids)
    given = [
        every,
        [str(n) for n in ids],
        ["a.b"] * len(ids),
        none,
        [b"{}"] * len(ids),
        none,
        none,
        [False] * len(ids),
        none,
    ]
    fresh: list[bool] = await connection.fetchval(domain_events.events._PUBLISH, *given)
    return fresh


async def test_the_metrics_of_a_route_are_read_from_its_hours_and_from_what_is_not_added_up(
    populated: asyncpg.Connection,
) -> None:
    await populated.execute(
        "INSERT INTO hookledger.route_metric SELECT ('00000000-0000-0000-0000-' || lpad(r::text, 12, '0'))::uuid, "
        "date_trunc('hour', now(), 'UTC') - n * interval '1 hour', 1, 1, 1, 1, 1 "
        "FROM generate_series(1, 300) r, generate_series(1, 50) n"
    )
    plan = await explained(
        populated,
        Hot("metrics", route_metrics._BY_HOUR, f"'{ROUTES[2:-2]}', 'day', '29 days'", {"route_metric_pkey"}, 50),
    )
    assert {scan["Relation Name"] for scan in plan if scan["Node Type"] == "Seq Scan"} == {"route_tally"}
    assert sum(_touched(scan) for scan in plan if scan.get("Relation Name") == "route_metric") == 50
    lately = await explained(
        populated, Hot("metrics of a list", route_metrics._RECENT, f"{ROUTES}, 23", {"route_metric_pkey"}, 60)
    )
    assert (
        sum(_touched(scan) for scan in lately if scan.get("Relation Name") == "route_metric") == 23
    )  # nothing ended this hour


async def test_what_ended_lately_is_read_from_the_last_periods_and_from_what_is_not_added_up(
    populated: asyncpg.Connection,
) -> None:
    """The rows of a period lie together, as they are written, so a block range index leaves out the earlier ones."""
    await populated.execute(
        "INSERT INTO hookledger.route_recent (route_id, period, successful, successful_retries, failed, suppressed, expired) "
        "SELECT gen_random_uuid(), date_bin('5 minutes', now(), 'epoch') - n * interval '5 minutes', 1, 1, 1, 1, 1 "
        "FROM generate_series(23, 0, -1) n, generate_series(1, 2000) r"
    )
    await populated.execute("VACUUM ANALYZE hookledger.route_recent")
    plan = await explained(populated, Hot("rates", rates._ENDED, "'5 minutes'", {"route_recent_period_idx"}, 0))
    assert {scan["Relation Name"] for scan in plan if scan["Node Type"] == "Seq Scan"} == {"route_tally"}
    assert "route_recent_period_idx" in {scan.get("Index Name") for scan in plan}
    assert 4000 <= sum(_touched(scan) for scan in plan if scan.get("Relation Name") == "route_recent") < 10_000


async def test_due_retries_are_found_beside_all_that_are_held(populated: asyncpg.Connection) -> None:
    """What is passed over is hashed once. A generic plan takes an array for ten elements, and would search it for every
    row: with 2,000 retries held that took 7.8 s, inside the lock that the intake waits for.
    """
    await populated.execute("UPDATE hookledger.retry SET due_at = now() - interval '1 hour' + seq * interval '1 ms'")
    held = await populated.fetch(
        "SELECT route_id, seq FROM hookledger.retry WHERE shard < 8 ORDER BY due_at LIMIT 5000"
    )
    routes, passed = [str(row["route_id"]) for row in held], held[:4000]
    pairs = f"{_array(routes[:4000])}, {_array([row['seq'] for row in passed])}"
    arguments = f"'{{0,1,2,3,4,5,6,7}}', {pairs}, 500, {_array(routes[4000:])}, now(), '{{}}'"
    for analysed in (False, True):
        if analysed:
            await populated.execute("VACUUM ANALYZE")
        plan = await explained(populated, Hot("due", backlog._DUE, arguments, set(), 0))
        filters = " ".join(node.get("Filter", "") for node in plan)
        assert filters.count("hashed SubPlan") >= 3
        assert [node["Join Type"] for node in plan if node.get("Join Type") in ("Anti", "Semi")] == []
        inner = [node for node in plan if node.get("Parent Relationship") == "SubPlan"]
        arrays = [node for node in inner if node["Node Type"] == "Function Scan"]
        assert {node["Actual Loops"] for node in arrays} == {1}
        assert max(node["Actual Loops"] for node in inner) == 500, "of each row that is taken the size of its event"
        assert sorted(node["Actual Rows"] for node in arrays) == [0, 1000, 4000]
        touched = sum(_touched(node) for node in plan if node.get("Relation Name") == "retry")
        assert touched <= 5000 + 8 * 500 + 500


async def test_a_suppression_passes_over_all_that_is_in_memory(populated: asyncpg.Connection) -> None:
    route = ROUTES[2:-2]
    await populated.execute(f"UPDATE hookledger.retry SET route_id = '{route}', event_time = now() WHERE seq > 0")
    await populated.execute("UPDATE hookledger.lease SET owner = 'me', epoch = 1")
    arguments = f"'me', 1, 1, '{route}', now() + interval '1 hour', {_array(range(1, 2001))}, NULL, 0, ''"
    plan = await explained(populated, Hot("suppression", recording._TAKE_CLOSED, arguments, set(), 0))
    assert "hashed SubPlan" in " ".join(node.get("Filter", "") for node in plan if node.get("Alias") == "q")


async def test_outcomes_of_parked_deliveries_are_looked_for_only_since_their_events(
    populated: asyncpg.Connection,
) -> None:
    """Else each of thousands is looked for in every day that is kept: a disable of one route held up all for seconds."""
    route = ROUTES[2:-2]
    done = Hot("done of a packed row", backlog._DONE_OF, f"'{route}', {SEQS}, now()", set(), 0)
    for hot in (done, Hot("suppression, noted", recording._NOT_ENDED, TAKEN, set(), 0)):
        plan = await explained(populated, hot)
        scanned = {
            node["Relation Name"]
            for node in plan
            if node.get("Relation Name", "").startswith("attempt_")
            and node["Actual Loops"]
            and "Scan" in node["Node Type"]
        }
        assert 0 < len(scanned) <= 9, hot.name  # yesterday, today and the days ahead; 30 are kept


async def test_outcomes_above_many_checkpoints_are_read_once_for_all_shards(populated: asyncpg.Connection) -> None:
    """The index over ticks knows no shards: searched for each of them, it would find the same blocks as many times."""
    arguments = "'{0,1,2,3}', '{1,990,990,990}', 1"
    for analysed in (False, True):
        if analysed:
            await populated.execute("VACUUM ANALYZE")
        plan = await explained(populated, Hot("accounted for", backlog._ACCOUNTED, arguments, set(), 0))
        scans = [node for node in plan if node.get("Relation Name", "").startswith("attempt_")]
        assert {node["Actual Loops"] for node in scans} == {1}
        (top,) = [node for node in plan if node.get("Parent Relationship") is None]
        behind = 30_000 // 16
        assert top["Actual Rows"] < 2 * behind, "nothing that the other shards did since"


async def test_the_body_of_tick_of_is_the_one_explained(sql: asyncpg.Connection) -> None:
    body: str = await sql.fetchval("SELECT prosrc FROM pg_proc WHERE oid = 'hookledger.tick_of'::regproc")
    assert body.replace("txid", "$1::xid8").split() == TICK_OF.split()


async def test_a_tick_that_finds_nothing_new_looks_at_no_row(database_url: str) -> None:
    connection = await asyncpg.connect(database_url, server_settings=SERVER_SETTINGS)
    await connection.execute(
        "INSERT INTO hookledger.domain_event (tenant, id, type, data) "
        "SELECT 'acme', n::text, 'order.create', '{}' FROM generate_series(1, 20000) n"
    )
    assert await connection.fetchval("SELECT hookledger.make_tick()") == 1
    before = await _rows_read(connection)
    for _ in range(10):
        assert await connection.fetchval("SELECT hookledger.make_tick()") is None
    assert await _rows_read(connection) - before <= 20
    await connection.close()


async def test_events_of_before_a_restore_are_looked_at_by_no_tick(database_url: str) -> None:
    connection = await asyncpg.connect(database_url, server_settings=SERVER_SETTINGS)
    await connection.execute(
        "INSERT INTO hookledger.domain_event (tenant, id, type, data, txid, tick) "
        "SELECT 'acme', n::text, 'order.create', '{}', '0', 1 FROM generate_series(1, 20000) n"
    )
    await connection.execute(
        "INSERT INTO hookledger.tick (tick, snap, at, route_pos, closed_upto) VALUES (1, '1:1:', now(), 0, now())"
    )
    before = await _rows_read(connection)
    for _ in range(10):
        assert await connection.fetchval("SELECT hookledger.make_tick()") is None
    assert await _rows_read(connection) - before <= 20
    await connection.close()


async def explained(connection: asyncpg.Connection, hot: Hot) -> list[dict[str, Any]]:
    """The nodes of the executed plan, rolled back afterwards."""
    await connection.execute(f"BEGIN; PREPARE hot AS {hot.statement}")
    text = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE hot ({hot.arguments})")
    await connection.execute("DEALLOCATE hot; ROLLBACK")
    nodes, pending = [], [json.loads(text)[0]["Plan"]]
    while pending:
        node = pending.pop()
        nodes.append(node)
        pending += node.get("Plans", [])
    return nodes


def _array(values: Sequence[object]) -> str:
    return f"'{{{','.join(map(str, values))}}}'"


def _touched(node: dict[str, Any]) -> int:
    if "Scan" not in node["Node Type"] or "Relation Name" not in node:
        return 0
    per_loop = (
        node["Actual Rows"] + node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    )
    return int(per_loop * node["Actual Loops"])


def _general(index: str) -> str:
    """The index of the parent, whichever day it is of."""
    parts = [part for part in index.split("_") if not (len(part) == 8 and part.isdigit())]
    return "_".join(parts)


async def _rows_read(connection: asyncpg.Connection, since: str = "pg_stat_user_tables") -> int:
    """Rows of events that were read. `since`: `pg_stat_xact_user_tables` counts those of the open transaction."""
    await connection.execute("SELECT pg_stat_force_next_flush()")
    return int(
        await connection.fetchval(
            f"SELECT sum(coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)) FROM {since} WHERE relname LIKE 'domain_event%'"
        )
    )
