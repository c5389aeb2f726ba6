"""The form of a webhook as texts: their meaning, which of them were touched, and how concurrent edits are merged."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.drafts.route_draft import MAX_EVENT_TYPES, MAX_RATE_PER_SECOND
from daemon.core.events.catalogue import subscribed_types
from daemon.core.events.event import FieldProblem
from daemon.core.routing.route import PayloadOptions, RouteConfig
from daemon.web.dashboard.form_data import FormData
from daemon.web.dashboard.webhook_form import form_fields
from daemon.web.dashboard.webhook_form.form_fields import (
    RouteTexts,
    merged,
    of_config,
    of_form,
    only,
    read,
    touched,
    without_covered,
)
from daemon.web.http.shapes import MASK

TYPES = ["a.b", "a.c", "a.b.c", "d.e"]
PATTERNS = st.lists(st.sampled_from([*TYPES, "a.*", "a.b.*", "d.*", "*"]), unique=True, max_size=5).map(tuple)
LINES = st.text(st.sampled_from("ab &<\n\"'"), min_size=1, max_size=12).map(str.strip).filter(bool)
NAMES = st.text(st.sampled_from('ab:," é'), min_size=1, max_size=6)
SELECTIONS = st.dictionaries(
    NAMES, st.one_of(st.none(), st.lists(NAMES, min_size=1, max_size=3).map(tuple)), max_size=3
)
CONFIGS = st.builds(
    RouteConfig,
    name=LINES.map(lambda text: text.replace("\n", " ")),
    target_url=st.sampled_from(["https://a.example.com/", "https://b.example.com/?x=1"]),
    event_types=PATTERNS,
    payload=st.builds(
        PayloadOptions,
        snapshot=st.one_of(st.none(), SELECTIONS.filter(bool).map(lambda it: tuple(sorted(it.items(), key=lambda e: e[0])))),
        filter=st.one_of(st.none(), LINES),
        transform=st.one_of(st.none(), LINES),
    ),
    header_names=st.sets(st.sampled_from(["X-A", "X-B", "X-C"])).map(lambda names: tuple(sorted(names))),
    ordered=st.booleans(),
    rate_limit_per_second=st.one_of(st.none(), st.floats(0, MAX_RATE_PER_SECOND, exclude_min=True)),
)  # fmt: skip


def sent(texts: RouteTexts) -> FormData:
    """The form as a browser sends it: without unchecked boxes, and with two characters at the end of a line."""
    fields = {
        "name": texts.name,
        "target_url": texts.target_url,
        "other_types": texts.other_types,
        "payload.snapshot": texts.snapshot,
        "payload.filter": texts.filter,
        "payload.transform": texts.transform,
        "headers": texts.headers,
        "rate_limit_per_second": texts.rate_limit_per_second,
    }
    boxes = {
        "event_types": list(texts.event_types),
        "ordered": ["yes"] * texts.ordered,
        "disabled": ["yes"] * (not texts.enabled),
    }
    written = {name: [text.replace("\n", "\r\n")] for name, text in fields.items()}
    return FormData({**written, **{name: checked for name, checked in boxes.items() if checked}})


def meaning(texts: RouteTexts) -> dict[str, object]:
    """The configuration without the order of types and headers, and without blanks."""
    values = dict(read(texts, stored_headers=["X-A", "X-B", "X-C"]).values)
    return values | {"event_types": set(texts.patterns)}


@given(CONFIGS)
def test_the_texts_of_a_stored_route_mean_what_is_stored(config: RouteConfig) -> None:
    reading = read(of_config(config), stored_headers=config.header_names)
    assert reading.problems == ()
    assert reading.values == {
        "name": config.name.strip(),
        "target_url": config.target_url,
        "event_types": without_covered(config.event_types),
        "payload": {
            "snapshot": config.payload.snapshot,
            "filter": config.payload.filter,
            "transform": config.payload.transform,
        },
        "headers": dict.fromkeys(config.header_names),
        "ordered": config.ordered,
        "rate_limit_per_second": config.rate_limit_per_second,
        "enabled": True,
    }


@given(CONFIGS, st.booleans())
def test_a_form_that_is_sent_as_it_came_touches_nothing(config: RouteConfig, enabled: bool) -> None:
    texts = replace(of_config(config), enabled=enabled)
    assert of_form(sent(texts)) == texts
    assert touched(texts, of_form(sent(texts))) == frozenset()


@pytest.mark.parametrize("stored", ["a\r\n&& b", "a\r&& b", "\ta\n&& b\r\n"])
def test_a_form_has_other_line_ends_than_a_program_may_send_and_that_touches_nothing(stored: str) -> None:
    payload = PayloadOptions(filter=stored, transform=stored)
    texts = of_config(RouteConfig(name="a", target_url="-", event_types=("*",), payload=payload))
    assert (texts.filter, texts.transform) == ("a\n&& b", "a\n&& b")
    assert touched(texts, of_form(sent(texts))) == frozenset()


@given(CONFIGS, CONFIGS)
def test_what_was_touched_and_only_that_becomes_a_change(before: RouteConfig, after: RouteConfig) -> None:
    opened, entered = of_config(before), of_config(after)
    names = touched(opened, entered)
    values = read(entered, stored_headers=after.header_names).values
    changes = only(values, names)
    payload = changes.get("payload", {})
    assert isinstance(payload, dict)
    assert {*changes, *payload} - {"payload"} == names
    assert all(changes[name] == values[name] for name in names & changes.keys())


@given(CONFIGS, CONFIGS)
def test_without_own_changes_the_result_is_the_stored_configuration(before: RouteConfig, now: RouteConfig) -> None:
    opened, live = of_config(before), of_config(now)
    assert meaning(merged(opened, opened, live)) == meaning(live)


@given(CONFIGS, CONFIGS)
def test_without_other_changes_the_result_is_the_entered_configuration(before: RouteConfig, after: RouteConfig) -> None:
    opened, entered = of_config(before), of_config(after)
    assert meaning(merged(opened, entered, opened)) == meaning(entered)


@given(CONFIGS, CONFIGS, CONFIGS)
def test_each_ones_fields_stay_if_they_changed_different_ones(
    before: RouteConfig, mine: RouteConfig, theirs: RouteConfig
) -> None:
    opened, entered, live = of_config(before), of_config(mine), of_config(theirs)
    both = meaning(merged(opened, entered, live))
    own, foreign = touched(opened, entered), touched(opened, live)
    for name in ("name", "target_url", "event_types", "headers", "ordered", "rate_limit_per_second"):
        if name not in own & foreign:
            assert both[name] == meaning(entered if name in own else live)[name]


@pytest.mark.parametrize(
    ("opened", "entered", "live", "both"),
    [
        ("a.b", "a.b a.c", "a.b d.e", "a.b d.e a.c"),
        ("a.b a.c", "a.c", "a.b a.c d.e", "a.c d.e"),
        ("a.b a.c", "a.b a.c d.e", "a.c", "a.c d.e"),
        ("a.*", "a.b", "a.* d.e", "d.e a.b"),
        ("a.b", "a.*", "a.b a.c", "a.*"),
        ("a.b", "a.b a.c", "*", "*"),
        ("*", "a.b", "*", "a.b"),
    ],
)
def test_types_that_each_added_and_took_away_are_brought_together(
    opened: str, entered: str, live: str, both: str
) -> None:
    texts = [RouteTexts(event_types=tuple(each.split())) for each in (opened, entered, live)]
    assert merged(*texts).patterns == tuple(both.split())


def test_a_type_that_was_typed_counts_like_one_that_was_checked() -> None:
    opened = RouteTexts(event_types=("a.b",))
    entered = RouteTexts(event_types=("a.b",), other_types="d.e, a.b")
    assert entered.patterns == ("a.b", "d.e")
    assert touched(opened, entered) == {"event_types"}
    assert touched(opened, RouteTexts(other_types="a.b")) == frozenset()
    assert set(merged(opened, entered, RouteTexts(event_types=("a.b", "a.c"))).patterns) == {"a.b", "a.c", "d.e"}
    # Entering a type as text instead of checking it is no change, and does not restore a type that the other removed.
    assert merged(opened, RouteTexts(other_types="a.b"), RouteTexts(event_types=("a.c",))).patterns == ("a.c",)


@pytest.mark.parametrize("text", ["a.b,a.c", "a.b; a.c", " a.b\n\ta.c ", ",a.b,,a.c,", "a.b a.b a.c"])
def test_types_may_be_typed_with_commas_and_blanks_between_them(text: str) -> None:
    assert RouteTexts(other_types=text).patterns == ("a.b", "a.c")


@given(PATTERNS)
def test_tidy_patterns_choose_the_same_types_and_none_of_them_twice(patterns: tuple[str, ...]) -> None:
    tidied = without_covered(patterns)
    assert subscribed_types(TYPES, tidied) == subscribed_types(TYPES, patterns)
    assert without_covered(tidied) == tidied
    for each in tidied:
        others = [it for it in tidied if it != each]
        assert subscribed_types(TYPES, others) != subscribed_types(TYPES, tidied)


@pytest.mark.parametrize(
    ("stored", "shown"), [(5.0, "5"), (100.0, "100"), (0.5, "0.5"), (0.00001, "0.00001"), (1e-7, "0.0000001")]
)
def test_a_rate_is_shown_as_one_writes_it(stored: float, shown: str) -> None:
    config = RouteConfig(name="a", target_url="-", event_types=("*",), rate_limit_per_second=stored)
    assert of_config(config).rate_limit_per_second == shown


@pytest.mark.parametrize(
    "text", ["5/s", "1e3", "-1", "+1", "1,5", "nan", "inf", ".5", "5.", "1_0", "٣", "0x1", "9" * 400]
)
def test_what_is_no_number_is_no_rate(text: str) -> None:
    reading = read(RouteTexts(rate_limit_per_second=text))
    message = "must be a number like 5 or 0.5; leave it empty for no limit"
    assert reading.problems == (FieldProblem(field="rate_limit_per_second", message=message),)
    assert "rate_limit_per_second" not in reading.values


def test_a_text_that_cannot_be_read_hides_none_of_the_others() -> None:
    reading = read(RouteTexts(name="a", snapshot="a: b: c", headers="X-A", rate_limit_per_second="x", filter="b"))
    assert [problem.field for problem in reading.problems] == ["payload.snapshot", "headers", "rate_limit_per_second"]
    assert reading.values["name"] == "a"
    assert reading.values["payload"] == {"filter": "b", "transform": None}


@pytest.mark.parametrize(
    ("field", "name"),
    [("payload.filter", "filter"), ("headers.X-A", "headers"), ("headers", "headers"), ("name", "name")],
)
def test_a_problem_is_about_a_field_of_the_form(field: str, name: str) -> None:
    assert form_fields.field_of(FieldProblem(field=field, message="")) == name


def test_a_draft_to_look_at_has_masks_where_values_are_kept() -> None:
    assert form_fields.masked({"headers": {"X-A": None, "X-B": "b"}, "name": "a"}) == {
        "headers": {"X-A": MASK, "X-B": "b"},
        "name": "a",
    }
    assert form_fields.masked({"name": "a"}) == {"name": "a"}


@pytest.mark.parametrize(
    ("texts", "is_advanced"),
    [
        (RouteTexts(), False),
        (RouteTexts(name="a", target_url="b", event_types=("*",), other_types="c"), False),
        (RouteTexts(snapshot="a"), True),
        (RouteTexts(filter="a"), True),
        (RouteTexts(transform="a"), True),
        (RouteTexts(headers="a"), True),
        (RouteTexts(ordered=True), True),
        (RouteTexts(rate_limit_per_second="1"), True),
        (RouteTexts(enabled=False), True),
    ],
)
def test_advanced_is_what_most_leave_alone(texts: RouteTexts, is_advanced: bool) -> None:
    assert texts.is_advanced is is_advanced


def test_types_are_taken_apart_as_far_as_a_webhook_could_ever_have_them() -> None:
    entered = ",".join(f"a.b_{number}" for number in range(50_000))
    assert MAX_EVENT_TYPES < len(RouteTexts(other_types=entered).patterns) < 2000
