"""Conditions on a field of an event's data."""

from __future__ import annotations

import json

import pytest

from daemon.core.events import field_condition
from daemon.core.events.field_condition import FieldCondition

DATA = (
    b'{"public_id": "7dc6", "total": 19.90, "paid": true, "note": null, "lines": [{"sku": "a b"}], "caf\\u00e9": '
    b'"cr\\u00e8me", "big": 123456789012345678901234567890, "of": {"total": {"x": 1}}}'
)


@pytest.mark.parametrize(
    "text",
    [
        "data.object.public_id = 7dc6",
        "data.object.public_id=7dc6",
        '  data.object.public_id = "7dc6" ',
        "data.object.total = 19.90",
        "data.object.paid = true",
        "data.object.note = null",
        "data.object.lines.0.sku = a b",
        "data.object.café = crème",
        "data.object.big = 123456789012345678901234567890",
    ],
)
def test_a_value_that_is_there_is_found(text: str) -> None:
    condition = field_condition.parse(text)
    assert condition.holds(DATA)
    assert any(needle in DATA for needle in condition.needles)


@pytest.mark.parametrize(
    "text",
    [
        "data.object.public_id = 7DC6",
        "data.object.total = 19.9",
        "data.object.paid = True",
        "data.object.lines.1.sku = a b",
        "data.object.lines.sku = a b",
        "data.object.of.total = 1",
        "data.object.public_id.x = 7dc6",
        "data.object.nothing = null",
    ],
)
def test_another_value_is_not(text: str) -> None:
    assert not field_condition.parse(text).holds(DATA)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "must name a field and its value"),
        ("public_id = 7dc6", "must begin with data.object"),
        ("data.public_id = 7dc6", "must begin with data.object"),
        ("data = 7dc6", "must begin with data.object"),
        ("data.object = 7dc6", "must name a field and its value"),
        ("data.object..x = 7dc6", "must name a field and its value"),
        ("data.object.public_id", "must name a field and its value"),
        ("data.object.public_id = ", "must have a value"),
        ("data.object.public_id = a\0b", "must have a value"),
        ("data.object.a.b.c.d.e.f.g.h.i.j.k = 1", "10 names"),
        ("data.object.x = " + "a" * 600, "512 characters"),
    ],
)
def test_what_is_no_condition_is_refused_with_an_example_or_a_limit(text: str, reason: str) -> None:
    assert reason in str(field_condition.problem(text))


def test_what_it_says_of_itself_is_the_same_condition() -> None:
    condition = FieldCondition(steps=("lines", "0", "sku"), text="a = b")
    assert field_condition.parse(condition.written) == condition


@pytest.mark.parametrize("data", [b"[1]", b'"7dc6"', b"7", b"null", b"[" * 5000 + b"]" * 5000])
def test_data_of_another_form_never_fits(data: bytes) -> None:
    assert not FieldCondition(steps=("public_id",), text="7dc6").holds(data)


def test_every_text_that_an_encoder_escapes_is_still_looked_into() -> None:
    for text in ('"', "\\", "/", "<", "é", "\n", "\U0001f600"):
        condition = FieldCondition(steps=("x",), text=text)
        for data in (json.dumps({"x": text}).encode(), json.dumps({"x": text}, ensure_ascii=False).encode()):
            assert any(needle in data for needle in condition.needles)
            assert condition.holds(data)
