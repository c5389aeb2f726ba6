"""The JSON Schema of an example: the example is valid by it, and so is each of its items."""

from __future__ import annotations

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.events.example_schema import MAX_DEPTH, schema_of

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
)


@pytest.mark.parametrize(
    ("value", "schema"),
    [
        ({}, {"type": "object"}),
        ([], {"type": "array"}),
        (None, {"type": "null"}),
        (True, {"type": "boolean"}),
        (1, {"type": "integer"}),
        (1.5, {"type": "number"}),
        ("a", {"type": "string"}),
        ({"total": "9.90"}, {"type": "object", "properties": {"total": {"type": "string"}}}),
        ([1, None], {"type": "array", "items": {"type": ["integer", "null"]}}),
        (
            [{"a": 1}, {"a": "x", "b": [True]}],
            {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "a": {"type": ["integer", "string"]},
                        "b": {"type": "array", "items": {"type": "boolean"}},
                    },
                },
            },
        ),
    ],
)
def test_the_schema_says_which_members_there_are_and_of_which_type(value: object, schema: object) -> None:
    assert schema_of(value) == schema


@given(VALUES)
def test_an_example_is_valid_by_its_own_schema(value: object) -> None:
    jsonschema_rs.validate(schema_of(value), value)


def test_a_deep_example_has_a_schema_that_ends() -> None:
    value: object = 1
    for _ in range(MAX_DEPTH * 2):
        value = [value]
    assert str(schema_of(value)).count("array") == MAX_DEPTH
