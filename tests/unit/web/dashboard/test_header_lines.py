"""Custom headers as lines: written lines are read back unchanged, and concurrent edits are merged."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.web.dashboard.webhook_form.header_lines import MAX_LINES, merged, read, written
from daemon.web.http.shapes import MASK

NAMES = st.from_regex(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,8}", fullmatch=True)
VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E, include_characters="\t"), min_size=1).filter(
    lambda value: value == value.strip() and value not in ("", MASK)
)
FEW = st.sets(st.sampled_from(["X-A", "X-B", "X-C", "x-a"]))


def masked(names: set[str]) -> str:
    return written(dict.fromkeys(sorted(names), MASK))


def wrong(text: str, *, stored: tuple[str, ...] = ()) -> list[str]:
    _, problems = read(text, stored=stored)
    assert {problem.field for problem in problems} <= {"headers"}
    return [problem.message for problem in problems]


@given(st.dictionaries(NAMES, VALUES))
def test_what_is_written_is_read_again(headers: dict[str, str]) -> None:
    assert read(written(headers), stored=()) == (headers, [])


@given(st.sets(NAMES))
def test_a_mask_keeps_the_value_that_is_stored(names: set[str]) -> None:
    assert read(masked(names), stored=names) == (dict.fromkeys(sorted(names)), [])


def test_the_name_of_a_stored_value_may_be_written_in_either_case() -> None:
    assert read(f"x-SHOP: {MASK}", stored=["X-Shop"]) == ({"x-SHOP": None}, [])


def test_blanks_and_empty_lines_mean_nothing_and_a_colon_in_a_value_something() -> None:
    assert read("\n  X-A :  b: c \n\n\tX-B:\td\n", stored=()) == ({"X-A": "b: c", "X-B": "d"}, [])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("X-A", "line 1 is not of the form Name: value"),
        ("X-A: b\n: c", "line 2 is not of the form Name: value"),
        ("X-A: b\nX-A: c", "X-A is given twice"),
        ("X-A:", "X-A has no value: give one, or take the line out"),
        (f"X-A: {MASK}", f"X-A: {MASK} stands for a stored value, and there is none: give the value"),
    ],
)
def test_a_line_that_makes_no_sense_is_reported_with_what_to_do(text: str, message: str) -> None:
    assert wrong(text, stored=("X-B",)) == [message]


def test_all_lines_that_are_wrong_are_reported_at_once_without_their_values() -> None:
    messages = wrong("geheim\nX-A: geheim\nX-A: geheim\nX-B:")
    assert len(messages) == 3
    assert "geheim" not in " ".join(messages)


@pytest.mark.parametrize(
    ("opened", "entered", "live", "result"),
    [
        ("X-A: ***", "X-A: ***\nX-B: b", "X-A: ***\nX-C: ***", "X-A: ***\nX-C: ***\nX-B: b"),
        ("X-A: ***\nX-B: ***", "X-B: ***", "X-A: ***\nX-B: ***\nX-C: ***", "X-B: ***\nX-C: ***"),
        ("X-A: ***\nX-B: ***", "X-A: ***\nX-B: ***\nX-C: c", "X-B: ***", "X-B: ***\nX-C: c"),
        ("X-A: ***", "X-A: mine", "X-A: ***", "X-A: mine"),
        ("X-A: ***", "X-A: mine", "", "X-A: mine"),
        ("X-A: ***", "", "", ""),
    ],
    ids=[
        "each added one",
        "one taken, one added",
        "one added, one taken",
        "set anew",
        "set anew, taken",
        "both took it",
    ],
)
def test_concurrent_edits_are_merged(opened: str, entered: str, live: str, result: str) -> None:
    assert merged(opened, entered, live) == result


def test_lines_that_make_no_sense_stay_as_they_were_typed() -> None:
    assert merged("X-A: ***", "X-A ***", "") == "X-A ***"


@given(FEW, FEW)
def test_without_own_changes_the_result_is_the_stored_text(before: set[str], now: set[str]) -> None:
    assert read(merged(masked(before), masked(before), masked(now)), stored=now) == read(masked(now), stored=now)


@given(FEW, st.dictionaries(st.sampled_from(["X-A", "X-B", "X-C"]), st.sampled_from([MASK, "mine"])))
def test_without_other_changes_the_result_is_the_entered_text(before: set[str], entered: dict[str, str]) -> None:
    known = before | set(entered)
    opened, mine = masked(before), written(entered)
    assert read(merged(opened, mine, opened), stored=known) == read(mine, stored=known)


def test_too_many_lines_are_reported_by_their_number() -> None:
    assert len(wrong("X\n" * MAX_LINES)) == MAX_LINES
    assert wrong("X\n" * (MAX_LINES + 1)) == [f"have {MAX_LINES + 1} lines, {MAX_LINES} are allowed"]
    assert merged("", "X: 1\n" * (MAX_LINES + 1), "Y: ***") == "X: 1\n" * (MAX_LINES + 1)


def test_a_long_name_is_reported_by_its_beginning() -> None:
    name = "X" * 5000
    for text in (f"{name}: 1\n{name}: 2", f"{name}:", f"{name}: {MASK}"):
        (message,) = wrong(text)
        assert message.startswith("X" * 128)
        assert len(message) < 256
