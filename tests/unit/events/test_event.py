"""Domain events as published: all problems are reported at once, and a valid payload is kept byte for byte."""

import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from daemon.core.events import trace_context
from daemon.core.events.event import (
    FIELDS,
    FieldProblem,
    IncomingEvent,
    instant,
    parse,
    pattern_problem,
    tenant_problem,
)
from daemon.core.events.trace_context import TraceContext

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
LIMIT = 262_144
VALID: dict[str, Any] = {
    "tenant": "acme",
    "type": "order.create",
    "id": "evt_1",
    "occurred_at": "2026-11-23T07:59:59.123456Z",
    "data": {"n": 1},
    "context": {"c": True},
    "snapshot": {"customer": {}},
    "backfill": False,
}


def parsed(
    value: object, *, max_bytes: int = LIMIT, tenant: str | None = None
) -> IncomingEvent | tuple[FieldProblem, ...]:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return parse(raw, now=NOW, max_bytes=max_bytes, tenant=tenant)


def accepted(value: object, **options: Any) -> IncomingEvent:
    found = parsed(value, **options)
    assert isinstance(found, IncomingEvent), found
    return found


def refused(value: object, **options: Any) -> dict[str, str]:
    """Field → message."""
    found = parsed(value, **options)
    assert isinstance(found, tuple), found
    assert found
    assert len({problem.field for problem in found}) == len(found), found
    return {problem.field: problem.message for problem in found}


def test_the_fields_are_those_of_the_contract() -> None:
    assert FIELDS == ("tenant", "type", "id", "occurred_at", "data", "context", "snapshot", "backfill")


def test_a_valid_event_comes_through() -> None:
    event = accepted(VALID)
    assert (event.tenant, event.type, event.id, event.backfill) == ("acme", "order.create", "evt_1", False)
    assert event.occurred_at == NOW - timedelta(seconds=1) + timedelta(microseconds=123456)
    assert (event.data, event.context, event.snapshot) == (b'{"n": 1}', b'{"c": true}', b'{"customer": {}}')


def test_only_tenant_type_and_data_are_needed() -> None:
    event = accepted({"tenant": "acme", "type": "order.create", "data": {}})
    assert (event.id, event.occurred_at, event.context, event.snapshot, event.backfill) == (
        None,
        None,
        None,
        None,
        False,
    )


def test_null_is_the_same_as_leaving_a_field_out() -> None:
    optional = ("id", "occurred_at", "context", "snapshot", "backfill")
    whole = accepted({"tenant": "acme", "type": "order.create", "data": {}, **dict.fromkeys(optional)})
    assert whole == accepted({"tenant": "acme", "type": "order.create", "data": {}})
    assert accepted({"tenant": None, "type": "order.create", "data": {}}, tenant="acme").tenant == "acme"


def test_the_payload_is_kept_to_the_letter() -> None:
    data = '{ "big":123456789012345678901234567890, "d" : 1.10,"d":2E0, "\\u00e9":"caf\\u00e9\\/", "b":1,"a":[ ] }'
    event = accepted(f' {{"data" : {data} ,"tenant":"acme","type":"order.create"}}\n'.encode())
    assert event.data == data.encode()


compact = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
objects = st.dictionaries(st.text(max_size=5), compact, max_size=3)


@given(objects, objects | st.none(), st.booleans(), st.booleans())
def test_a_compact_event_and_an_airy_one_keep_their_own_bytes(
    data: dict[str, Any], context: dict[str, Any] | None, is_compact: bool, is_ascii: bool
) -> None:
    separators = (",", ":") if is_compact else (" , ", " :  ")
    texts = [json.dumps(part, separators=separators, ensure_ascii=is_ascii) for part in (data, context)]
    event = accepted(f'{{"tenant":"a","type":"a.b","data":{texts[0]},"context":{texts[1]}}}'.encode())
    assert event.data == texts[0].encode()
    assert event.context == (None if context is None else texts[1].encode())


def test_all_problems_are_reported_at_once() -> None:
    assert refused({
        "tenant": "a b", "type": "Order", "id": "", "occurred_at": "yesterday", "data": [], "context": 1,
        "snapshot": "x", "backfill": "no", "occured_at": 1, "colour": 2,
    }) == {
        "occured_at": "is not a field of an event: did you mean occurred_at?",
        "colour": f"is not a field of an event: known are {', '.join(FIELDS)}",
        "tenant": "must be 1 to 128 printable ASCII characters without spaces",
        "type": "must be object.action in lower case (a-z, 0-9, _), like order.create, of at most 128 characters",
        "id": "must be 1 to 128 printable ASCII characters, or left out",
        "occurred_at": "must be an RFC 3339 time with offset, like 2026-11-23T08:00:00.000000Z",
        "data": "must be a JSON object",
        "context": "must be a JSON object",
        "snapshot": "must be a JSON object",
        "backfill": "must be true or false",
    }  # fmt: skip


@pytest.mark.parametrize("dots", [".", ".."])
def test_what_clients_take_out_of_an_address_is_no_id(dots: str) -> None:
    told = "must not be . or .., which lead elsewhere in an address"
    assert refused({"tenant": dots, "type": "a.b", "id": dots, "data": {}}) == {"tenant": told, "id": told}
    for near in ("...", ".a", "a.", "-.-"):
        accepted(json.dumps({"tenant": near, "type": "a.b", "id": near, "data": {}}).encode())


def test_what_is_missing_is_named() -> None:
    assert {field: message.split(":")[0] for field, message in refused({}).items()} == {
        "tenant": "is missing",
        "type": "is missing",
        "data": "is missing",
    }


WRONG: dict[str, tuple[object, ...]] = {
    "tenant": (1, True, [], {}, "", " ", "a b", "é", "a\n", "x" * 129, 1.5),
    "type": (1, [], "", "order", "Order.create", "order.", ".create", "order..create", "order.cre ate", "order.create\n",
             "a." + "x" * 127, "bestellung.ändern"),
    "id": (1, False, [], "", "é", "a\tb", "a\n", "x" * 129, 0),
    "occurred_at": (1, 1.5, True, [], {}, "", "now", "1700000000"),
    "data": (None, 1, "x", [], True),
    "context": (1, "x", [], False, 0, ""),
    "snapshot": (1, "x", [], False, 0, ""),
    "backfill": (0, 1, "true", [], {}),
}  # fmt: skip


@pytest.mark.parametrize(("field", "wrong"), [(field, value) for field, values in WRONG.items() for value in values])
def test_a_value_of_the_wrong_kind_is_refused_in_its_field_alone(field: str, wrong: object) -> None:
    assert set(refused({**VALID, field: wrong})) == {field}


def test_the_longest_texts_are_accepted() -> None:
    longest = {**VALID, "tenant": "t" * 128, "id": "~ " * 64, "type": "a." + "x" * 126}
    assert accepted(longest).type == longest["type"]


@pytest.mark.parametrize("event_id", ['a"b', "a\\b", "100%", "%s %d", "{}", "'", "a b", " "])
def test_an_id_may_have_any_printable_character(event_id: str) -> None:
    assert accepted({**VALID, "id": event_id}).id == event_id


def test_a_misspelt_field_gets_a_suggestion() -> None:
    for typo, meant in (("tennant", "tenant"), ("Type", "type"), ("snap_shot", "snapshot"), ("back_fill", "backfill")):
        assert refused({**VALID, typo: 1}) == {typo: f"is not a field of an event: did you mean {meant}?"}


def test_an_event_of_thousands_of_unknown_fields_is_refused_quickly_and_briefly() -> None:
    event = {f"f{number}": 1 for number in range(20_000)}
    started = time.process_time()
    problems = refused(event)
    assert time.process_time() - started < 5  # 0.1 s when nothing else runs; 20,000 suggestions would take minutes
    assert len(problems) < 20


def test_an_unknown_field_of_great_length_is_shown_cut_off() -> None:
    (field,) = refused({**VALID, "x" * 100_000: 1})
    assert len(field) == 128


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_given_twice_is_refused(field: str) -> None:
    text = json.dumps(VALID)
    twice = f'{text[:-1]}, "{field}": {json.dumps(VALID[field])}}}'
    assert refused(twice.encode()) == {field: "is given more than once"}
    escaped = f'{text[:-1]}, "\\u{ord(field[0]):04x}{field[1:]}": {json.dumps(VALID[field])}}}'
    assert refused(escaped.encode()) == {field: "is given more than once"}


def test_a_token_stands_for_its_tenant() -> None:
    nameless = {key: value for key, value in VALID.items() if key != "tenant"}
    assert accepted(nameless, tenant="acme").tenant == "acme"
    assert accepted(VALID, tenant="acme").tenant == "acme"
    assert "another tenant" in refused(VALID, tenant="globex")["tenant"]
    assert "printable" in refused({**VALID, "tenant": ""}, tenant="acme")["tenant"]
    assert set(refused(nameless)) == {"tenant"}


def test_a_time_is_one_that_postgresql_keeps() -> None:
    """asyncpg takes the first and the last moment of `datetime` for no bound, and returns them without a zone."""
    first, last = instant("0001-01-01T00:00:00Z"), instant("9999-12-31T23:59:59.999999Z")
    assert first - datetime.min.replace(tzinfo=UTC) == datetime.max.replace(tzinfo=UTC) - last == timedelta.resolution
    assert first.tzinfo is last.tzinfo is UTC


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2026-11-23T07:00:00Z", "2026-11-23T07:00:00+00:00"),
        ("2026-11-23t07:00:00z", "2026-11-23T07:00:00+00:00"),
        ("2026-11-23T07:00:00+00:00", "2026-11-23T07:00:00+00:00"),
        ("2026-11-23T07:00:00-00:00", "2026-11-23T07:00:00+00:00"),
        ("2026-11-23T07:00:00+05:30", "2026-11-23T01:30:00+00:00"),
        ("2026-11-22T20:00:00-11:00", "2026-11-23T07:00:00+00:00"),
        ("2026-11-23T07:00:00.5Z", "2026-11-23T07:00:00.500000+00:00"),
        ("2026-11-23T07:00:00.123456789Z", "2026-11-23T07:00:00.123456+00:00"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00+00:00"),
        ("2017-01-01T00:59:60.25+01:00", "2017-01-01T00:00:00.250000+00:00"),
        ("2024-02-29T00:00:00Z", "2024-02-29T00:00:00+00:00"),
        ("1970-01-01T00:00:00Z", "1970-01-01T00:00:00+00:00"),
    ],
)
def test_a_time_is_rfc_3339_and_becomes_utc(text: str, utc: str) -> None:
    assert instant(text).isoformat() == utc
    event = accepted({**VALID, "occurred_at": text})
    assert event.occurred_at is not None
    assert event.occurred_at.isoformat() == utc
    assert event.occurred_at.tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-23", "2026-11-23T07:00:00", "2026-11-23 07:00:00Z", "2026-11-23T07:00Z", "20261123T070000Z",
        "2026-W48-1T07:00:00Z", "2026-11-23T07:00:00,5Z", "2026-11-23T07:00:00.Z", "2026-11-23T07:00:00+0100",
        "2026-11-23T07:00:00+01", "2026-11-23T07:00:00+01:00:30", "2026-11-23T24:00:00Z", "2026-11-23T07:60:00Z",
        "2026-11-23T07:00:61Z", "2026-13-01T07:00:00Z", "2026-02-29T07:00:00Z", "0000-01-01T00:00:00Z",
        "2026-11-23T07:00:00+24:00", "2026-11-23T07:00:00Z ", " 2026-11-23T07:00:00Z", "2026-11-23T07:00:00Z\n",
        "٢٠٢٦-11-23T07:00:00Z", "-2026-11-23T07:00:00Z", "12026-11-23T07:00:00Z", "infinity", "-infinity", "epoch",
        "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "9999-12-31T23:59:60Z",
    ],
)  # fmt: skip
def test_any_other_time_is_refused_with_an_example_of_a_right_one(text: str) -> None:
    assert "like 2026-11-23T08:00:00" in refused({**VALID, "occurred_at": text})["occurred_at"]


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00Z", "0001-01-01T00:00:00.000001Z", "1969-12-31T23:59:59.999999Z"])
def test_a_time_that_was_never_set_is_refused(text: str) -> None:
    # asyncpg writes the year 1 as -infinity, and reads that as a time without zone, which nothing can be compared with.
    assert "before 1970" in refused({**VALID, "occurred_at": text})["occurred_at"]


def test_a_clock_may_be_ahead_but_not_by_more_than_a_day() -> None:
    for skew in (timedelta(seconds=1), timedelta(hours=3), timedelta(days=1)):
        assert accepted({**VALID, "occurred_at": (NOW + skew).isoformat()}).occurred_at == NOW + skew
    late = NOW + timedelta(days=1, microseconds=1)
    assert "future" in refused({**VALID, "occurred_at": late.isoformat()})["occurred_at"]
    assert "future" in refused({**VALID, "occurred_at": "9999-12-31T23:59:59.999999Z"})["occurred_at"]


@given(st.datetimes(timezones=st.timezones()))
def test_every_time_is_either_kept_or_refused(at: datetime) -> None:
    found = parsed({**VALID, "occurred_at": at.isoformat()})
    at = datetime.fromisoformat(at.isoformat())  # a named zone's time in a gap or a fold equals nothing
    if isinstance(found, IncomingEvent):
        assert found.occurred_at == at
        assert datetime(1970, 1, 1, tzinfo=UTC) <= at <= NOW + timedelta(days=1)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "not valid JSON"),
        (b"{", "not valid JSON"),
        (b"{} {}", "not valid JSON"),
        (b'{"a":1,}', "not valid JSON"),
        (b"{'a':1}", "not valid JSON"),
        (b'{"data":NaN}', "not valid JSON"),
        (b'{"data":"\xff"}', "not valid JSON: it is not UTF-8"),
        (b"\xef\xbb\xbf{}", "not valid JSON"),
        ('{"data":{}}'.encode("utf-16"), "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b"[]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'"x"', "must be a JSON object"),
        (b"1", "must be a JSON object"),
    ],
)
def test_what_is_no_json_object_is_refused_as_a_whole(raw: bytes, words: str) -> None:
    assert words in refused(raw)[""]


def test_an_event_may_have_as_many_bytes_as_allowed_and_not_one_more() -> None:
    raw = json.dumps(VALID).encode()
    assert accepted(raw, max_bytes=len(raw)).id == "evt_1"
    assert f"the event has {len(raw)} bytes" in refused(raw, max_bytes=len(raw) - 1)[""]


@pytest.mark.parametrize("blank", ["", " "])
@pytest.mark.parametrize(("opened", "closed"), [("[", "]"), ('{"a":', "}")])
def test_nesting_is_bounded_by_a_number_and_not_by_the_stack(blank: str, opened: str, closed: str) -> None:
    def nested(depth: int) -> bytes:
        data = f'{{"n":{opened * depth}1{closed * depth}}}'
        return f'{{"tenant":{blank}"a","type":"a.b","data":{data}}}'.encode()

    assert accepted(nested(252)).type == "a.b"
    assert refused(nested(253)) == {"": "the JSON is nested too deeply"}
    assert "nested too deeply" in refused(nested(900))[""]
    assert refused(nested(20_000))


@given(st.binary(max_size=200))
@example(b"\x00")
def test_no_bytes_make_it_raise(raw: bytes) -> None:
    assert isinstance(parse(raw, now=NOW, max_bytes=LIMIT), tuple)


@settings(max_examples=150)
@given(st.data())
def test_no_mutation_of_a_valid_event_makes_it_raise(data: st.DataObject) -> None:
    raw = bytearray(json.dumps(VALID, separators=data.draw(st.sampled_from([(",", ":"), (", ", ": ")]))).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(raw)))
        raw[place : place + data.draw(st.integers(0, 3))] = data.draw(
            st.binary(max_size=2)
            | st.sampled_from([b'"', b"{", b"}", b"\\u0000", b"null", b"1e5", b"9" * 30, b"[[", b","])
        )
    found = parse(bytes(raw), now=NOW, max_bytes=LIMIT)
    if isinstance(found, IncomingEvent):
        assert isinstance(json.loads(found.data), dict)
        assert tenant_problem(found.tenant) is None
        assert found.data in bytes(raw)


@given(st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=8), compact, max_size=8))
def test_no_object_makes_it_raise_and_no_field_is_named_twice_for_one_mistake(value: dict[str, Any]) -> None:
    found = parsed(value, tenant="acme")
    if isinstance(found, tuple):
        assert found
        assert len({problem.field for problem in found}) == len(found)


@pytest.mark.parametrize(
    "pattern", ["*", "order.*", "order.item.*", "order.create", "order_2.item.added", "a.b", "0.*"]
)
def test_a_pattern_is_a_type_all_below_a_prefix_or_all(pattern: str) -> None:
    assert pattern_problem(pattern) is None


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "order",
        "**",
        "*.create",
        "order.*.added",
        "order*",
        "order.**",
        "order.item.*.x",
        "Order.*",
        "order.",
        "order.* ",
        "order.*\n",
        ".*",
        "a,b.c",
    ],
)
def test_any_other_pattern_is_refused_with_what_would_be_right(pattern: str) -> None:
    assert "use a type like order.create" in (pattern_problem(pattern) or "")


def test_a_pattern_has_the_length_of_a_type_at_most() -> None:
    assert pattern_problem("a." + "x" * 126) is None
    problem = pattern_problem("a." + "x" * 100_000) or ""
    assert "128 are allowed" in problem
    assert len(problem) < 100


@given(st.text(max_size=5))
@example(".")
@example("..")
@example("...")
def test_a_tenant_is_printable_ascii_without_spaces_and_no_step_in_a_path(text: str) -> None:
    is_right = text not in {"", ".", ".."} and all("!" <= character <= "~" for character in text)
    assert (tenant_problem(text) is None) is is_right


@pytest.mark.parametrize(
    "value", ["1E400", "-1e999", "1e99999999999999999999", '"\\ud83d"', '"x\\udc00"', '{"\\ud83d":1}']
)
def test_json_that_orjson_does_not_read_is_kept_as_it_was_sent(value: str) -> None:
    data = f'{{"n": {value}}}'
    found = parse(f'{{"tenant":"acme","type":"a.b","data":{data}}}'.encode(), now=NOW, max_bytes=1000)
    assert isinstance(found, IncomingEvent)
    assert found.data == data.encode()


def test_such_json_is_not_deeper_than_other() -> None:
    for depth, is_kept in ((252, True), (253, False)):
        data = '{"n":1e999,"d":' + "[" * depth + "]" * depth + "}"
        found = parse(f'{{"tenant":"acme","type":"a.b","data":{data}}}'.encode(), now=NOW, max_bytes=1000)
        assert isinstance(found, IncomingEvent) == is_kept


def test_an_unknown_name_with_half_a_character_is_named_in_a_way_that_can_be_written() -> None:
    assert refused(b'{"tenant":"acme","type":"a.b","data":{},"x\\ud83d":1}')["x?"].startswith("is not a field")


def test_a_context_that_looks_like_a_kept_trace_is_refused_since_it_could_not_be_given_back() -> None:
    kept = trace_context.keep(b'{"a": 1}', TraceContext(trace_id=1, span_id=2, is_sampled=True))
    raw = b'{"tenant": "acme", "type": "order.create", "data": {}, "context": %b}'
    refused = parsed(raw % kept)
    assert isinstance(refused, tuple)
    assert [problem.field for problem in refused] == ["context"]
    assert isinstance(parsed(raw % kept.replace(b"{", b"{ ")), IncomingEvent)
