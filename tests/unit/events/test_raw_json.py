"""Splitting JSON without changing it, compared with json.loads of the whole."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.events import raw_json

BLANKS = st.text(alphabet=" \t\n\r", max_size=3)
numbers = st.one_of(
    st.integers().map(str),
    st.from_regex(r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,2})?", fullmatch=True),
)
strings = st.one_of(
    st.text(max_size=8).map(json.dumps),
    st.text(max_size=8).map(lambda text: json.dumps(text, ensure_ascii=False)),
    st.sampled_from(['"\\u00e9"', '"\\/"', '"\\""', '"\\\\"', '"{"', '"]"', '",:"', '""', '"\\ud83d\\ude00"']),
)
scalars = st.one_of(numbers, strings, st.sampled_from(["true", "false", "null"]))


@st.composite
def arrays(draw: st.DrawFn, inner: st.SearchStrategy[str]) -> str:
    parts = [draw(BLANKS) + part + draw(BLANKS) for part in draw(st.lists(inner, max_size=4))]
    return f"[{','.join(parts) or draw(BLANKS)}]"


@st.composite
def objects(draw: st.DrawFn, inner: st.SearchStrategy[str]) -> str:
    parts = [
        f"{draw(BLANKS)}{draw(strings)}{draw(BLANKS)}:{draw(BLANKS)}{part}{draw(BLANKS)}"
        for part in draw(st.lists(inner, max_size=4))
    ]
    return f"{{{','.join(parts) or draw(BLANKS)}}}"


values = st.recursive(scalars, lambda inner: arrays(inner) | objects(inner), max_leaves=8)


@given(BLANKS, objects(values), BLANKS)
def test_members_are_the_texts_of_what_json_reads(before: str, text: str, after: str) -> None:
    pairs: list[tuple[str, Any]] = json.loads(text, object_pairs_hook=list)
    found = raw_json.members(before + text + after)
    assert [(key, json.loads(raw, object_pairs_hook=list)) for key, raw in found] == pairs
    assert all(raw == raw.strip(" \t\n\r") and raw in text for _, raw in found)


@given(BLANKS, arrays(values), BLANKS)
def test_elements_are_the_texts_of_what_json_reads(before: str, text: str, after: str) -> None:
    found = raw_json.elements(before + text + after)
    assert [json.loads(raw, object_pairs_hook=list) for raw in found] == json.loads(text, object_pairs_hook=list)
    assert all(raw == raw.strip(" \t\n\r") and raw in text for raw in found)


@given(st.lists(st.tuples(st.text(max_size=5), values, BLANKS, BLANKS), max_size=5))
def test_the_pieces_are_exactly_those_that_were_put_together(parts: list[tuple[str, str, str, str]]) -> None:
    text = "{" + ",".join(f"{a}{json.dumps(key)}{b}:{a}{raw}{b}" for key, raw, a, b in parts) + "}"
    assert raw_json.members(text) == [(key, raw) for key, raw, _, _ in parts]
    text = "[" + ",".join(f"{a}{raw}{b}" for _, raw, a, b in parts) + "]"
    assert raw_json.elements(text) == [raw for _, raw, _, _ in parts]


def test_what_a_producer_wrote_survives_to_the_letter() -> None:
    text = '{ "big" : 123456789012345678901234567890 ,"d":1.10,"e":1E+2,"d":-0.0, "\\u0064": "caf\\u00e9\\/" , "o":{"b" :1, "a":2 } }'
    assert raw_json.members(text) == [
        ("big", "123456789012345678901234567890"),
        ("d", "1.10"),
        ("e", "1E+2"),
        ("d", "-0.0"),
        ("d", '"caf\\u00e9\\/"'),
        ("o", '{"b" :1, "a":2 }'),
    ]


def test_a_number_of_any_length_is_cut_out_and_never_converted() -> None:
    number = "9" * 100_000
    assert raw_json.members(f'{{"n": {number}}}') == [("n", number)]
    assert raw_json.elements(f"[{number},{number}.5]") == [number, f"{number}.5"]


@pytest.mark.parametrize("text", ["[]", "1", '"{}"', "null", "", "  "])
def test_anything_but_an_object_has_no_members(text: str) -> None:
    with pytest.raises(ValueError, match="not a JSON object"):
        raw_json.members(text)


@pytest.mark.parametrize("text", ["{}", "1", '"[]"', "null", "", "  "])
def test_anything_but_an_array_has_no_elements(text: str) -> None:
    with pytest.raises(ValueError, match="not a JSON array"):
        raw_json.elements(text)


@pytest.mark.parametrize("text", ["{}", " {\n} ", "[]", "\t[ ]\r"])
def test_what_is_empty_has_no_parts(text: str) -> None:
    assert (raw_json.members(text) if "{" in text else raw_json.elements(text)) == []


def test_nesting_too_deep_to_follow_is_a_recursion_error_and_nothing_worse() -> None:
    for opened, closed in (("[", "]"), ('{"a":', "}")):
        nest = opened * 50_000 + "1" + closed * 50_000
        with pytest.raises(RecursionError):
            raw_json.members(f'{{"a":{nest}}}')
        with pytest.raises(RecursionError):
            raw_json.elements(f"[{nest}]")


@pytest.mark.parametrize(("opened", "closed"), [("[", "]"), ('{"a":', "}")])
def test_how_deep_a_stored_text_may_be_is_our_word_and_not_that_of_the_interpreter(opened: str, closed: str) -> None:
    most = raw_json.MAX_STORED_DEPTH
    raw_json.check_stored_depth(opened * most + "1" + closed * most)
    with pytest.raises(RecursionError):
        raw_json.check_stored_depth(opened * (most + 1) + "1" + closed * (most + 1))


def test_many_lists_side_by_side_and_brackets_within_strings_are_not_deep() -> None:
    raw_json.check_stored_depth("[" + ",".join(["[]"] * 2 * raw_json.MAX_STORED_DEPTH) + "]")
    raw_json.check_stored_depth(
        json.dumps(["[{" * raw_json.MAX_STORED_DEPTH, '"\\"' + "[" * raw_json.MAX_STORED_DEPTH])
    )
    with pytest.raises(RecursionError):
        raw_json.check_stored_depth(
            '["' + "]" * 2000 + '",' + "[" * raw_json.MAX_STORED_DEPTH + "]" * raw_json.MAX_STORED_DEPTH + "]"
        )
