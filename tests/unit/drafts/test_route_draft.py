"""A route's draft: all problems are reported at once, and a valid draft has one canonical form."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.drafts.route_draft import MAX_EVENT_TYPES, RouteDraft, canonical, check
from daemon.core.events.event import FieldProblem
from daemon.core.routing.route import PayloadOptions
from daemon.core.webhook.egress import EgressPolicy

POLICY = EgressPolicy()
DRAFT = RouteDraft(name="Shop", target_url="https://hooks.shop.com/in", event_types=("order.*",))


def problems(draft: RouteDraft = DRAFT, *, tenant: str = "acme", **changes: Any) -> list[FieldProblem]:
    return list(check(replace(draft, **changes), tenant=tenant, policy=POLICY, signing_header="OrderGroove-Signature"))


def fields(**changes: Any) -> list[str]:
    return [problem.field for problem in problems(**changes)]


def test_a_valid_draft_has_no_problem() -> None:
    assert problems() == []
    assert problems(
        headers={"X-Shop": "1"},
        rate_limit_per_second=0.5,
        ordered=True,
        enabled=False,
        payload=PayloadOptions(
            snapshot=(("customer", None), ("orders", ("id", "total"))), filter="data", transform="{id: id}"
        ),
    ) == []  # fmt: skip


def test_all_problems_are_reported_at_once() -> None:
    found = fields(
        tenant="",
        name=" ",
        target_url="http://10.0.0.1/",
        event_types=("order", "*"),
        payload=PayloadOptions(filter="[", transform="", snapshot=(("", ()), ("x" * 200, None))),
        headers={"Host": "x", "X Y": "z"},
        rate_limit_per_second=0,
    )
    assert sorted(found) == [
        "event_types", "headers.Host", "headers.X Y", "name", "payload.filter", "payload.snapshot", "payload.transform",
        "rate_limit_per_second", "target_url", "tenant",
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["", " ", "\t", "a\nb", "a\x00", "x" * 129, "\ud800", "a\u202eb"])
def test_a_name_is_printable_and_not_empty(name: str) -> None:
    assert fields(name=name) == ["name"]


@pytest.mark.parametrize("name", ["x", "x" * 128, "Bücher für 日本", "🪝", "a'b\"<script>"])
def test_a_name_may_be_in_any_language(name: str) -> None:
    assert fields(name=name) == []


@pytest.mark.parametrize("rate", [0, -1, 10_000.1, math.nan, math.inf, -math.inf])
def test_a_rate_is_above_nothing_and_below_too_much(rate: float) -> None:
    assert fields(rate_limit_per_second=rate) == ["rate_limit_per_second"]


@pytest.mark.parametrize("rate", [None, 0.001, 1, 10_000])
def test_a_rate_in_between_is_fine(rate: float | None) -> None:
    assert fields(rate_limit_per_second=rate) == []


def test_the_event_types_are_some_but_not_too_many_and_each_wrong_one_is_named() -> None:
    assert "is empty" in problems(event_types=())[0].message
    many = tuple(f"order.n{number}" for number in range(MAX_EVENT_TYPES + 1))
    assert fields(event_types=many[:-1]) == []
    assert [problem.message.split(",")[0] for problem in problems(event_types=many)] == ["has 201 entries"]
    assert [problem.message.split(" ")[0] for problem in problems(event_types=("a", "a.b", "B.c"))] == ["'a'", "'B.c'"]


def test_a_million_wrong_types_make_no_million_messages() -> None:
    assert len(problems(event_types=("x",) * 100_000)) == MAX_EVENT_TYPES + 1


@pytest.mark.parametrize(
    "expression", ["", " ", "[", "a.", "foo(", "`", "a ||", "\ud800", "x" * 4097, "(" * 2000, "!" * 4000]
)
def test_an_expression_must_compile(expression: str) -> None:
    assert fields(payload=PayloadOptions(filter=expression)) == ["payload.filter"]
    assert fields(payload=PayloadOptions(transform=expression)) == ["payload.transform"]


def test_a_snapshot_selection_is_bounded() -> None:
    assert fields(payload=PayloadOptions(snapshot=())) == []
    wide = tuple((f"e{number}", None) for number in range(1001))
    assert fields(payload=PayloadOptions(snapshot=wide[:-1])) == []
    assert fields(payload=PayloadOptions(snapshot=wide)) == ["payload.snapshot"]
    assert fields(payload=PayloadOptions(snapshot=(("e", tuple(f"f{number}" for number in range(1000))),))) == [
        "payload.snapshot"
    ]
    assert fields(payload=PayloadOptions(snapshot=(("e", ("a\ud800",)),))) == ["payload.snapshot"]


def test_the_canonical_form_has_its_url_as_requested_and_each_type_once() -> None:
    draft = replace(DRAFT, target_url="HTTPS://Hooks.Shop.COM:443", event_types=("b.c", "a.b", "b.c"))
    assert canonical(draft, POLICY) == replace(DRAFT, target_url="https://hooks.shop.com/", event_types=("b.c", "a.b"))


@given(st.text(max_size=30), st.text(max_size=30), st.lists(st.text(max_size=10), max_size=3), st.text(max_size=10))
def test_no_draft_makes_it_raise(name: str, url: str, types: list[str], expression: str) -> None:
    draft = RouteDraft(
        name=name,
        target_url=url,
        event_types=tuple(types),
        payload=PayloadOptions(filter=expression, transform=expression, snapshot=((name, (url,)),)),
        headers={name: url},
    )
    if not problems(draft, tenant=name):
        canonical(draft, POLICY)
