"""The canonical form, written down a second time: an independent verifier must be able to repeat it from the README."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.sealing import canonical, seal
from daemon.core.sealing.canonical import COLUMNS, SealedTable, encode, leaf, leaves, row_entry, text_of
from daemon.core.sealing.seal import SealContent, SealedDay
from daemon.sealing.rows import content_of, row_of

AT = datetime(2026, 11, 23, 8, 0, 0, 1, tzinfo=UTC)
CONTENT = SealContent(
    n=2,
    at=AT,
    origin="hookledger/5b0f/77",
    snap="10:12:11",
    tick=7,
    tick_snap="9:9:",
    route_pos=3,
    route_hash=bytes(32),
    events=(SealedDay(day=date(2026, 11, 22), rows=5, root=b"\x01" * 32), SealedDay(day=date(2026, 11, 23), rows=1, root=b"\x02" * 32)),
    attempts=(),
    ticks=2,
    ticks_root=b"\x03" * 32,
    keys=0,
    keys_root=b"\x04" * 32,
    signatures=3,
    checkpoints=(7, 6),
    events_kept_from=None,
    attempts_kept_from=AT,
    public_key=b"\x05" * 32,
)  # fmt: skip


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        (5, "5"),
        (-5, "-5"),
        ("ü", "ü"),
        (b"\x0a\xff", "0aff"),
        (AT, "1795420800000001"),
        (datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), "-1"),
    ],
)
def test_each_field_of_a_seal_has_its_text(value: int | str | bytes | datetime | None, text: str | None) -> None:
    assert text_of(value) == text


class OtherUuid(UUID):
    """As asyncpg has one."""


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, "null"),
        (-(2**63), "-9223372036854775808"),
        (True, "true"),
        ("ü/😀\u2028", '"ü/😀\u2028"'),
        ('"\\\n\x01', r'"\"\\\n\u0001"'),
        (AT, '"2026-11-23T08:00:00.000001Z"'),
        (AT.replace(microsecond=0), '"2026-11-23T08:00:00Z"'),
        (datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC), '"1969-12-31T23:59:59.999999Z"'),
        (UUID(int=7), '"00000000-0000-0000-0000-000000000007"'),
        (OtherUuid(int=7), '"00000000-0000-0000-0000-000000000007"'),
    ],
)
def test_each_kind_of_value_of_a_row_is_written_as_json(value: canonical.SealedValue, written: str) -> None:
    assert row_entry(SealedTable.TICK, [value]).decode() == f'["tick",{written}]'


TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.lists(st.none() | TEXTS | st.integers(-(2**63), 2**63 - 1) | st.booleans()))
def test_a_row_is_written_as_python_writes_it(values: list[canonical.SealedValue]) -> None:
    text = json.dumps(["tick", *values], ensure_ascii=False, separators=(",", ":"))
    assert row_entry(SealedTable.TICK, values).decode() == text


def test_fields_are_written_with_their_length_in_bytes() -> None:
    assert encode(["seal", None, "", "a:b", "ü"]) == b"4:seal~0:3:a:b2:\xc3\xbc"


@given(st.lists(st.none() | st.text()), st.lists(st.none() | st.text()))
def test_different_fields_are_never_written_alike(some: list[str | None], others: list[str | None]) -> None:
    assert (encode(some) == encode(others)) == (some == others)


def test_a_leaf_is_the_hash_of_the_table_and_its_columns() -> None:
    values = (7, "9:9:", AT, 3, AT, None)
    written = b'["tick",7,"9:9:","2026-11-23T08:00:00.000001Z",3,"2026-11-23T08:00:00.000001Z",null]'
    assert leaf(SealedTable.TICK, values) == hashlib.sha256(b"\x00" + written).digest()
    assert len(COLUMNS[SealedTable.TICK]) == len(values)


@given(st.lists(st.tuples(st.none() | TEXTS, st.datetimes(timezones=st.just(UTC)))))
def test_the_leaves_of_many_rows_are_those_of_each(rows: list[tuple[canonical.SealedValue, ...]]) -> None:
    assert list(leaves(SealedTable.TICK, rows)) == [leaf(SealedTable.TICK, row) for row in rows]


def test_a_seal_is_hashed_on_top_of_the_one_before() -> None:
    fields = [
        "seal", "2", "1795420800000001", "hookledger/5b0f/77", "10:12:11", "7", "9:9:", "3", "00" * 32,
        f"2026-11-22 5 {'01' * 32},2026-11-23 1 {'02' * 32}", "", "2", "03" * 32, "0", "04" * 32, "3", "7,6", None,
        "1795420800000001", "05" * 32,
    ]  # fmt: skip
    assert CONTENT.hash(b"before") == hashlib.sha256(b"before" + encode(fields)).digest()


def test_a_seal_of_form_2_says_who_had_deliveries_sent_again_behind_what_one_of_form_1_says() -> None:
    later = replace(CONTENT, **NOTHING | {"resends": CONTENT.events, "losses": CONTENT.events[1:]})
    of_later = [f"2026-11-22 5 {'01' * 32},2026-11-23 1 {'02' * 32}", "", "", f"2026-11-23 1 {'02' * 32}", "", ""]
    fields = ["seal", *CONTENT.texts().values(), *of_later]
    assert (CONTENT.form, later.form) == (1, 2)
    assert later.hash(b"before") == hashlib.sha256(b"before" + encode(fields)).digest()
    assert len(COLUMNS[SealedTable.RESEND]) + len(COLUMNS[SealedTable.REPLAY]) == 9 + 14


NOTHING: dict[str, Any] = dict.fromkeys(("resends", "replays", "replay_ends", "losses", "tokens", "token_ends"), ())
DAYS = st.none() | st.lists(
    st.builds(SealedDay, day=st.dates(), rows=st.integers(0, 2**63 - 1), root=st.binary(min_size=32, max_size=32))
).map(tuple)


@given(st.tuples(*[DAYS] * 6), st.tuples(*[DAYS] * 6))
def test_seals_of_any_form_that_say_different_things_have_different_hashes(
    some: tuple[seal.SealedDays, ...], others: tuple[seal.SealedDays, ...]
) -> None:
    hashes = []
    for each in (some, others):
        named: dict[str, Any] = dict(zip(NOTHING, each, strict=True))
        hashes.append(replace(CONTENT, **named).hash(b""))
    assert (hashes[0] == hashes[1]) == (some == others)


@given(DAYS)
def test_the_days_of_a_table_are_read_back_from_a_row(days: seal.SealedDays) -> None:
    content = replace(CONTENT, **NOTHING | {"resends": days})
    assert content_of(row_of(content, prev_hash=b"", signature=b"")) == content


@pytest.mark.parametrize(
    "text",
    ["x", " ", "2026-11-22 5", f"2026-11-22 5 {'01' * 32},", f"2026-11-22 05 {'01' * 32}", f"20261122 5 {'01' * 32}", f"2026-11-22 5 {'AB' * 32}"],
)  # fmt: skip
def test_a_text_that_we_do_not_write_makes_another_seal(text: str) -> None:
    content = replace(CONTENT, **NOTHING | {"resends": CONTENT.events})
    row = row_of(content, prev_hash=b"", signature=b"")
    assert content_of(replace(row, resends=text)).hash(b"") != row.hash
    assert content_of(row).hash(b"") == row.hash


def test_the_days_of_a_seal_can_be_read_back() -> None:
    texts = CONTENT.texts()
    assert tuple(seal.days_of_text(texts["events"] or "")) == CONTENT.events
    assert list(seal.days_of_text(texts["attempts"] or "")) == []
