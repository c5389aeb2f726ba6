"""Events that expressions make of messages: what is picked keeps its bytes, and a failure names its field."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from daemon.core.messages import mapping, message
from daemon.core.messages.mapping import MappingFailed
from daemon.core.messages.message import NotJson
from daemon.core.webhook.expression import StepAllowance, TooHeavy
from tests.support.kafka.messages import MadeMessage, mapping_of


def made(given: MadeMessage, filter: str | None = None, *, max_bytes: int = 10_000, **fields: str) -> bytes | None:
    return mapping.mapped(message.mappable(given), mapping_of(filter, **fields), max_bytes=max_bytes)


def fields(given: MadeMessage, **expressions: str) -> Any:
    return orjson.loads(made(given, None, **expressions) or b"null")  # type: ignore[arg-type] # none is max_bytes


def test_a_message_is_a_document_of_seven_members() -> None:
    given = MadeMessage(value=b'{"a": 1.10}', key=b"k1", headers=(("trace", b"t"), ("none", None)))
    assert orjson.loads(message.mappable(given).document()[0]) == {
        "key": "k1",
        "value": {"a": 1.1},
        "headers": {"trace": "t", "none": None},
        "topic": "orders",
        "partition": 3,
        "offset": 42,
        "timestamp": "2026-11-23T08:00:00.123000Z",
    }


@pytest.mark.parametrize(
    ("key", "seen"),
    [
        (None, None),
        (b"", ""),
        (b"17", "17"),
        (b'{"id": 1}', {"id": 1}),
        (b"{no json", "{no json"),
        (b"\xff\x00", "/wA="),
        ("käse".encode(), "käse"),
    ],
)
def test_a_key_is_a_text_unless_it_is_an_object_or_list(key: bytes | None, seen: object) -> None:
    assert orjson.loads(message.mappable(MadeMessage(key=key)).document()[0])["key"] == seen


@pytest.mark.parametrize("timestamp", [None, -1, 1 << 62])
def test_a_message_without_a_time_has_none(timestamp: int | None) -> None:
    assert orjson.loads(message.mappable(MadeMessage(timestamp=timestamp)).document()[0])["timestamp"] is None


def test_the_payload_is_what_was_published_byte_for_byte() -> None:
    value = b'{"order": {"total": 1.10, "note": "caf\\u00e9",  "n": 123456789012345678901234567890, "a": 1, "a": 2}}'
    order = value[10:-1]
    for expression, expected in (("value", value), ("value.order", order)):
        text = made(MadeMessage(value=value), data=expression)
        assert text is not None
        assert b'"data":' + expected in text
    text = made(MadeMessage(value=value), data="{order: value.order, by: key}")
    assert text is not None
    assert b'"data":{"order":' + order + b',"by":null}' in text


@pytest.mark.parametrize(
    "value",
    [
        b'{"a": {"b": [1.10,  "\\u00e9"]}}',
        b' {"a": {"b": 1}, "a": {"b": {"c": 2}}} ',
        b'{"a": [1]}',
        b'{"a": null}',
        b'{"a": "text"}',
        b"[1]",
        b"7",
        b"null",
    ],
)
def test_a_part_that_is_picked_by_its_names_is_what_the_expression_picks(value: bytes) -> None:
    for names in ("value", "value.a", "value.a.b", "value.a.b.c", "value.missing"):
        otherwise = f"[{names}] | [0]"  # the same, and no mere pick
        text = made(MadeMessage(value=value), data=names)
        assert text is not None
        assert orjson.loads(text) == fields(MadeMessage(value=value), data=otherwise), names


def test_expressions_see_key_headers_and_place() -> None:
    given = MadeMessage(key=b"acme", value=b'{"kind": "create", "n": 7}', headers=(("trace", b"t1"),))
    assert fields(
        given,
        tenant="key",
        type="join('.', ['order', value.kind])",
        id="join('-', [topic, to_string(partition), to_string(offset)])",
        occurred_at="timestamp",
        context="{trace: headers.trace}",
        snapshot="missing",
    ) == {
        "tenant": "acme",
        "type": "order.create",
        "id": "orders-3-42",
        "occurred_at": "2026-11-23T08:00:00.123000Z",
        "data": {"kind": "create", "n": 7},
        "context": {"trace": "t1"},
    }


@pytest.mark.parametrize(
    ("value", "at"),
    [
        (b"1795420800", "2026-11-23T08:00:00+00:00"),
        (b"1795420800123", "2026-11-23T08:00:00.123000+00:00"),
        (b"1795420800.5", "2026-11-23T08:00:00.500000+00:00"),
        (b'"2026-11-23T08:00:00Z"', "2026-11-23T08:00:00Z"),
    ],
)
def test_a_time_may_be_a_number_of_seconds_or_milliseconds(value: bytes, at: str) -> None:
    assert fields(MadeMessage(value=b'{"at": %s}' % value), occurred_at="value.at")["occurred_at"] == at


def test_a_number_is_an_id_as_it_was_written() -> None:
    value = b'{"id": 12345678901234567890123, "shop": 7}'
    found = fields(MadeMessage(value=value), id="value.id", tenant="value.shop")
    assert (found["id"], found["tenant"]) == ("12345678901234567890123", "7")


def test_a_message_of_which_the_filter_is_false_is_passed_over() -> None:
    for value, is_there in ((b'{"op": "c"}', True), (b'{"op": "d"}', False), (b"{}", False)):
        assert (made(MadeMessage(value=value), filter="value.op == 'c'") is not None) is is_there


def test_an_event_can_be_made_of_a_tombstone() -> None:
    found = fields(MadeMessage(value=None, key=b"o1"), type="'order.delete'", data="{id: key}")
    assert found == {"tenant": "acme", "type": "order.delete", "data": {"id": "o1"}}


@pytest.mark.parametrize(
    ("expressions", "field", "reason"),
    [
        ({"tenant": "value"}, "tenant", "it makes an object, and must make a text"),
        ({"id": "[key]"}, "id", "it makes a list, and must make a text"),
        ({"type": "`true`"}, "type", "it makes true or false, and must make a text"),
        ({"occurred_at": "`1e300`"}, "occurred_at", "is no time in seconds or milliseconds since 1970"),
        ({"data": "join('', value)"}, "data", "the expression failed: In function join()"),
        ({"data": "{a: value, b: value, c: value}"}, "data", "it makes more than the 100 bytes"),
        ({"filter": "abs('x')"}, "filter", "the expression failed: In function abs()"),
        ({"data": "[@,@] | " * 30 + "[@,@]"}, "data", "takes too many steps"),
    ],
)
def test_a_failure_names_the_field_of_its_expression(expressions: dict[str, str], field: str, reason: str) -> None:
    with pytest.raises(MappingFailed, match=r".") as failure:
        made(MadeMessage(value=b'{"a": "%s"}' % (b"x" * 60)), max_bytes=100, **expressions)
    assert (failure.value.field, reason in str(failure.value)) == (field, True), str(failure.value)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "not valid JSON"),
        (b"[1,", "not valid JSON"),
        (b"\x00\x00\x00\x00\x01abc", "let the producer write plain JSON"),
        (b"[" * 300 + b"]" * 300, "nested too deeply"),
    ],
)
def test_a_value_that_is_no_json_is_told(value: bytes, reason: str) -> None:
    with pytest.raises(NotJson, match=reason):
        message.value_json(value)


def test_beyond_an_allowance_it_is_left_to_another_place() -> None:
    given = MadeMessage(value=b'{"a": "%s"}' % (b"x" * 5000))
    for allowance in (StepAllowance(steps=10**9, document_bytes=1000), StepAllowance(steps=1, document_bytes=10**6)):
        with pytest.raises(TooHeavy):
            mapping.mapped(message.mappable(given), mapping_of(id="value.a"), max_bytes=10_000, allowance=allowance)


@pytest.mark.parametrize("picking", ["{d: value.list}", "{d: value.list[0]}", "key"])
def test_what_has_to_keep_its_text_counts_as_several_of_its_size(picking: str) -> None:
    given = message.mappable(MadeMessage(key=b'{"k": 1}', value=b'{"list": [{}%s]}' % (b",1" * 1000)))
    allowance = StepAllowance(steps=10**6, document_bytes=2 * given.size_bytes)
    counting = mapping_of(data="{n: length(value.list)}")
    assert mapping.mapped(given, counting, max_bytes=10_000, allowance=allowance) is not None
    with pytest.raises(TooHeavy):
        mapping.mapped(given, mapping_of(data=picking), max_bytes=10_000, allowance=allowance)
    allowance.document_bytes *= 3
    assert mapping.mapped(given, mapping_of(data=picking), max_bytes=10_000, allowance=allowance) is not None
