"""The trace of an event: read as W3C says, kept with the event, and taken away again without a trace."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.events import trace_context
from daemon.core.events.trace_context import TraceContext, headers, keep, of, of_attempt, parse, published
from daemon.core.webhook import payload
from daemon.core.webhook.payload import EventFilters, PayloadEvent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = f"00-{TRACE}-{SPAN}-01"
DELIVERY = "6b1f1a3e-90f5-5d8c-9a41-6a2b50f6b1aa"

CONTEXTS = st.one_of(
    st.none(),
    st.sampled_from(
        [b"{}", b"{ }", b"{\n}", b'{"traceparent": "00-mine"}', b'{ "a":1}', b'{"hookledger.traceparent": 1}']
    ),
    st.dictionaries(st.text(), st.text()).map(lambda value: json.dumps(value).encode()),
)


@pytest.mark.parametrize(
    "given",
    [
        "",
        "nonsense",
        SAMPLED.upper(),
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f"{SAMPLED}-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}٣-{SPAN}-01",
    ],
)
def test_a_header_that_is_not_valid_is_none(given: str) -> None:
    assert parse(given) is None


@pytest.mark.parametrize(
    ("given", "is_sampled"),
    [(SAMPLED, True), (SAMPLED[:-2] + "00", False), (SAMPLED[:-2] + "03", True), (f"cc-{TRACE}-{SPAN}-01-later", True)],
)
def test_valid_headers_are_read_whatever_their_version_adds(given: str, is_sampled: bool) -> None:
    assert parse(given, "a=1, b=2") == TraceContext(int(TRACE, 16), int(SPAN, 16), is_sampled, "a=1, b=2")


@pytest.mark.parametrize("state", ["x" * 513, "a=1\r\nX-Evil: 1", "ä=1", "a=\x00"])
def test_a_state_that_is_not_valid_is_left_out(state: str) -> None:
    read = parse(SAMPLED, state)
    assert read is not None
    assert read.state == ""
    assert headers(read) == {"traceparent": SAMPLED}


@given(
    context=CONTEXTS,
    trace=st.integers(1, (1 << 128) - 1),
    span=st.integers(1, (1 << 64) - 1),
    is_sampled=st.booleans(),
    state=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40),
)
def test_what_is_kept_is_found_and_taken_away_again(
    context: bytes | None, trace: int, span: int, is_sampled: bool, state: str
) -> None:
    own = TraceContext(trace, span, is_sampled, state)
    kept = keep(context, own)
    assert of(kept) == own
    assert published(kept) == (None if context == b"{}" else context)
    assert json.loads(kept).items() >= json.loads(context or b"{}").items()


@pytest.mark.parametrize("context", [None, b"{}", b'{"a": 1}', b'{"hookledger.traceparent":"mine","a":1}'])
def test_an_event_without_a_trace_stays_as_it_is(context: bytes | None) -> None:
    assert published(context) is context
    assert of(context) is None


# What SQL takes for JSON, and no parser of ours: half a character, or a control character in a text.
@pytest.mark.parametrize("state", [rb"\ud800", rb"\x", b"a=\x01", "caf\u00e9".encode(), rb"a=1\r\nX-Evil: 1"])
def test_a_trace_that_a_producer_wrote_in_sql_has_no_state_that_is_not_valid(state: bytes) -> None:
    context = b'{"hookledger.traceparent":"%b","hookledger.tracestate":"%b","a":1}' % (SAMPLED.encode(), state)
    assert of(context) == TraceContext(int(TRACE, 16), int(SPAN, 16), True)
    assert published(context) == b'{"a":1}'


def test_neither_bodies_nor_filters_see_a_trace() -> None:
    def event(context: bytes | None) -> PayloadEvent:
        return PayloadEvent(
            event_id="evt_1", event_type="a.b", created=datetime.now(UTC), data=b"{}", context=context, snapshot=None
        )

    own = parse(SAMPLED, "a=1") or pytest.fail("it is valid")
    for context in (None, b'{"by": 1.10}'):
        plain, traced = event(context), event(keep(context, own))
        assert payload.envelope(traced, b"{}") == payload.envelope(plain, b"{}")
        for test in ("context.by == `1.1`", "length(keys(context)) == `0`", 'context."hookledger.traceparent"'):
            assert EventFilters(traced).result(test) is EventFilters(plain).result(test)


def test_an_attempt_belongs_to_the_trace_of_its_event() -> None:
    own = parse(SAMPLED, "a=1") or pytest.fail("it is valid")
    first, second = (
        of_attempt(keep(None, own), delivery_id=DELIVERY, number=number, sample_ratio=0.0) for number in (1, 2)
    )
    assert (first.trace_id, first.is_sampled, first.state) == (own.trace_id, True, "a=1")
    assert len({own.span_id, first.span_id, second.span_id}) == 3
    assert first == of_attempt(keep(b'{"x":1}', own), delivery_id=DELIVERY, number=1, sample_ratio=1.0)


def test_without_one_its_trace_is_named_as_the_delivery_and_all_its_attempts_are_sampled_or_none() -> None:
    ids = [f"{number:08x}-90f5-5d8c-9a41-6a2b{number * 429496:08x}" for number in range(1, 10_000)]
    chosen = 0
    for delivery_id in ids:
        attempts = [of_attempt(None, delivery_id=delivery_id, number=n, sample_ratio=0.25) for n in (1, 2)]
        assert {each.trace_id for each in attempts} == {int(delivery_id.replace("-", ""), 16)}
        assert len({each.is_sampled for each in attempts}) == 1
        chosen += attempts[0].is_sampled
    assert chosen == pytest.approx(2500, rel=0.05)
    assert not of_attempt(None, delivery_id=DELIVERY, number=1, sample_ratio=0.0).is_sampled
    assert of_attempt(None, delivery_id=DELIVERY[:-8] + "f" * 8, number=1, sample_ratio=1.0).is_sampled


def test_the_headers_have_no_line_ends_whatever_the_state_is() -> None:
    assert trace_context.headers(TraceContext(1, 2, False, "a=1")) == {
        "traceparent": f"00-{1:032x}-{2:016x}-00",
        "tracestate": "a=1",
    }
