"""No statement both changes rows that others change and reads partitions that it chooses while it runs.

PostgreSQL 18 crashes if it has to look at such a row again (`UNPRUNED` in eventstore/postgres/connect.py): while routes
of four shards were disabled under load, that took less than 20 s. A test that waits for it would end the server of all
tests, so here the statements are looked at.
"""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Iterator
from importlib import import_module

import asyncpg
import pytest

import eventstore
from eventstore.postgres.connect import Database
from eventstore.progress import manual_retry
from eventstore.progress.manual_retry import RetryRequest, RetryResult
from eventstore.retention import expiry, retention
from tests.support.rows.credentials import LOG_MACS
from tests.support.values.builders import ROUTE

CHANGES = re.compile(r"UPDATE hookledger|DELETE FROM hookledger|FOR (NO KEY )?UPDATE")
READS = re.compile(r"(FROM|JOIN|USING)\s+hookledger\.(attempt|domain_event)\b")
# The first three come after UNPRUNED. A replay is scheduled while it is locked, by the statement before.
EXPECTED = {
    "retention.expiry._EXPIRE_PARKED",
    "retention.expiry._EXPIRE_RETRIES",
    "progress.manual_retry._REQUEUE",
    "progress.replays._SCHEDULE",
}


def statements() -> Iterator[tuple[str, str]]:
    """Name → text of all that is or may be a part of a statement."""
    for module in pkgutil.walk_packages(eventstore.__path__, "eventstore."):
        for name, value in vars(import_module(module.name)).items():
            if isinstance(value, str) and not name.startswith("__"):
                yield f"{module.name.removeprefix('eventstore.')}.{name}", value


def test_statements_that_lock_or_change_rows_choose_no_partitions() -> None:
    found = {name for name, text in statements() if CHANGES.search(text) and READS.search(text)}
    assert found == EXPECTED


async def test_a_retry_by_hand_chooses_none(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        manual_retry,
        "_REQUEUE",
        "SELECT false AS has_ended, false AS is_waiting, false AS is_free,"
        " current_setting('enable_partition_pruning') = 'off' AS is_due WHERE ($1::uuid, $2::bigint) IS NOT NULL",
    )
    request = RetryRequest(actor="me", origin="test")
    assert await manual_retry.retry(database, route_id=ROUTE, seq=1, request=request, macs=LOG_MACS) is RetryResult.DUE


async def test_what_expires_is_found_without_choosing(
    database: Database, sql: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_EXPIRE_PARKED", "_EXPIRE_RETRIES"):
        monkeypatch.setattr(
            expiry,
            name,
            "SELECT 0 AS rows, 0::smallint AS shard, 1::bigint AS seq, 1::bigint AS tick, gen_random_uuid() AS route_id,"
            " now() AS event_time, now() AS ended_at, 1 AS route_version, 'acme' AS tenant, 'e' AS id, 'a.b' AS type,"
            " false AS is_test FROM (SELECT current_setting('enable_partition_pruning') = 'off' AS is_off) it"
            " WHERE it.is_off AND ($1::timestamptz, $2::integer) IS NOT NULL",
        )
    await sql.execute(
        "SELECT hookledger.ensure_partitions((now() - interval '40 days')::date, (now() - interval '40 days')::date)"
    )
    swept = await retention.sweep(database, macs=LOG_MACS)
    assert swept is not None
    assert swept.expired == 2
