"""The body of a webhook: the producer's bytes unchanged, the selection of a snapshot, filter and transform."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from daemon.core.events import raw_json
from daemon.core.routing.route import PayloadOptions
from daemon.core.webhook import expression, json_values
from daemon.core.webhook.expression import StepAllowance, TooHeavy
from daemon.core.webhook.json_values import DOCUMENT_READS, Json
from daemon.core.webhook.payload import (
    MAX_DOCUMENT_BYTES,
    EventFilters,
    FilterResult,
    PayloadEvent,
    RenderError,
    envelope,
    render,
    select,
)
from tests.support.values.expressions import expressions, well_formed

LIMIT = 262_144
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
PLAIN = PayloadOptions()
EVENT = PayloadEvent(
    event_id="evt_1",
    event_type="order.create",
    created=datetime(2026, 11, 23, 8, 0, 0, 999_999, tzinfo=UTC),
    data=b'{"total":"1.10","items":[{"sku":"a","n":1},{"sku":"b","n":2}]}',
    context=b'{"shop":"de"}',
    snapshot=b'{"customer": {"id": 7, "email" : "a@b.c"}, "orders":[{"id":1,"total":1.10},{"id":2}], "note": null}',
)


def passes(test: str, event: PayloadEvent) -> bool:
    return EventFilters(event).passes(test)


def shaped(options: PayloadOptions = PLAIN, event: PayloadEvent = EVENT, *, max_bytes: int = LIMIT) -> Any:
    return json.loads(render(event, options, max_bytes=max_bytes))


def failure(options: PayloadOptions, event: PayloadEvent = EVENT, *, max_bytes: int = LIMIT) -> str:
    with pytest.raises(RenderError) as raised:
        render(event, options, max_bytes=max_bytes)
    return str(raised.value)


def test_the_body_without_options_is_the_one_of_the_contract() -> None:
    assert render(EVENT, PLAIN, max_bytes=LIMIT) == (
        b'{"id":"evt_1","type":"order.create","created":1795420800,"data":{"object":'
        + EVENT.data
        + b'},"context":{"shop":"de"},"snapshot":{}}'
    )


def test_what_an_event_lacks_is_an_empty_object() -> None:
    bare = replace(EVENT, context=None, snapshot=None)
    assert shaped(event=bare) | {"data": 0} == {
        "id": "evt_1", "type": "order.create", "created": 1795420800, "data": 0, "context": {}, "snapshot": {},
    }  # fmt: skip
    assert shaped(PayloadOptions(snapshot=(("customer", None),)), bare)["snapshot"] == {}


@pytest.mark.parametrize(
    "data",
    [
        b'{"n":123456789012345678901234567890}',
        b'{"n":1.10,"m":1E+2,"k":-0.0}',
        b'{"a":1,"a":2,"b":3,"a":{}}',
        b'{"u":"caf\\u00e9 \\/ \\ud83e\\ude9d","v":"caf\xc3\xa9"}',
        b'{ "z" : 1,\n\t"a" : [ ] }',
        b'{"q":"%s %d {} \\" \\\\"}',
        b'{"n":' + b"9" * 10_000 + b"}",
    ],
)
def test_the_producers_bytes_go_out_as_they_came_in(data: bytes) -> None:
    event = replace(EVENT, data=data, context=data, snapshot=b'{"e":' + data + b"}")
    body = render(event, PayloadOptions(snapshot=(("e", None),)), max_bytes=LIMIT)
    assert body.count(data) == 3
    assert b'"data":{"object":' + data + b'},"context":' + data + b',"snapshot":{"e":' + data + b"}}" in body


printable = st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=128)
any_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "id"]), inner, max_size=3),
    max_leaves=8,
)
json_objects = st.dictionaries(st.sampled_from(["a", "b", "id", "é"]), any_values, max_size=3)
raw_objects = st.builds(
    lambda value, is_ascii, blank: json.dumps(value, ensure_ascii=is_ascii, separators=(f",{blank}", f"{blank}:")).encode(),
    json_objects,
    st.booleans(),
    st.sampled_from(["", " ", "\n"]),
)  # fmt: skip
events = st.builds(
    PayloadEvent,
    event_id=printable,
    event_type=st.sampled_from(["order.create", "a.b.c_d", "0.1"]),
    created=st.datetimes(timezones=st.just(UTC)),
    data=raw_objects,
    context=st.none() | raw_objects,
    snapshot=st.none() | raw_objects,
)


@given(events)
def test_the_body_is_valid_json_that_says_what_the_event_says(event: PayloadEvent) -> None:
    body = render(event, PLAIN, max_bytes=LIMIT)
    read = json.loads(body)
    assert list(read) == ["id", "type", "created", "data", "context", "snapshot"]
    assert (read["id"], read["type"]) == (event.event_id, event.event_type)
    assert read["data"] == {"object": json.loads(event.data)}
    assert read["context"] == json.loads(event.context or b"{}")
    assert event.data in body


@pytest.mark.parametrize("event_id", ['"', "\\", '\\"', "%", "%s%d%(x)s", "{}", "'", "</script>", " ", "~" * 128])
def test_an_id_with_any_printable_character_is_quoted_right(event_id: str) -> None:
    assert shaped(event=replace(EVENT, event_id=event_id))["id"] == event_id


@given(st.datetimes(timezones=st.just(UTC)))
@example(EPOCH - timedelta(microseconds=1))
@example(datetime.max.replace(tzinfo=UTC))
@example(datetime.min.replace(tzinfo=UTC))
@example(datetime(2026, 11, 23, 8, 0, 0, 999_999, tzinfo=UTC))
def test_created_is_the_unix_second_in_which_the_event_happened(created: datetime) -> None:
    elapsed = created - EPOCH
    exact = elapsed.days * 86_400 + elapsed.seconds + Fraction(elapsed.microseconds, 1_000_000)
    assert shaped(event=replace(EVENT, created=created))["created"] == exact.__floor__()


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ((), "{}"),
        ((("customer", None),), '{"customer":{"id": 7, "email" : "a@b.c"}}'),
        ((("customer", ("email",)),), '{"customer":{"email":"a@b.c"}}'),
        ((("customer", ()),), '{"customer":{}}'),
        ((("customer", ("nope",)),), '{"customer":{}}'),
        ((("orders", ("total",)),), '{"orders":[{"total":1.10},{}]}'),
        ((("orders", None), ("customer", ("id",))), '{"orders":[{"id":1,"total":1.10},{"id":2}],"customer":{"id":7}}'),
        ((("note", None),), '{"note":null}'),
        ((("note", ("id",)),), '{"note":null}'),
        ((("nope", None), ("never", ("id",))), "{}"),
    ],
)
def test_a_selection_cuts_and_leaves_the_rest_as_it_was(selection: Any, expected: str) -> None:
    assert EVENT.snapshot is not None
    assert select(EVENT.snapshot.decode(), selection) == expected
    assert render(EVENT, PayloadOptions(snapshot=selection), max_bytes=LIMIT).endswith(
        f'"snapshot":{expected}}}'.encode()
    )


def test_only_objects_and_the_objects_of_a_list_have_fields_to_choose() -> None:
    snapshot = '{"e":[1,"x",[{"id":1,"b":2}],{"b":1,"id":2,"id":3},null],"s":"text","n":1.10}'
    chosen = (("e", ("id",)), ("s", ("id",)), ("n", ("id",)))
    assert select(snapshot, chosen) == '{"e":[1,"x",[{"id":1,"b":2}],{"id":2,"id":3},null],"s":"text","n":1.10}'


def test_an_entity_given_twice_is_the_last_one_and_its_name_is_read_and_not_compared_as_text() -> None:
    assert select('{"a":1,"\\u0061":2}', (("a", None),)) == '{"a":2}'
    assert select('{"\\"q\\\\":1}', (('"q\\', None),)) == '{"\\"q\\\\":1}'


@given(
    json_objects,
    st.dictionaries(st.sampled_from(["a", "b", "id", "é"]), st.none() | st.lists(st.sampled_from(["a", "id"]))),
)
def test_a_selection_is_the_one_of_plain_json(value: dict[str, Any], chosen: dict[str, list[str] | None]) -> None:
    def cut(part: Any, fields: list[str]) -> Any:
        return {key: item for key, item in part.items() if key in fields} if isinstance(part, dict) else part

    expected = {
        entity: value[entity] if fields is None
        else [cut(item, fields) for item in value[entity]] if isinstance(value[entity], list)
        else cut(value[entity], fields)
        for entity, fields in chosen.items() if entity in value
    }  # fmt: skip
    selection = tuple((entity, None if fields is None else tuple(fields)) for entity, fields in chosen.items())
    assert json.loads(select(json.dumps(value, indent=1), selection)) == expected


def test_a_transform_gets_the_whole_body_with_the_chosen_snapshot() -> None:
    transform = "{n: id, at: created, skus: data.object.items[*].sku, shop: context.shop, c: snapshot.customer, o: snapshot.orders}"
    options = PayloadOptions(snapshot=(("customer", ("id",)),), transform=transform)
    assert shaped(options) == {
        "n": "evt_1", "at": 1795420800, "skus": ["a", "b"], "shop": "de", "c": {"id": 7}, "o": None,
    }  # fmt: skip
    assert shaped(PayloadOptions(transform="@")) == json.loads(render(EVENT, PLAIN, max_bytes=LIMIT))


def test_what_a_transform_makes_is_written_compactly_and_what_it_picks_as_it_was_published() -> None:
    data = '{"n":123456789012345678901234567890, "t":"é\\u00e9"}'
    event = replace(EVENT, data=data.encode())
    assert render(event, PayloadOptions(transform="data.object"), max_bytes=LIMIT) == data.encode()
    body = render(event, PayloadOptions(transform="{n: data.object.n, t: data.object.t, u: 'é'}"), max_bytes=LIMIT)
    assert body == '{"n":123456789012345678901234567890,"t":"é\\u00e9","u":"é"}'.encode()


@pytest.mark.parametrize(
    ("transform", "words"),
    [
        ("sum(data)", "the expression failed: In function sum(), expected array-number, received object"),
        ("no_such(@)", "the expression calls no_such(), which is no function"),
        ('`"\\ud800"`', "JSON cannot hold"),
        ('{"\\ud800": id}', "JSON cannot hold"),
        ("&id", "expression reference"),
        ("id[", "no JMESPath expression"),
        ("!" * 3000 + "id", "nested too deeply"),
        ("|".join(["[@,@]"] * 60), "too many steps"),
    ],
)
def test_a_transform_that_fails_fails_the_delivery_with_its_reason(transform: str, words: str) -> None:
    assert words in failure(PayloadOptions(transform=transform))


def test_a_number_made_longer_than_python_writes_is_exact_too() -> None:
    event = replace(EVENT, data=b'{"n":[' + b",".join([b"9" * 4300] * 20) + b"]}")
    body = render(event, PayloadOptions(transform="sum(data.object.n)"), max_bytes=LIMIT)
    assert body == b"1" + b"9" * 4299 + b"80"


def test_a_transform_may_make_as_many_bytes_as_allowed_and_not_one_more() -> None:
    options = PayloadOptions(transform="data.object.total")
    assert render(EVENT, options, max_bytes=6) == b'"1.10"'
    assert failure(options, max_bytes=5) == "the transform made 6 bytes, 5 are allowed"


def test_the_limit_is_for_what_a_transform_makes_and_not_for_the_event_itself() -> None:
    assert len(render(EVENT, PLAIN, max_bytes=1)) > 100


DEEP = b'{"n":' + b"[" * 5000 + b"]" * 5000 + b"}"
LONG = b'{"n":' + b"9" * 5000 + b"}"


@pytest.mark.parametrize("strange", [DEEP, LONG], ids=["deep", "long number"])
def test_an_event_that_is_deep_or_has_a_long_number_goes_out_whole(strange: bytes) -> None:
    # Such events can be published through SQL: jsonb has other limits than the HTTP API.
    event = replace(EVENT, data=strange, snapshot=b'{"e":{"a":' + strange + b',"b":1}}')
    assert strange in render(event, PLAIN, max_bytes=LIMIT)
    if strange is DEEP:
        assert "nested too deeply" in failure(PayloadOptions(transform="id"), event)
        assert passes("id == 'other'", event)
    else:
        assert render(event, PayloadOptions(transform="data.object.n"), max_bytes=LIMIT) == b"9" * 5000
        assert not passes("data.object.n < `1e4999`", event)


def test_a_long_number_is_cut_out_of_a_snapshot_and_a_deep_one_fails_with_its_reason() -> None:
    for strange, is_cut in ((LONG, True), (DEEP, False)):
        event = replace(EVENT, snapshot=b'{"e":{"a":' + strange + b',"b":1}}')
        options = PayloadOptions(snapshot=(("e", ("a",)),))
        if is_cut:
            assert strange in render(event, options, max_bytes=LIMIT)
        else:
            assert "nested too deeply" in failure(options, event)


def test_an_event_as_deep_as_may_be_is_read_by_all_and_one_level_more_by_none() -> None:
    def nested(levels: int) -> bytes:
        return b'{"n":' + b"[" * (levels - 1) + b"1" + b"]" * (levels - 1) + b"}"

    deep = raw_json.MAX_STORED_DEPTH - 2  # the body adds two levels
    event = replace(EVENT, data=nested(deep))
    assert not passes("id == 'other'", event)
    assert render(event, PayloadOptions(transform="data.object"), max_bytes=LIMIT) == nested(deep)
    assert "nested too deeply" in failure(
        PayloadOptions(transform="data.object"), replace(EVENT, data=nested(deep + 1))
    )
    for levels, is_read in ((raw_json.MAX_STORED_DEPTH - 1, True), (raw_json.MAX_STORED_DEPTH, False)):
        event = replace(EVENT, snapshot=b'{"e":' + nested(levels) + b"}")
        options = PayloadOptions(snapshot=(("e", ("n",)),))
        if is_read:
            assert nested(levels) in render(event, options, max_bytes=LIMIT)
        else:
            assert "nested too deeply" in failure(options, event)


@settings(max_examples=150)
@given(events, expressions, st.booleans())
def test_rendering_raises_a_render_error_and_nothing_else(event: PayloadEvent, text: str, is_cut: bool) -> None:
    options = PayloadOptions(snapshot=(("a", ("id",)), ("é", None)) if is_cut else None, transform=text)
    body, reason = b"null", "none"
    try:
        body = render(event, options, max_bytes=500)
    except RenderError as error:
        reason = str(error)
    assert 0 < len(reason) < 500
    assert len(body) <= 500
    json.loads(body, parse_constant=pytest.fail)
    assert passes(text, event) in {True, False}


@given(events, well_formed)
def test_the_same_event_and_expression_always_make_the_same_bytes(event: PayloadEvent, text: str) -> None:
    def once() -> bytes | str:
        try:
            return render(event, PayloadOptions(transform=text), max_bytes=LIMIT)
        except RenderError as error:
            return str(error)

    assert once() == once()


@pytest.mark.parametrize(
    "falsehood", ["`null`", "`false`", "''", "`[]`", "`{}`", "nope", "data.object.items[?n > `5`]"]
)
def test_what_is_false_to_jmespath_keeps_an_event_out(falsehood: str) -> None:
    assert not passes(falsehood, EVENT)
    assert passes(f"!({falsehood})", EVENT)


@pytest.mark.parametrize("truth", ["`0`", "`0.0`", "`true`", "' '", "`[0]`", "`[null]`", '`{"a": null}`', "id", "`-1`"])
def test_what_is_true_to_jmespath_lets_an_event_pass_and_zero_is(truth: str) -> None:
    assert passes(truth, EVENT)
    assert not passes(f"!({truth})", EVENT)


def test_a_filter_sees_the_whole_snapshot_whatever_the_route_chose_of_it() -> None:
    assert passes("snapshot.customer.id == `7`", EVENT)
    assert not passes("snapshot.customer.id == `8`", EVENT)
    assert passes("type == 'order.create' && context.shop == 'de' && data.object.items[?sku == 'a']", EVENT)
    assert not passes("snapshot.customer", replace(EVENT, snapshot=None))


def test_a_filter_that_fails_lets_the_event_pass() -> None:
    for broken in ("sum(data)", "id[", "no_such(@)", "!" * 3000 + "id", "|".join(["[@,@]"] * 60)):
        assert passes(broken, EVENT)


def test_a_filter_that_fails_fails_the_body_and_one_that_is_false_does_not() -> None:
    assert "sum()" in failure(PayloadOptions(filter="sum(data)"))
    assert shaped(PayloadOptions(filter="`false`")) == shaped()


def test_an_expression_that_is_accepted_in_a_draft_is_never_refused_for_its_form_later() -> None:
    for text in ("(" * 99 + "id" + ")" * 99, "||".join(["a"] * 95), ".".join(["a"] * 2000)):
        assert expression.problem(text) is None
        render(EVENT, PayloadOptions(transform=text), max_bytes=LIMIT)


def test_the_envelope_does_not_read_what_it_wraps() -> None:
    assert envelope(replace(EVENT, data=b"%d"), b"%s").endswith(
        b'"data":{"object":%d},"context":{"shop":"de"},"snapshot":%s}'
    )


def test_an_event_is_parsed_once_for_all_its_filters(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []
    read = json_values.read

    def counted(text: str) -> Json:
        parsed.append(text)
        return read(text)

    monkeypatch.setattr(json_values, "read", counted)
    filters = EventFilters(EVENT)
    assert not parsed
    assert [filters.passes(text) for text in ("id", "type == 'x'", "snapshot.customer", "id")] == [
        True,
        False,
        True,
        True,
    ]
    assert len(parsed) == 1


def test_a_body_with_a_filter_and_a_transform_is_the_one_that_each_makes_alone() -> None:
    chosen: Any = {"snapshot": (("customer", None),), "transform": "{t: type, s: snapshot, d: data}"}
    alone = render(EVENT, PayloadOptions(**chosen), max_bytes=10_000)
    assert render(EVENT, PayloadOptions(filter="snapshot", **chosen), max_bytes=10_000) == alone


def test_each_filter_is_evaluated_once_and_its_result_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated: list[str] = []
    evaluate = expression.evaluate

    def counted(text: str, *arguments: Any, **options: Any) -> object:
        evaluated.append(text)
        return evaluate(text, *arguments, **options)

    monkeypatch.setattr(expression, "evaluate", counted)
    filters = EventFilters(EVENT)
    bomb = "|".join(["[@,@]"] * 60) + "|to_string(@)"
    for text in ("id", "id", "data.no", "sum(id)", "sum(id)", bomb, bomb):
        filters.passes(text)
    assert evaluated == ["id", "data.no", "sum(id)", bomb]
    assert list(filters.results.values()) == [
        FilterResult.PASSES,
        FilterResult.STOPS,
        FilterResult.FAILS,
        FilterResult.OVER_BUDGET,
    ]
    assert filters.passes(bomb)


def test_beyond_an_allowance_nothing_is_decided() -> None:
    with pytest.raises(TooHeavy):
        EventFilters(EVENT, allowance=StepAllowance(steps=1, document_bytes=100_000)).passes("id == 'x' || type == 'y'")
    with pytest.raises(TooHeavy):
        EventFilters(EVENT, allowance=StepAllowance(steps=1000, document_bytes=10)).passes("id")
    with pytest.raises(TooHeavy):
        render(
            EVENT,
            PayloadOptions(transform="{t: type, s: snapshot, d: data}"),
            max_bytes=10_000,
            allowance=StepAllowance(steps=3, document_bytes=100_000),
        )


@pytest.mark.parametrize("transform", ["data.object", "{d: data.object}", "{d: data.object.list[0]}"])
def test_what_is_picked_of_a_body_counts_as_several_of_its_size(transform: str) -> None:
    event = replace(EVENT, data=b'{"list":[{}%s]}' % (b",1" * 1000))
    size = len(render(event, PLAIN, max_bytes=1))
    allowance = StepAllowance(steps=10_000, document_bytes=size * DOCUMENT_READS - 1)
    counted = PayloadOptions(transform="{n: length(data.object.list)}")
    assert render(event, counted, max_bytes=100, allowance=allowance) == b'{"n":1001}'
    picked = PayloadOptions(transform=transform)
    with pytest.raises(TooHeavy):
        render(event, picked, max_bytes=10_000, allowance=allowance)
    allowance = StepAllowance(steps=10_000, document_bytes=size * DOCUMENT_READS)
    assert render(event, picked, max_bytes=10_000, allowance=allowance) == render(event, picked, max_bytes=10_000)


@pytest.mark.parametrize("fields", [None, ("a",)])
def test_beyond_an_allowance_no_snapshot_is_cut(fields: tuple[str, ...] | None) -> None:
    cut = PayloadOptions(snapshot=(("e", fields),))
    large = replace(EVENT, snapshot=b'{"e":[%s]}' % b",".join([b'{"a":1}'] * 1000))
    body = render(large, cut, max_bytes=1)
    allowance = StepAllowance(steps=0, document_bytes=len(large.snapshot or b"") - 1)
    with pytest.raises(TooHeavy):
        render(large, cut, max_bytes=1, allowance=allowance)
    assert render(large, PLAIN, max_bytes=1, allowance=allowance)
    allowance.document_bytes += 1
    assert render(large, cut, max_bytes=1, allowance=allowance) == body


def test_a_snapshot_that_has_no_room_elsewhere_is_cut_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daemon.core.webhook.payload.MAX_CUT_APART_BYTES", 5)
    large = replace(EVENT, snapshot=b'{"e":{"a":1}}')
    allowance = StepAllowance(steps=0, document_bytes=1)
    assert render(large, PayloadOptions(snapshot=(("e", None),)), max_bytes=1, allowance=allowance)


@pytest.mark.parametrize("allowance", [None, StepAllowance(steps=1, document_bytes=1)])
def test_an_event_that_is_too_large_for_expressions_is_not_parsed(allowance: StepAllowance | None) -> None:
    bare = replace(EVENT, context=None, snapshot=None)
    others = len(envelope(replace(bare, data=b'{"a":""}'), b"{}")) - len(b'{"a":""}')
    most = MAX_DOCUMENT_BYTES - others - len(b'{"a":""}')
    largest, larger = (replace(bare, data=b'{"a":"%s"}' % (b"a" * size)) for size in (most, most + 1))
    assert EventFilters(largest).result("data") is FilterResult.PASSES
    assert EventFilters(larger, allowance=allowance).result("data") is FilterResult.OVER_BUDGET
    limit = 2 * MAX_DOCUMENT_BYTES
    for options in (PayloadOptions(transform="id"), PayloadOptions(transform="{x: id}"), PayloadOptions(filter="data")):
        assert render(largest, options, max_bytes=limit)
        with pytest.raises(RenderError, match="more than 4 MiB, and expressions read no larger ones") as raised:
            render(larger, options, max_bytes=limit, allowance=allowance)
        assert raised.value.is_over_budget
    assert len(render(larger, PLAIN, max_bytes=1)) == MAX_DOCUMENT_BYTES + 1
