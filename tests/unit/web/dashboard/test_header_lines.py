"""Custom headers as lines: what is written is read again, and what two people do to them is brought together."""

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
    ("text", "said"),
    [
        ("X-A", "line 1 is not of the form Name: value"),
        ("X-A: b\n: c", "line 2 is not of the form Name: value"),
        ("X-A: b\nX-A: c", "X-A is given twice"),
        ("X-A:", "X-A has no value: give one, or take the line out"),
        (f"X-A: {MASK}", f"X-A: {MASK} stands for a stored value, and there is none: give the value"),
    ],
)
def test_a_line_that_makes_no_sense_is_told_with_what_to_do(text: str, said: str) -> None:
    assert wrong(text, stored=("X-B",)) == [said]


def test_all_lines_that_are_wrong_are_told_at_once_without_their_values() -> None:
    said = wrong("geheim\nX-A: geheim\nX-A: geheim\nX-B:")
    assert len(said) == 3
    assert "geheim" not in " ".join(said)


@pytest.mark.parametrize(
    ("opened", "typed", "live", "both"),
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
def test_what_two_did_to_them_is_brought_together(opened: str, typed: str, live: str, both: str) -> None:
    assert merged(opened, typed, live) == both


def test_lines_that_make_no_sense_stay_as_they_were_typed() -> None:
    assert merged("X-A: ***", "X-A ***", "") == "X-A ***"


@given(FEW, FEW)
def test_whoever_changed_nothing_gets_what_the_other_did(before: set[str], now: set[str]) -> None:
    assert read(merged(masked(before), masked(before), masked(now)), stored=now) == read(masked(now), stored=now)


@given(FEW, st.dictionaries(st.sampled_from(["X-A", "X-B", "X-C"]), st.sampled_from([MASK, "mine"])))
def test_if_nobody_else_did_anything_it_is_what_was_typed(before: set[str], typed: dict[str, str]) -> None:
    known = before | set(typed)
    opened, mine = masked(before), written(typed)
    assert read(merged(opened, mine, opened), stored=known) == read(mine, stored=known)


def test_of_very_many_lines_only_their_number_is_told() -> None:
    assert len(wrong("X\n" * MAX_LINES)) == MAX_LINES
    assert wrong("X\n" * (MAX_LINES + 1)) == [f"have {MAX_LINES + 1} lines, {MAX_LINES} are allowed"]
    assert merged("", "X: 1\n" * (MAX_LINES + 1), "Y: ***") == "X: 1\n" * (MAX_LINES + 1)


def test_of_a_long_name_the_beginning_is_told() -> None:
    name = "X" * 5000
    for text in (f"{name}: 1\n{name}: 2", f"{name}:", f"{name}: {MASK}"):
        (said,) = wrong(text)
        assert said.startswith("X" * 128)
        assert len(said) < 256
