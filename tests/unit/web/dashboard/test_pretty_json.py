from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.web.dashboard.html.text import MAX_INDENT, pretty_json

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)
ENOUGH = 1_000_000


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("{}", ["{}"]),
        ("[ ]", ["[]"]),
        ("1.10", ["1.10"]),
        ('"a b"', ['"a b"']),
        (
            '{"price":1.10,"big":123456789012345678901234567890,"e":1E400,"twice":1,"twice":2}',
            [
                "{",
                '  "price": 1.10,',
                '  "big": 123456789012345678901234567890,',
                '  "e": 1E400,',
                '  "twice": 1,',
                '  "twice": 2',
                "}",
            ],
        ),
        ('{"a":[{},[1,\n 2]],"b":null}', ["{", '  "a": [', "    {},", "    [", "      1,", "      2", "    ]", "  ],", '  "b": null', "}"]),
        (r'{"q\"u{o,t}e":"\\","\u00fc\ud83d":":"}', ["{", r'  "q\"u{o,t}e": "\\",', r'  "\u00fc\ud83d": ":"', "}"]),
    ],
)  # fmt: skip
def test_each_member_has_a_line_and_each_value_is_unchanged(text: str, lines: list[str]) -> None:
    assert pretty_json(text, max_characters=ENOUGH).split("\n") == lines


@given(VALUES, st.sampled_from([None, 0, 3]), st.booleans())
def test_it_says_the_same_as_before(value: Any, indent: int | None, is_ascii: bool) -> None:
    assert pretty_json(json.dumps(value, indent=indent, ensure_ascii=is_ascii), max_characters=ENOUGH) == json.dumps(
        value, indent=2, ensure_ascii=is_ascii
    )


@given(VALUES, st.integers(0, 200))
def test_it_ends_soon_after_there_is_enough(value: Any, most: int) -> None:
    text = json.dumps(value)
    whole, cut = pretty_json(text, max_characters=ENOUGH), pretty_json(text, max_characters=most)
    assert whole.startswith(cut)
    assert len(cut) > most or cut == whole


@pytest.mark.parametrize("text", ["", "no JSON", '{"a":', "{'a': 1}", '{"a": 1} {', "\ufffd"])
def test_what_is_no_json_comes_back_as_it_is(text: str) -> None:
    assert pretty_json(text, max_characters=ENOUGH) == text


def test_a_long_text_that_is_not_json_is_cut_one_character_behind_the_limit() -> None:
    assert pretty_json("x" * 1000, max_characters=10) == "x" * 11


def test_what_is_deep_is_not_indented_without_end() -> None:
    depth = 200
    lines = pretty_json("[" * depth + "]" * depth, max_characters=ENOUGH).split("\n")
    assert max(len(line) - len(line.lstrip()) for line in lines) == 2 * MAX_INDENT
    assert lines[-1] == "]"


def test_what_is_too_deep_for_a_parser_comes_back_as_it_is() -> None:
    text = "[" * 200_000 + "]" * 200_000
    assert pretty_json(text, max_characters=1000) == text[:1001]
