"""What messages become: the same events as over HTTP, or reasons that say what to do."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from daemon.core.events.event import IncomingEvent
from daemon.core.messages import reading
from daemon.core.messages.reading import Filtered, MessageResult, MessageRules
from tests.support.kafka.messages import MadeMessage, mapping_of

NOW = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
PLAIN = MessageRules(max_bytes=1000)
CLOUD = MessageRules(max_bytes=1000, are_cloud_events=True)
MAPPED = MessageRules(max_bytes=1000, mapping=mapping_of("value.op != 'd'", id="value.id"))


def read(rules: MessageRules, value: bytes | None, **headers: str) -> MessageResult:
    pairs = tuple((name.replace("content_type", "content-type"), text.encode()) for name, text in headers.items())
    return reading.read(MadeMessage(value=value, headers=pairs), rules, now=NOW)


def event(rules: MessageRules, value: bytes | None, **headers: str) -> IncomingEvent:
    found = read(rules, value, **headers)
    assert isinstance(found, IncomingEvent), found
    return found


def reason(rules: MessageRules, value: bytes | None, **headers: str) -> str:
    found = read(rules, value, **headers)
    assert isinstance(found, tuple)
    return "; ".join(f"{problem.field}: {problem.message}" for problem in found)


def test_a_message_is_an_event_as_over_http() -> None:
    found = event(PLAIN, b'{"tenant": "acme", "type": "order.create", "id": "e1", "data": {"a": 1.10}}')
    assert (found.tenant, found.type, found.id, found.data) == ("acme", "order.create", "e1", b'{"a": 1.10}')


def test_a_cloud_event_stands_in_the_value_or_in_headers() -> None:
    text = b'{"specversion": "1.0", "id": "1", "source": "/s", "type": "a.b", "subject": "acme", "data": {"a": 1.10}}'
    for headers in ({}, {"content_type": "application/cloudevents+json; charset=utf-8"}):
        found = event(CLOUD, text, **headers)
        assert (found.tenant, found.data, found.context) == ("acme", b'{"a": 1.10}', b'{"source":"/s"}')
    found = event(
        CLOUD, b'{"a": 1.10}', ce_specversion="1.0", ce_id="1", ce_source="/s%20t", ce_type="a.b", ce_tenant="acme",
        content_type="application/json",
    )  # fmt: skip
    assert found.data == b'{"a": 1.10}'
    assert found.context == b'{"source":"/s%20t","datacontenttype":"application/json"}', (
        "a value of Kafka is no header of HTTP"
    )


def test_a_cloud_event_in_headers_may_have_no_data() -> None:
    assert (
        event(CLOUD, None, ce_specversion="1.0", ce_id="1", ce_source="/", ce_type="a.b", ce_tenant="t").data == b"{}"
    )


def test_a_mapped_message_is_an_event_or_passed_over() -> None:
    assert event(MAPPED, b'{"id": "e1"}').id == "e1"
    assert read(MAPPED, b'{"op": "d"}') is Filtered.FILTERED


@pytest.mark.parametrize(
    ("rules", "value", "part"),
    [
        (PLAIN, None, "tombstone"),
        (CLOUD, None, "tombstone"),
        (PLAIN, b"", ": not valid JSON"),
        (PLAIN, b'{"type": "order.create", "data": {}}', "tenant: is missing"),
        (PLAIN, b'{"tenant": "acme", "type": "x", "data": {}, "a": "%s"}' % (b"x" * 2000), "bytes, 1000 are allowed"),
        (CLOUD, b'{"specversion": "1.0", "id": "1", "source": "/s", "tenant": "t"}', "type: is missing"),
        (CLOUD, b'"%s"' % (b"x" * 2000), "bytes, 1000 are allowed"),
        (MAPPED, b"{", ": the value is not valid JSON"),
        (MAPPED, b'{"id": ""}', "id: must be 1 to 128 printable ASCII characters"),
        (MAPPED, b"[1]", "data: must be a JSON object"),
        (MAPPED, b'{"a": "%s"}' % (b"x" * 20_000), "bytes, 16000 are allowed"),
        (MAPPED, b'{"a": "%s"}' % (b"x" * 2000), "bytes, 1000 are allowed"),
    ],
)
def test_what_is_no_event_has_a_reason(rules: MessageRules, value: bytes | None, part: str) -> None:
    assert part in reason(rules, value)


def test_a_header_of_a_cloud_event_is_given_once_and_in_utf_8() -> None:
    for headers, told in (
        ((("ce_id", b"1"), ("CE_ID", b"2")), "ce_id: is given more than once as a header"),
        ((("ce_id", b"\xff"),), "ce_id: is a header that is not UTF-8"),
    ):
        found = reading.read(MadeMessage(headers=headers), CLOUD, now=NOW)
        assert isinstance(found, tuple)
        assert [f"{problem.field}: {problem.message}" for problem in found] == [told]
