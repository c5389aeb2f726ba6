"""What the MACs of outcomes, manual retries and replays cover."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg.pgproto.pgproto
import pytest

from eventstore.postgres.connect import Database
from eventstore.progress.log_macs import COVERED, KEY_BYTES, LogMacs, RequestTable
from eventstore.progress.rows import AttemptRow
from tests.support.values.builders import attempt

MACS = LogMacs(b"k" * KEY_BYTES)
ROW = attempt()._replace(response_head='[["Server", "x"]]', response_body=b"\0\xff", error="http_500", delivery_key=7)
OTHER: dict[str, Any] = {
    "seq": 2, "route_id": UUID(int=1), "event_time": ROW.event_time + timedelta(microseconds=1),
    "started_at": ROW.started_at - timedelta(microseconds=1), "shard": 1, "status_code": 201, "number": 2,
    "duration_ms": 13, "route_version": 4, "is_test": True, "outcome": "failed", "error": "timeout", "tenant": "globex",
    "event_id": "other", "event_type": "order.update", "key_ids": "k1,k2", "response_head": "[]",
    "response_body": b"\0\xfe", "delivery_key": -7,
}  # fmt: skip
MAY_BE_NONE = ("status_code", "error", "key_ids", "response_head", "response_body", "delivery_key")


def test_it_stays_the_same() -> None:
    """Another text, and every outcome that was ever written would count as forged."""
    assert MACS.of_outcome(ROW).hex() == "99895435f05a36b6ab49080fcda90106"
    assert MACS.of_outcome(attempt()).hex() == "5c9b5873c8aa739af4cd6e7a77a93b9e"


def test_every_field_but_the_tick_is_covered() -> None:
    changed = [ROW._replace(**{name: value}) for name, value in OTHER.items()]
    nothing: dict[str, Any] = dict.fromkeys(MAY_BE_NONE)
    changed += [ROW._replace(**{name: value}) for name, value in nothing.items()]
    assert len({MACS.of_outcome(row) for row in (ROW, *changed)}) == 1 + len(OTHER) + len(MAY_BE_NONE)
    assert {*AttemptRow._fields} - OTHER.keys() == {"tick"}
    assert MACS.of_outcome(ROW._replace(tick=99)) == MACS.of_outcome(ROW)


def test_what_the_driver_reads_has_the_same() -> None:
    assert MACS.of_outcome(ROW._replace(route_id=asyncpg.pgproto.pgproto.UUID(ROW.route_id.bytes))) == MACS.of_outcome(
        ROW
    )


def test_another_key_makes_another() -> None:
    assert LogMacs(b"o" * KEY_BYTES).of_outcome(ROW) != MACS.of_outcome(ROW)
    with pytest.raises(ValueError, match="32 bytes"):
        LogMacs(b"short")


@pytest.mark.parametrize("table", RequestTable)
def test_every_value_of_a_request_is_covered(table: RequestTable) -> None:
    values = [f"{place}" for place in range(len(COVERED[table]))]
    changed: list[Sequence[object]] = [[*values[:place], None, *values[place + 1 :]] for place in range(len(values))]
    assert len({MACS.of_request(table, each) for each in [values, *changed]}) == len(values) + 1
    assert len({MACS.of_request(each, values) for each in RequestTable}) == 2


@pytest.mark.parametrize("table", RequestTable)
async def test_a_request_says_all_that_never_changes(database: Database, table: RequestTable) -> None:
    """What is not covered: marks of the cluster, what a replay has come to, and what is made of the rest."""
    async with database.connection() as connection:
        columns = await connection.fetch(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = 'hookledger' AND table_name = $1",
            table.value,
        )
    changing = {"txid", "seal", "mac"}
    if table is RequestTable.REPLAY:
        changing |= {"ended_txid", "ended_seal", "ended_at", "state", "detail", "scheduled", "withdrawn", "shard"}
    assert {row["column_name"] for row in columns} - changing == set(COVERED[table])
