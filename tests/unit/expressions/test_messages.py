"""What the daemon and its evaluation process say to each other arrives as it was said, and equals the work done here."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daemon.core.messages import mapping, reading
from daemon.core.messages.mapping import MappingFailed, MessageMapping
from daemon.core.messages.message import Mappable
from daemon.core.messages.reading import MessageRules
from daemon.core.routing.route import PayloadOptions
from daemon.core.webhook import payload
from daemon.core.webhook.payload import EventFilters, FilterResult, PayloadEvent
from daemon.expressions import messages, process
from daemon.expressions.messages import (
    EvaluationJob,
    EvaluationReply,
    FilterJob,
    FilterReply,
    MapJob,
    MapReply,
    RenderJob,
    RenderReply,
)
from tests.support.kafka.messages import MadeMessage, mapping_of
from tests.support.values.expressions import well_formed

EVENT = PayloadEvent(
    event_id='evt "1"',
    event_type="order.create",
    created=datetime(2026, 11, 23, 8, 0, 0, 999_999, tzinfo=UTC),
    data=b'{"a": [1, 2, 3], "s": "\\ud800"}',
    context=None,
    snapshot=b'{"customer": {"id": 7, "name": "x"}}',
)
HEAVY = "length(data.object.a[?contains(to_string(@), '{}')])"


def asked(*jobs: EvaluationJob) -> list[EvaluationReply]:
    replies = io.BytesIO()
    process.serve(io.BytesIO(b"".join(map(messages.encode_job, jobs))), replies)
    replies.seek(0)
    found = []
    while lengths := replies.read(messages.LENGTHS.size):
        head, rest = messages.LENGTHS.unpack(lengths)
        found.append(messages.decode_reply(replies.read(head), replies.read(rest)))
    return found


@settings(max_examples=50, deadline=None)
@given(st.lists(well_formed.filter(str.isascii), min_size=1, max_size=4))
def test_filters_have_the_results_that_they_have_here(texts: list[str]) -> None:
    filters = EventFilters(EVENT)
    (reply,) = asked(FilterJob(event=EVENT, filters=tuple(texts)))
    assert isinstance(reply, FilterReply)
    assert reply.results == tuple(filters.result(text) for text in texts)


@pytest.mark.parametrize(
    "chosen",
    [
        {"transform": "{t: type, c: created, s: snapshot}"},
        {"snapshot": (("customer", ("id",)), ("orders", None)), "transform": "@", "filter": "data"},
        {"snapshot": (("customer", None),)},
    ],
)
def test_a_body_is_the_one_that_is_rendered_here(chosen: dict[str, Any]) -> None:
    event = PayloadEvent(
        event_id="evt_1",
        event_type="order.create",
        created=EVENT.created,
        data=b'{"a": "\xc3\xa9"}',
        context=b"{}",
        snapshot=EVENT.snapshot,
    )
    options = PayloadOptions(**chosen)
    (reply,) = asked(RenderJob(event=event, options=options, max_bytes=10_000))
    assert isinstance(reply, RenderReply)
    assert (reply.body, reply.reason) == (payload.render(event, options, max_bytes=10_000), None)


def test_a_body_that_cannot_be_rendered_has_the_reason_of_here() -> None:
    bomb = "|".join(["[@,@]"] * 60) + "|to_string(@)"
    first, second = asked(
        RenderJob(event=EVENT, options=PayloadOptions(transform="sum(id)"), max_bytes=100),
        RenderJob(event=EVENT, options=PayloadOptions(filter=bomb), max_bytes=100),
    )
    assert isinstance(first, RenderReply)
    assert isinstance(second, RenderReply)
    assert first.reason is not None
    assert "In function sum()" in first.reason
    assert not first.is_over_budget
    assert second.is_over_budget
    assert (
        second.reason
        == "the expression failed: it takes too many steps for an event of this size: choose fewer fields, or nest less"
    )


def test_many_heavy_filters_are_answered_in_parts() -> None:
    many = PayloadEvent(
        event_id="evt_1",
        event_type="order.create",
        created=EVENT.created,
        data=b'{"a": [%s]}' % b",".join([b'"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"'] * 3000),
        context=None,
        snapshot=None,
    )
    texts = tuple(HEAVY.format(number) for number in range(20))
    (reply,) = asked(FilterJob(event=many, filters=texts))
    assert isinstance(reply, FilterReply)
    assert 1 <= len(reply.results) < 10
    assert set(reply.results) <= set(FilterResult)


def test_half_a_job_gets_no_answer() -> None:
    whole = messages.encode_job(FilterJob(event=EVENT, filters=("id",)))
    replies = io.BytesIO()
    process.serve(io.BytesIO(whole[:-1]), replies)
    assert replies.getvalue() == b""


@pytest.mark.parametrize("filter", [None, "value.a", "value.missing", "abs(key)"])
@pytest.mark.parametrize("value", [b'{"a": [1.10,  "\\u00e9"]}', None, b"", b"{no json"])
def test_an_event_that_is_made_of_a_message_is_the_one_that_is_made_here(
    value: bytes | None, filter: str | None
) -> None:
    given = MadeMessage(value=value, key=b"k")
    prepared = reading.to_map(given, MessageRules(max_bytes=1000))
    assert isinstance(prepared, Mappable)
    chosen = mapping_of(filter, data="{picked: value.a}", id="key")
    (reply,) = asked(MapJob(message=prepared, mapping=chosen, max_bytes=1000))
    assert isinstance(reply, MapReply)
    assert (reply.text or b"", reply.field, reply.reason) == _mapped_here(prepared, chosen)


def _mapped_here(prepared: Mappable, chosen: MessageMapping) -> tuple[bytes, str, str | None]:
    try:
        return mapping.mapped(prepared, chosen, max_bytes=1000) or b"", "", None
    except MappingFailed as error:
        return b"", error.field, str(error)
