"""The rules of the catalogue: the checks of its entries, and unknown types."""

import pytest

from daemon.core.events import catalogue
from daemon.core.events.catalogue import (
    MAX_GUESSES,
    Example,
    KnownTypes,
    TypeDraft,
    check,
    example_text,
    group_of,
    subscribed_types,
)

NAMES = ("order.create", "order.item.add", "order_2.create", "orders.create", "cart.create")


def test_a_group_is_what_stands_before_the_first_dot() -> None:
    assert [group_of(name) for name in NAMES] == ["order", "order", "order_2", "orders", "cart"]


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (("*",), NAMES),
        (("order.*",), ("order.create", "order.item.add")),
        (("cart.create", "order.*"), ("order.create", "order.item.add", "cart.create")),
        (("order.item.*",), ("order.item.add",)),
        (("order",), ()),
        ((), ()),
    ],
)
def test_patterns_choose_as_they_do_for_events(patterns: tuple[str, ...], names: tuple[str, ...]) -> None:
    assert subscribed_types(NAMES, patterns) == list(names)


def test_an_example_has_all_its_parts_afterwards() -> None:
    draft = TypeDraft(name="a.b", example={"data": {"z": 1, "a": [2]}, "snapshot": {"c": {}}})
    assert example_text(draft) == '{"data":{"z":1,"a":[2]},"context":{},"snapshot":{"c":{}}}'
    assert Example.read(example_text(draft)) == Example(data=b'{"z":1,"a":[2]}', context=b"{}", snapshot=b'{"c":{}}')


def test_what_is_in_order_has_no_problems() -> None:
    assert check([TypeDraft(name=name, group=group_of(name), example={}) for name in NAMES]) == ()


def test_too_many_entries_are_one_problem() -> None:
    drafts = [TypeDraft(name=f"a.n{n}", example={}) for n in range(catalogue.MAX_TYPES + 1)]
    assert [problem.field for problem in check(drafts)] == ["event_types"]


def test_a_known_type_is_no_problem_and_an_unknown_one_gets_a_guess() -> None:
    known = KnownTypes(frozenset(NAMES))
    assert [known.problem(name) for name in NAMES] == [None] * 5
    assert (
        known.problem("order.crate") == "order.crate is not in the catalogue of event types: did you mean order.create?"
    )
    assert known.problem("x.y") == "x.y is not in the catalogue of event types: see GET /v1/event-types"


def test_patterns_that_are_included_are_known_too() -> None:
    known = KnownTypes(frozenset(NAMES)).including(["made.up"])
    assert (known.problem("made.up"), known.problem("cart.create")) == (None, None)
    assert known.problem("made.up.more") is not None


def test_suggestions_are_limited_and_repeated_for_the_same_type(monkeypatch: pytest.MonkeyPatch) -> None:
    known, guesses = KnownTypes(frozenset(NAMES)), []

    def guess(name: str, *_: object, **__: object) -> list[str]:
        guesses.append(name)
        return ["order.create"]

    monkeypatch.setattr(catalogue, "get_close_matches", guess)
    for _ in range(3):
        messages = [known.problem(f"order.n{n}") for n in range(MAX_GUESSES + 5)]
        assert [(sentence or "").endswith("did you mean order.create?") for sentence in messages] == [
            True
        ] * MAX_GUESSES + [False] * 5
    assert guesses == [f"order.n{n}" for n in range(MAX_GUESSES)]
