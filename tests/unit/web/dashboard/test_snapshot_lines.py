"""The selected entities as lines: written lines are read back unchanged, with any names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.web.dashboard.webhook_form.snapshot_lines import MAX_CHARACTERS, MAX_LINES, read, written
from daemon.web.forms.request_forms import MAX_ENTITIES

# Names that route_draft allows: printable, so without line ends, also with the characters that lines use.
CHARACTERS = st.one_of(st.sampled_from(":,\"\\ 'é🙂"), st.characters().filter(str.isprintable))
NAMES = st.text(CHARACTERS, max_size=8)


@given(st.dictionaries(NAMES, st.one_of(st.none(), st.lists(NAMES, min_size=1, max_size=4).map(tuple)), max_size=5))
def test_what_is_written_is_read_again(chosen: dict[str, tuple[str, ...] | None]) -> None:
    selection = tuple(sorted(chosen.items(), key=lambda each: each[0]))
    assert read(written(selection)) == (selection, [])


@given(st.text(st.one_of(st.sampled_from(':,"\\ \n'), st.characters(codec="utf-8")), max_size=40))
def test_no_text_is_more_than_wrong(text: str) -> None:
    _, problems = read(text)
    assert {problem.field for problem in problems} <= {"payload.snapshot"}


def test_it_is_written_as_one_would_type_it() -> None:
    selection = (("customer", None), ("lines, old", ("a:b", "c")), ("orders", ("public_id", "total")))
    assert written(selection) == 'customer\n"lines, old": "a:b", c\norders: public_id, total'


def test_blanks_empty_lines_and_a_last_comma_mean_nothing() -> None:
    assert read("\n  customer  \n\norders :public_id ,total,\n") == (
        (("customer", None), ("orders", ("public_id", "total"))),
        [],
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("customer\norders public: id: total", "line 2 is neither an entity nor entity: field, field"),
        (": total", "line 1 is neither an entity nor entity: field, field"),
        ("orders: a,, b", "line 1 is neither an entity nor entity: field, field"),
        ('"orders', "line 1 is neither an entity nor entity: field, field"),
        ('orders: "a" b', "line 1 is neither an entity nor entity: field, field"),
        ("orders:", "line 1 names no field: name some, or leave the colon out for all"),
        ("orders: a\norders: b", "orders is named twice: put its fields into one line"),
        ('orders\n"orders"', "orders is named twice: put its fields into one line"),
    ],
)
def test_a_line_that_makes_no_sense_is_reported_with_its_number(text: str, said: str) -> None:
    _, problems = read(text)
    assert [problem.message for problem in problems] == [said]


def test_all_lines_that_are_wrong_are_reported_at_once() -> None:
    chosen, problems = read("a: b: c\nfine\nd:\n:")
    assert chosen == (("fine", None),)
    assert [problem.message.split()[1] for problem in problems] == ["1", "3", "4"]


def test_more_entities_than_the_api_takes_are_too_many_here() -> None:
    lines = [f"entity_{number}" for number in range(MAX_ENTITIES + 1)]
    assert read("\n".join(lines[:-1]))[1] == []
    _, (problem,) = read("\n".join(lines))
    assert problem.message == f"names {MAX_ENTITIES + 1} entities, {MAX_ENTITIES} are allowed"


def test_a_line_as_long_as_may_be_is_read() -> None:
    """With a backtracking expression each of these lines would take longer than the timeout."""
    many = MAX_CHARACTERS - len("a: b") - 1
    for line in (
        "a" * many + '"',
        "a" + " " * many + '"',
        "a: b" + " " * many + '"',
        "a: " + "b, " * (many // 3) + '"',
    ):
        assert read(line)[1] != []
    assert read("a" + " " * many + ": b")[1] == []


def test_too_many_lines_are_reported_by_their_number() -> None:
    assert len(read("a:\n" * MAX_LINES)[1]) == MAX_LINES
    chosen, (problem,) = read("a:\n" * (MAX_LINES + 1))
    assert chosen == ()
    assert problem.message == f"has {MAX_LINES + 1} lines, {MAX_LINES} are allowed"


def test_a_text_that_is_too_long_is_not_parsed() -> None:
    assert read("a" * MAX_CHARACTERS)[1] == []
    chosen, (problem,) = read("a" * (MAX_CHARACTERS + 1))
    assert chosen == ()
    assert problem.message == f"has {MAX_CHARACTERS + 1} characters, {MAX_CHARACTERS} are allowed"


def test_a_long_name_is_reported_by_its_beginning() -> None:
    _, (problem,) = read("a" * 5000 + "\n" + "a" * 5000)
    assert problem.message == "a" * 128 + " is named twice: put its fields into one line"
