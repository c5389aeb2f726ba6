"""The types in the picker: all of them if they fit, and always the chosen ones."""

from __future__ import annotations

from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.drafts.route_draft import MAX_EVENT_TYPES
from daemon.web.dashboard.webhook_form import type_picker
from daemon.web.dashboard.webhook_form.form_fields import without_covered
from daemon.web.dashboard.webhook_form.type_picker import BUDGET_BYTES, TypePicker, picker
from eventstore.domain_events.catalogue import OutlinedType

TYPES = [f"{group}.{name}" for group in ("cart", "order", "orders") for name in ("create", "item.add", "pay")]
PATTERNS = st.lists(
    st.sampled_from([*TYPES, "*", "order.*", "cart.*", "old.*", "old.type", "order.old", "order.item.*", "old.a.*"]),
    unique=True,
    max_size=6,
).map(without_covered)
OUTLINES = st.dictionaries(st.sampled_from(TYPES), st.one_of(st.none(), st.text(max_size=200)))


def outlined(*names: str, description: str | None = "It happens.") -> list[OutlinedType]:
    return [OutlinedType(name=name, description=description) for name in sorted(names)]


def many(count: int, *, description: str = "") -> list[OutlinedType]:
    return outlined(*(f"group_{n % 20:02}.happened_{n:04}" for n in range(count)), description=description)


def checked(result: TypePicker) -> set[str]:
    """The checked boxes."""
    groups = {group.pattern for group in result.groups if group.is_chosen}
    types = {choice.name for group in result.groups for choice in group.choices if choice.is_chosen}
    return groups | types | ({"*"} if result.is_all else set())


def names(result: TypePicker) -> list[str]:
    return [choice.name for group in result.groups for choice in group.choices]


def cost(result: TypePicker) -> int:
    return sum(map(type_picker._cost, result.groups))


@given(OUTLINES, PATTERNS, st.sampled_from([0, 1500, 5000, BUDGET_BYTES]), st.sampled_from(["", "order", "ADD", "no"]))
def test_what_is_chosen_has_a_tick_and_nothing_else_has(
    outline: dict[str, str | None], patterns: tuple[str, ...], budget: int, find: str
) -> None:
    listed = [OutlinedType(name=name, description=text) for name, text in sorted(outline.items())]
    with patch.object(type_picker, "BUDGET_BYTES", budget):
        result = picker(listed, patterns, find=find)
        nothing_else = picker(listed, patterns, find="no such type")
    assert checked(result) == set(patterns)
    assert result.is_whole or cost(result) <= max(budget, cost(nothing_else))


def test_what_is_chosen_below_a_prefix_stands_before_the_types_of_its_group_and_is_none_of_them() -> None:
    (order,) = picker(outlined("order.create", "order.item.add", "order.item.drop"), ["order.item.*"]).groups
    assert [(it.name, it.below, it.is_chosen) for it in order.choices] == [
        ("order.item.*", "order.item", True),
        ("order.create", None, False),
        ("order.item.add", None, False),
        ("order.item.drop", None, False),
    ]
    assert (order.chosen, order.count) == (2, 3)


def test_types_stand_in_their_groups_by_name() -> None:
    result = picker(outlined("order.pay", "orders.x", "order.create", "order.item.add", "cart.add"), [])
    assert [(group.name, [each.name for each in group.choices]) for group in result.groups] == [
        ("cart", ["cart.add"]),
        ("order", ["order.create", "order.item.add", "order.pay"]),
        ("orders", ["orders.x"]),
    ]


def test_it_is_counted_what_the_webhook_would_receive() -> None:
    listed = outlined("order.create", "order.pay", "cart.add", "cart.empty")
    result = picker(listed, ["order.*", "cart.add"])
    assert (result.chosen, result.count) == (3, 4)
    assert [(group.chosen, group.count, group.is_chosen) for group in result.groups] == [(1, 2, False), (2, 2, True)]
    everything = picker(listed, ["*"])
    assert (everything.is_all, everything.chosen) == (True, 4)


def test_what_is_chosen_is_offered_though_no_catalogue_has_it() -> None:
    result = picker(outlined("order.create"), ["order.old", "gone.*"])
    assert names(result) == ["order.create", "order.old"]
    assert [(group.name, group.is_chosen, group.count) for group in result.groups] == [
        ("gone", True, 0),
        ("order", False, 2),
    ]


def test_examples_are_there_of_types_that_the_catalogue_has() -> None:
    listed = [*outlined("a.b", description=""), *outlined("a.c", description=None)]
    assert picker(listed, ["a.d"]).samples == ["a.b"]


def test_before_types_are_left_out_descriptions_get_shorter() -> None:
    long = "word " * 40
    lengths = []
    for count in (100, 200, 230):
        result = picker(many(count, description=long), [])
        assert result.is_whole
        assert len(names(result)) == count
        assert cost(result) <= BUDGET_BYTES
        (length,) = {len(each.description or "") for group in result.groups for each in group.choices}
        lengths.append(length)
    assert lengths == [160, 80, 40]
    assert not picker(many(300, description=long), []).is_whole


def test_a_description_costs_what_it_takes_of_the_page() -> None:
    quoted = picker(many(70, description='"' * 200), [])
    assert {len(each.description or "") for group in quoted.groups for each in group.choices} == {80}


def test_a_description_that_is_cut_says_so_and_a_short_one_stays() -> None:
    assert type_picker._short("a" * 40, 40) == "a" * 40
    assert type_picker._short("a" * 38 + " bcd", 40) == "a" * 38 + "…"
    assert type_picker._short(None, 40) is None


def test_of_too_many_types_the_groups_and_the_chosen_ones_are_shown() -> None:
    chosen = ["group_03.happened_0003", "group_03.happened_0983", "group_07.*"]
    result = picker(many(1000), chosen)
    assert not result.is_whole
    assert names(result) == chosen[:2]
    assert [group.name for group in result.groups] == [f"group_{n:02}" for n in range(20)]
    assert {group.count for group in result.groups} == {50}
    assert (result.count, result.chosen, result.left_out) == (1000, 52, 0)


def test_types_are_found_by_a_part_of_their_name() -> None:
    result = picker(many(1000), ["group_03.happened_0003"], find=" HAPPENED_09 ")
    assert names(result)[:4] == ["group_00.happened_0900", "group_00.happened_0920", "group_00.happened_0940",
                                "group_00.happened_0960"]  # fmt: skip
    assert len(names(result)) == 101
    assert result.find == "happened_09"


def test_what_is_not_found_is_left_out_but_not_what_is_chosen() -> None:
    result = picker(many(1000), ["group_03.happened_0003", "group_07.*"], find="nowhere")
    assert names(result) == ["group_03.happened_0003"]
    assert [group.name for group in result.groups] == ["group_03", "group_07"]
    assert result.left_out == 18


@pytest.mark.parametrize("find", ["", "happened"])
def test_two_hundred_chosen_types_are_shown_with_any_search(find: str) -> None:
    listed = many(1000, description="word " * 40)
    chosen = [each.name for each in listed[::5]]
    result = picker(listed, chosen, find=find)
    assert len(chosen) == 200
    assert checked(result) == set(chosen)
    assert cost(result) <= BUDGET_BYTES


def test_groups_that_do_not_fit_are_counted() -> None:
    result = picker(outlined(*(f"group_{n:03}.happened" for n in range(400))), ["group_399.happened"])
    assert result.left_out == 400 - len(result.groups) > 0
    assert "group_399.happened" in names(result)
    assert cost(result) <= BUDGET_BYTES


def test_at_most_as_many_unknown_types_are_shown_as_a_webhook_may_have() -> None:
    listed = outlined("order.create", "order.pay")
    sent = [*(f"made.up_{n}" for n in range(4000)), *(f"made_{n}.*" for n in range(900)), "order.pay", "order.*"]
    result = picker(listed, sent)
    assert len(checked(result) - {"order.pay", "order.*"}) == MAX_EVENT_TYPES
    assert {"order.pay", "order.*"} <= checked(result)
