"""Expressions of merchants: JMESPath defines their results; their cost and their failures are ours."""

import json
import math
import re
import time
import tracemalloc
from typing import Any
from unittest import mock

import jmespath
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jmespath.functions import Functions, signature
from jmespath.visitor import TreeInterpreter

from daemon.core.webhook import dialect, json_values
from daemon.core.webhook.expression import (
    MAX_EXPRESSION_BYTES,
    MAX_KEPT_PARTS,
    ExpressionError,
    OverBudget,
    StepAllowance,
    TooHeavy,
    evaluate,
    filter_steps,
    only_picks,
    problem,
    transform_steps,
)
from daemon.core.webhook.json_values import Json, PublishedNumber
from tests.support.values.expressions import expressions, well_formed

SMALL: dict[str, Any] = {"a": [1, 2, {"b": "x"}], "b": {"a": 1.5, "b": None, "type": True}, "id": "evt", "type": ""}


def of(expression: str, value: object = SMALL) -> Json:
    return evaluate(expression, read(value), steps=transform_steps(len(json.dumps(value))))


def read(value: object) -> Json:
    """The value as it is read from an event."""
    return json_values.read(json.dumps(value))


def as_floats(value: object) -> object:
    """The value with floats for decimals, as jmespath computes."""
    if isinstance(value, dict):
        return {key: as_floats(part) for key, part in value.items()}
    if isinstance(value, list):
        return [as_floats(part) for part in value]
    if isinstance(value, bool) or not isinstance(value, (PublishedNumber, int)):
        return value
    try:
        return float(value)
    except OverflowError:  # of an integer; a decimal becomes infinity by itself
        return math.inf if value > 0 else -math.inf


def is_close(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(is_close(part, other[key]) for key, part in one.items())
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(is_close, one, other))
    return type(one) is type(other) and one == other


def failure(expression: str, value: object = SMALL) -> str:
    with pytest.raises(ExpressionError) as raised:
        of(expression, value)
    return str(raised.value)


def filled(unit: str, separator: str, *, around: str = "{}") -> str:
    """As many copies of `unit` as an expression may hold."""
    available = MAX_EXPRESSION_BYTES - len(around)
    return around.format(separator.join([unit] * (available // (len(unit) + len(separator)))))


any_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
    max_leaves=8,
)


def told_apart(value: Any) -> Any:
    """A value of which Python takes no other one for equal that JSON does not."""
    if isinstance(value, dict):
        return {key: told_apart(part) for key, part in value.items()}
    return [*map(told_apart, value)] if isinstance(value, list) else (isinstance(value, bool), value)


SAME_IN_JSON = {
    "eq": lambda one, other: told_apart(one) == told_apart(other),
    "ne": lambda one, other: told_apart(one) != told_apart(other),
}


class FunctionsOfJson(Functions):
    """Those of jmespath, which takes true for 1 within lists and objects."""

    @signature({"types": ["array", "string"]}, {"types": []})
    def _func_contains(self, subject: Any, search: Any) -> bool:
        return search in subject if isinstance(subject, str) else told_apart(search) in map(told_apart, subject)


@pytest.mark.parametrize(
    ("expression", "value", "is_true"),
    [
        ("contains(@, `true`)", [1, 1.0], False),
        ("contains(@, `0`)", [False, ""], False),
        ("contains(@, `1.0`)", [True, 1], True),
        ("contains(@, `[true]`)", [[1], [True]], True),
        ("contains(@, `[true]`)", [[1]], False),
        ("contains(@, 'a')", ["b", "a"], True),
        ("contains(@, 'a')", "ab", True),
        ("contains(@, `null`)", [None], True),
        ("[0] == [1]", [[1], [True]], False),
        ("[0] != [1]", [{"a": [0]}, {"a": [False]}], True),
        ("[0] == [1]", [{"a": [False], "b": 1}, {"b": 1.0, "a": [False]}], True),
        ("[0] == `true`", [1], False),
        ("@ == `1.0`", 1, True),
    ],
)
def test_true_is_not_one_and_false_is_not_zero(expression: str, value: object, is_true: bool) -> None:
    assert of(expression, value) is is_true


@settings(max_examples=150)
@given(well_formed, any_values)
def test_a_result_is_the_one_of_jmespath(expression: str, value: object) -> None:
    assume(problem(expression) is None)
    try:
        found = of(expression, value)
    except ExpressionError:
        return
    try:
        with mock.patch.dict(TreeInterpreter.COMPARATOR_FUNC, SAME_IN_JSON):
            expected = jmespath.search(expression, value, jmespath.Options(custom_functions=FunctionsOfJson()))
    except (ArithmeticError, ValueError):
        return  # Python's floats end where decimals do not
    if "'nan'" in expression or "'inf'" in expression or "1e999" in expression:
        return  # no numbers of JSON, or none of Python's: see the tests of each
    assert is_close(as_floats(found), as_floats(expected))


@settings(max_examples=150)
@given(expressions, any_values)
def test_no_expression_fails_in_another_way(expression: str, value: object) -> None:
    reason = problem(expression)
    if reason is None:
        failed = ""
        try:
            of(expression, value)
        except ExpressionError as error:
            failed = str(error)
        assert failed == "" or failed.startswith("failed: ")
        assert len(failed) < 400
    else:
        assert reason
        assert "\n" not in reason
        assert len(reason) < 400
        with pytest.raises(ExpressionError):
            of(expression, value)


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("", "cannot be empty"),
        (" ", "no JMESPath expression"),
        ("a.", "no JMESPath expression"),
        ("[", "no JMESPath expression"),
        ("a b", "Parse error at column 2"),
        ("(((", "is no JMESPath expression: Incomplete expression"),
        ("a = b", "is no JMESPath expression: Unknown token '='"),
        ("map(&{n: lenght(@)}, a)", "calls lenght(), which is no function of JMESPath: did you mean length()?"),
        ("no_such(a)[]", "calls no_such(), which is no function of JMESPath"),
        ("a || length()", "calls length() with 0 arguments, and it takes 1"),
        ("not_null()", "calls not_null() with 0 arguments, and it takes at least 1"),
        ("contains(a)", "calls contains() with 1 arguments, and it takes 2"),
        ("'", "no JMESPath expression"),
        ("`", "no JMESPath expression"),
        ("\ud800", "half a character"),
        ("x" * (MAX_EXPRESSION_BYTES + 1), "more than 4096 bytes"),
        ("é" * (MAX_EXPRESSION_BYTES // 2 + 1), "more than 4096 bytes"),
        ("(" * 4096, "nested too deeply"),
        ("!" * 4095 + "a", "nested too deeply"),
        ("!" * 150 + "a", "nested too deeply"),
        (filled("a", "|"), "nested too deeply"),
        (filled("a", "||"), "nested too deeply"),
        ("@" + "[]" * 2000, "nested too deeply"),
        ("*" + ".*" * 2000, "nested too deeply"),
        ("[" * 101 + "@" + "]" * 101, "nested too deeply"),
        ("`" + "[" * 1000 + "]" * 1000 + "`", "nested too deeply"),
    ],
)
def test_what_is_no_expression_is_refused_with_its_reason(expression: str, words: str) -> None:
    assert words in (problem(expression) or "")
    assert words in failure(expression)


@pytest.mark.parametrize(
    "expression",
    ["merge(a, b, c)", "a[1:].length(@)", '`{"type": "function_expression", "value": "x"}`', "map(&x, a)"],
)
def test_calls_that_may_go_well_are_not_refused(expression: str) -> None:
    assert problem(expression) is None


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which expressions are compiled from now on."""
    texts, compile_ = [], dialect.compiled

    def counted(text: str) -> Any:
        texts.append(text)
        return compile_(text)

    monkeypatch.setattr(dialect, "compiled", counted)
    return texts


def test_an_expression_is_compiled_once(compiled: list[str]) -> None:
    text = "a.b.c || 'compiled by no other test'"
    assert problem(text) is None
    for _ in range(3):
        of(text)
    assert compiled == [text]


def test_as_many_expressions_stay_compiled_as_their_trees_have_room(compiled: list[str]) -> None:
    used, *others = [f"[{'*,' * 1000}k{number}]" for number in range(3 * MAX_KEPT_PARTS // 9000)]
    for other in others:
        of(used)
        of(other)
    assert sorted(compiled) == sorted([used, *others])
    of(others[-1])
    assert len(compiled) == len(others) + 1
    of(others[0])  # has gone
    assert compiled[-1] == others[0]


@pytest.mark.parametrize(
    "expression",
    [
        "x" * MAX_EXPRESSION_BYTES,
        ".".join(["a"] * 2000),
        "||".join(f"type=='t{number}'" for number in range(90)),
        "(" * 99 + "a" + ")" * 99,
        "[" * 50 + "@" + "]" * 50,
        "@" + "[0]" * 1300,
        "[" + ",".join(["a"] * 2000) + "]",
    ],
)
def test_what_is_long_but_not_deep_is_fine(expression: str) -> None:
    assert problem(expression) is None
    of(expression)


def test_what_is_too_deep_does_not_depend_on_the_depth_of_the_callers_stack() -> None:
    def deeper(frames: int, expression: str, value: object) -> str | None:
        if frames:
            return deeper(frames - 1, expression, value)
        try:
            of(expression, value)
        except ExpressionError as error:
            return str(error)
        return None

    nested: Any = 1
    for _ in range(250):
        nested = [nested]
    far = 1500  # many times as far as any caller of ours is
    both = "!(" * 97 + "@ == @" + ")" * 97
    for expression in ("!" * 90 + "a", "(" * 99 + "@" + ")" * 99, "||".join(["a"] * 95), "@ == @", both):
        assert deeper(0, expression, nested) is None
        assert deeper(far, expression + " ", nested) is None  # with a blank, so that it is not cached
    for _ in range(50):
        nested = [nested]
    assert deeper(far, "@ == @", nested) is None
    assert deeper(0, "[@] == @", nested) == deeper(far, "[@] == @", nested) == "failed: a value is nested too deeply"


@pytest.mark.parametrize(
    ("expression", "words"),
    [
        ("sum(id)", "In function sum(), expected array-number, received string"),
        ("length(`1`)", "In function length(), expected string or array or object, received number"),
        ("sort_by(a, &b)", "In function sort_by()"),
        ("a[::0]", "slice step cannot be zero"),
        ("'x' < `1`", "< compares a text with a number: make a number of the text with to_number()"),
        ("`2` >= 'x'", ">= compares a text with a number"),
        ("contains('a', `1`)", "a function or an operator cannot work with the values of this event"),
        ('max_by(`[{"a": "x"}, {"a": 1}]`, &a)', "a function or an operator cannot work with the values of this event"),
        ("sum(['a'])", "In function sum(), expected array-number, received string"),
        ('sort(`[1, "a"]`)', "In function sort(), expected array-string or array-number, received"),
        ("join('a', `[1]`)", "In function join(), expected array-string, received number"),
        ("sum(`[1e9999,1e-9999]`)", "a sum needs more than 5000 digits"),
        ("sum(`[1e9999999999999999999]`)", "a number is too large"),
        ("sum(`[1e9999999999999999999,-1e9999999999999999999]`)", "a number is too large"),
        ("&a", "expression reference"),
        ("to_string(&a)", "expression reference"),
        ("to_string([&a])", "expression reference"),
        ("type(&a)", "expression reference"),
        ("[&a] == [&b]", "expression reference"),
        ("map(&(&a), a)", "expression reference"),
    ],
)
def test_a_failure_says_why(expression: str, words: str) -> None:
    assert words in failure(expression)


PYTHON = re.compile(r"'(str|int|float|list|dict|NoneType|bool)'|instances of|object is not|\b(str|int|dict|NoneType)\b")


@pytest.mark.parametrize("value", ["`1`", "'a'", "`null`", "`true`", '`[1, "a", null]`', '`{"a": 1}`', "&a"])
@pytest.mark.parametrize(
    "form",
    ["{0} < 'a'", "{0} >= `1`", "contains({0}, {0})", "contains('a', {0})", "sort([{0}, 'a'])", "max([{0}, `1`])",
     "sum([{0}])", "join({0}, [{0}])", "reverse({0})", "sort_by([{{a: {0}}}, {{a: `1`}}], &a)",
     "min_by([{{a: {0}}}, {{a: 'x'}}], &a)", "merge({0})", "abs({0})", "to_number({0})", "starts_with({0}, 'a')",
     "length({0})", "map({0}, [@])", "keys({0})", "not_null({0})", "avg([{0}])", "[0:1:0]"],
)  # fmt: skip
def test_no_failure_is_told_in_the_words_of_python(form: str, value: str) -> None:
    told = ""
    try:
        of(form.format(value), ["a"])
    except ExpressionError as error:
        told = str(error)
    assert PYTHON.search(told) is None


def test_text_beside_what_is_no_number_has_no_order_and_is_no_failure() -> None:
    for other in ("`null`", "`true`", "`[1]`", "`{}`"):
        assert evaluate(f"'a' < {other}", None, steps=100) is None


def test_a_failure_does_not_repeat_the_value_that_caused_it() -> None:
    assert "secret" not in failure("abs(@)", {"password": "secret"})
    assert len(failure("abs(@)", ["x" * 100_000])) < 200


def test_references_are_for_the_functions_that_take_them() -> None:
    people = {"p": [{"n": "b", "a": 2}, {"n": "a", "a": 1}]}
    assert of("sort_by(p, &n)[0].a", people) == 1
    assert of("map(&a, p)", people) == [2, 1]
    assert of("max_by(p, &a).n", people) == "b"
    assert of("min_by(p, &a).n", people) == "a"


BOMBS = {
    "doubling": "|".join(["[@,@]"] * 90),
    "doubling in objects": "|".join(["{a:@,b:@}"] * 90),
    "doubling and writing": "|".join(["[@,@]"] * 60) + "|to_string(@)",
    "doubling and comparing": f"[{'|'.join(['[@,@]'] * 45)},{'|'.join(['[@,@]'] * 45)}] | [0] == [1]",
    "doubling flat": "|".join(["[@,@][]"] * 45),
    "flattening wide": "a|[" + "@," * 2000 + "@][]",
    "escaping": "|".join(["to_string([@,@,@,@])"] * 30),
    "joining": "|".join(["join('',[@,@])"] * 30),
    "joining far apart": "length(join(s || [0], map(&'', a || @)))",
    "nesting loops": "[@,@,@,@,@,@,@,@]" + "|[@,@,@,@,@,@,@,@]" * 5 + "[][][][][].[@,@]",
    "mapping loops": "a[*].[@,@,@,@]|map(&map(&sort_by(@,&@),@),[@,@,@,@])",
    "sorting": filled("sort(a)", ",", around="[{}]"),
    "searching": filled("contains(s,'y')", ",", around="[{}]"),
    "reversing": filled("reverse(s)", ",", around="[{}]"),
    "slicing": filled("a[:]", ",", around="[{}]"),
    "merging": filled("merge(o,o)", ",", around="[{}]"),
    "listing": filled("values(o)", ",", around="[{}]"),
    "comparing": filled("a==b", ",", around="[{}]"),
    "filtering": "a[?" + "||".join(["@==`2`"] * 90) + "]",
    "summing": filled("sum(a)", ",", around="[{}]"),
    "summing far apart": "map(&sum([`1e4990`,`1`]),a)",
    "averaging without an end": "map(&avg(`[1,1,2]`),a)",
    "comparing far apart": "a[?`1e999999999999999999` > @ && `1e-999999999999999999` < @]",
    "rounding far away": "map(&ceil(`1.5e999999999999999999`),a)",
}
LARGE: dict[str, Any] = {
    "a": [1] * 30_000,
    "b": [1] * 30_000,
    "s": "x" * 60_000,
    "o": {f"k{number}": number for number in range(3_000)},
}


@pytest.mark.parametrize("expression", BOMBS.values(), ids=BOMBS)
def test_an_expression_that_explodes_is_stopped_early(expression: str) -> None:
    assert problem(expression) is None
    for value in (LARGE, LARGE["a"], '"\\'):
        started = time.process_time()
        assert len(written(expression, value)) < 4_000_000
        assert time.process_time() - started < 2  # 0.1 s when nothing else runs; without a bound, years


@pytest.mark.parametrize(
    "name", ["doubling and writing", "doubling flat", "flattening wide", "joining", "joining far apart", "slicing"]
)
def test_an_expression_that_explodes_does_not_fill_the_memory(name: str) -> None:
    tracemalloc.start()
    written(BOMBS[name], ["x" * 10_000, *range(5_000)])
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 32_000_000


def written(expression: str, value: object) -> str:
    try:
        return json_values.compact(of(expression, value))
    except ExpressionError:
        return ""


def test_a_large_event_of_the_usual_kind_can_be_given_new_names_and_filtered() -> None:
    items = {"items": [{"sku": f"A-{n}", "quantity": n, "price": "1.10", "tags": ["a", "b"]} for n in range(3_000)]}
    renamed = of("items[*].{id: sku, count: quantity, cost: price, first: tags[0]}", items)
    assert isinstance(renamed, list)
    assert len(renamed) == 3_000
    assert of("length(items[?quantity >= `1500`])", items) == 1_500
    assert of("sum(items[*].quantity)", items) == sum(range(3_000))
    assert of("contains(items[*].sku, 'A-7')", items) is True


def test_what_is_not_compiled_yet_is_compiled_within_an_allowance(compiled: list[str]) -> None:
    text = "id || [" + "*, " * 1000 + "'allowed']"
    for function in (evaluate_within, only_picks):
        poor = StepAllowance(steps=len(text) // 4, document_bytes=1000)
        with pytest.raises(TooHeavy):
            function(text, allowance=poor)
        assert poor.steps == 0
    assert not compiled
    rich = StepAllowance(steps=len(text), document_bytes=1000)
    assert evaluate_within(text, allowance=rich) == "evt_1"
    left, rich.steps = rich.steps, 10
    assert len(text) // 2 < left < len(text)
    assert evaluate_within(text, allowance=rich) == "evt_1"
    assert compiled == [text]


def evaluate_within(text: str, *, allowance: StepAllowance) -> Json:
    return evaluate(text, {"id": "evt_1"}, steps=1000, allowance=allowance)


@settings(max_examples=150)
@given(well_formed, any_values, st.integers(0, 60))
def test_an_allowance_changes_where_an_expression_is_evaluated_and_never_its_result(
    expression: str, value: object, left: int
) -> None:
    assume(problem(expression) is None)

    def outcome(**more: Any) -> str:
        try:
            return repr(evaluate(expression, read(value), steps=1000, **more))
        except ExpressionError as error:
            return str(error)

    allowance = StepAllowance(steps=left, document_bytes=1000)
    try:
        found = outcome(allowance=allowance)
    except TooHeavy:
        assert allowance.steps == 0
        return
    assert 0 <= allowance.steps <= left
    assert found == outcome()


def test_the_expressions_of_one_event_use_up_one_allowance() -> None:
    allowance = StepAllowance(steps=100, document_bytes=1000)
    for _ in range(3):
        evaluate("a[*].b.c", read(SMALL), steps=1000, allowance=allowance)
    assert 0 < allowance.steps < 90
    with pytest.raises(TooHeavy):
        for _ in range(30):
            evaluate("a[*].b.c", read(SMALL), steps=1000, allowance=allowance)


def test_beyond_its_budget_an_expression_fails_even_where_more_would_be_allowed() -> None:
    with pytest.raises(OverBudget, match="it takes too many steps for an event of this size"):
        evaluate("a[*].b.c", read(SMALL), steps=5, allowance=StepAllowance(steps=1000, document_bytes=1000))


def test_a_filter_may_read_every_line_of_a_large_event() -> None:
    items = {"items": [{"sku": f"A-{n}", "quantity": n, "price": "1.10", "tags": ["a", "b"]} for n in range(3_000)]}
    steps = filter_steps(len(json.dumps(items)))
    assert evaluate("length(items[?quantity >= `1500`])", read(items), steps=steps) == 1_500
