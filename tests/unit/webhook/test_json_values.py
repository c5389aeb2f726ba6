"""Values of expressions: what is only picked keeps its text, numbers are decimals, and what is computed is exact."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.core.routing.route import PayloadOptions
from daemon.core.webhook import json_values
from daemon.core.webhook.payload import EventFilters, PayloadEvent, RenderError, render
from tests.support.values.expressions import well_formed
from tests.support.values.published_json import objects

ODD = (
    '{"total":19.90,"p":123456789012345678.123456789,"big":123456789012345678901234567890,"zero":-0,"e":1E400,'
    '"far":1e99999999999999999999,"near":-1e-99999999999999999999,"s":"\\u00e9\\/\\ud83d","n":[ 0.10 , 1e2],'
    '"twice":{"a":1.0,"a":2.0,"b":[]}}'
)


TRANSFORMS = (
    "{t: data.object.total, a: data.object.a, all: data.object.*}",
    "[data.object.*, data.object.* | [0]]",
    "data.object.*[]",
    "merge(data.object, {x: data.object.b})",
    "data.object.*.{a: a, b: b}",
    "[keys(data.object), values(data.object)]",
)


def event(data: str) -> PayloadEvent:
    created = datetime(2026, 11, 23, tzinfo=UTC)
    return PayloadEvent(
        event_id="evt_1", event_type="order.create", created=created, data=data.encode(), context=None, snapshot=None
    )


def made(transform: str, data: str = ODD) -> str:
    return render(event(data), PayloadOptions(transform=transform), max_bytes=262_144).decode()


def passes(test: str, data: str = ODD) -> bool:
    return EventFilters(event(data)).holds(test)


@given(objects)
def test_what_was_published_is_what_is_picked_to_the_byte(data: str) -> None:
    assert made("data.object", data) == data
    assert made("@", data) == render(event(data), PayloadOptions(), max_bytes=262_144).decode()


@settings(max_examples=200)
@given(objects, well_formed | st.sampled_from(TRANSFORMS))
def test_a_body_is_the_same_whether_its_text_was_needed_or_not(data: str, transform: str) -> None:
    def result() -> str:
        try:
            return made(transform, data)
        except RenderError as error:
            return str(error)

    quick = result()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(json_values, "needs_document", lambda *_: True)
        assert result() == quick


@given(objects)
def test_both_ways_of_reading_give_the_same_values(text: str) -> None:
    assert json_values.document(text) == json_values.read(text)


@pytest.mark.parametrize(
    ("transform", "expected"),
    [
        ("data.object.total", "19.90"),
        ("data.object.p", "123456789012345678.123456789"),
        ("data.object.[big, zero, e]", "[123456789012345678901234567890,-0,1E400]"),
        ("data.object.[far, near]", "[1e99999999999999999999,-1e-99999999999999999999]"),
        ("{s: data.object.s}", '{"s":"\\u00e9\\/\\ud83d"}'),
        ("data.object.n", "[ 0.10 , 1e2]"),
        ("data.object.n[*]", "[0.10,1e2]"),
        ("data.object.twice", '{"a":1.0,"a":2.0,"b":[]}'),
        ("data.object.twice.a", "2.0"),
        ("merge(data.object.twice, {c: data.object.total})", '{"a":2.0,"b":[],"c":19.90}'),
        ("max(data.object.[total, p, e])", "1E400"),
        ("min(data.object.[total, zero])", "-0"),
        ("sort(data.object.[e, total, zero])", "[-0,19.90,1E400]"),
        ("sort_by([{n: data.object.e}, {n: data.object.total}], &n)[0]", '{"n":19.90}'),
        ("not_null(data.object.none, data.object.total)", "19.90"),
        ("to_number(to_string(data.object.total))", "19.90"),
        ("to_number('1E400')", "1E400"),
        ("to_number('nan')", "null"),
        ("to_number('inf')", "null"),
        ("to_number('1_000')", "null"),
        ("[`1e999`, `19.90`]", "[1e999,19.90]"),
        ("to_string(data.object.n)", '"[0.10,1e2]"'),
        ("abs(`-19.90`)", "19.90"),
        ("abs(data.object.zero)", "0"),
        ("[ceil(`19.90`), floor(`-19.90`), ceil(`-0.5`), ceil(`1e999`)]", "[20,-20,0,1e999]"),
        ("sum(`[0.1, 0.2]`)", "0.3"),
        ("sum(`[]`)", "0"),
        ("sum(data.object.[total, p])", "123456789012345698.023456789"),
        ("sum(`[123456789012345678901234567890, 1]`)", "123456789012345678901234567891"),
        ("avg(`[1, 2]`)", "1.5"),
        ("avg(`[1, 1, 2]`)", "1.333333333333333333333333333333333"),
        ("avg(`[19.90, 20.10]`)", "20.00"),
        (
            "avg(`[123456789012345678901234567890123456789012345678, 1]`)",
            "61728394506172839450617283945061728394506172839.5",
        ),
        ("type(data.object.total)", '"number"'),
        ("length(data.object.n)", "2"),
        ("join(',', data.object.twice.keys(@))", '"a,b"'),
        ("!(data.object.zero)", "false"),
    ],
)
def test_a_number_or_text_that_is_picked_keeps_its_text_and_what_is_computed_is_exact(
    transform: str, expected: str
) -> None:
    assert made(transform) == expected


@pytest.mark.parametrize(
    "test",
    [
        "data.object.total >= `19.90`",
        "data.object.total == `19.9`",
        "data.object.total == `1.99e1`",
        "!(data.object.total > `19.90`)",
        "sum(`[0.1, 0.2]`) == `0.3`",
        "data.object.p > `123456789012345678.123456788`",
        "data.object.p != `123456789012345678.12345678`",
        "data.object.big == `123456789012345678901234567890`",
        "data.object.big != `123456789012345678901234567891`",
        "data.object.zero == `0`",
        "data.object.e > `1e399`",
        "data.object.far > data.object.e",
        "data.object.n == `[0.1, 100]`",
        "data.object.n[?@ == `100`]",
        "contains(data.object.n, `100.0`)",
        "`1.0` != `true`",
        "contains([data.object.total], `19.9`)",
    ],
)
def test_a_filter_compares_decimals_as_decimals(test: str) -> None:
    assert passes(test)


def test_half_a_character_goes_out_as_it_was_published_and_not_joined_to_another() -> None:
    assert made("data.object.s") == '"\\u00e9\\/\\ud83d"'
    with pytest.raises(RenderError, match="JSON cannot hold"):
        made("join('', [data.object.s, 'x'])")


def test_picking_a_large_part_many_times_fails_before_it_is_written() -> None:
    blank = f'{{"a":{{"b":1{" " * 200_000}}}}}'
    with pytest.raises(RenderError, match="more than the 262144 bytes that are allowed"):
        made(f"[{','.join(['data.object.a'] * 200)}]", blank)


def test_a_number_weighs_what_it_is_long() -> None:
    long = json.dumps({"n": "9"}).replace('"9"', "9" * 100_000)
    with pytest.raises(RenderError, match="too many steps"):
        made(f"[{','.join(['data.object.n'] * 200)}]", long)
    with pytest.raises(RenderError, match="too many steps"):
        passes(f"[{','.join(['data.object.n'] * 200)}]", long)
