"""What an answer means: all status codes, all error names, and the id that never changes."""

import uuid
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from daemon.core.delivery.answer import (
    ErrorName,
    Failure,
    Outcome,
    Response,
    Verdict,
    classify,
    delivery_id,
    delivery_key,
    error_name,
    status_class,
)
from daemon.core.delivery.tls_fault import TlsFault

# A literal copy: these names are stored for good, and receivers' tools match on them.
ERROR_NAMES = {
    "dns_error", "connect_refused", "connect_timeout", "connection_reset", "tls_error", "timeout", "egress_denied",
    "proxy_error", "protocol_error", "response_too_large", "render_error", "internal_error",
}  # fmt: skip
OUTCOMES = {"delivered", "retrying", "failed", "suppressed", "expired"}


def test_the_error_names_are_these() -> None:
    assert {each.value for each in ErrorName} == ERROR_NAMES
    assert all(each.name.lower() == each.value for each in ErrorName)


def test_the_outcomes_are_these() -> None:
    assert {each.value for each in Outcome} == OUTCOMES
    assert {each.value for each in Verdict} == {"success", "failure", "gone"}


def test_two_hundreds_succeed_410_is_gone_and_all_else_fails() -> None:
    for status in range(100, 1000):
        answer = Response(status=status)
        if status in range(200, 300):
            assert (classify(answer), error_name(answer)) == (Verdict.SUCCESS, None)
        else:
            assert classify(answer) is (Verdict.GONE if status == 410 else Verdict.FAILURE)
            assert error_name(answer) == f"http_{status}"
        assert status_class(status) == (f"{str(status)[0]}xx" if status < 600 else "other")


@pytest.mark.parametrize("status", [-1, 0, 99, 1000, 10**9])
def test_a_status_that_is_none_fails(status: int) -> None:
    assert classify(Response(status=status)) is Verdict.FAILURE
    assert status_class(status) == "other"


@pytest.mark.parametrize("error", ErrorName)
def test_no_answer_is_a_failure_that_is_named(error: ErrorName) -> None:
    assert classify(Failure(error=error)) is Verdict.FAILURE
    assert error_name(Failure(error=error)) == error.value


def test_no_status_has_a_class_of_its_own() -> None:
    assert status_class(None) == "none"


@pytest.mark.parametrize("error", ErrorName)
def test_only_the_merchants_own_expressions_are_a_reason_to_say_more_than_the_name(error: ErrorName) -> None:
    if error is ErrorName.RENDER_ERROR:
        assert error_name(Failure(error=error, detail="the reason")) == "render_error: the reason"
        return
    with pytest.raises(ValueError, match="not for merchants"):
        Failure(error=error, detail="[Errno 111] Connect call failed ('10.0.0.5', 443)")


@pytest.mark.parametrize("fault", TlsFault)
def test_what_is_wrong_with_tls_is_said_by_one_of_our_sentences(fault: TlsFault) -> None:
    assert (
        error_name(Failure(error=ErrorName.TLS_ERROR, detail=fault.detail)) == f"tls_error: {fault.cause}: {fault.step}"
    )
    with pytest.raises(ValueError, match="not for merchants"):
        Failure(error=ErrorName.TIMEOUT, detail=fault.detail)


def test_a_header_is_found_by_its_name_in_any_case_and_the_first_counts() -> None:
    answer = Response(status=429, headers=(("Retry-After", "1"), ("retry-after", "2"), ("X", "3")))
    assert answer.header("retry-after") == "1"
    assert answer.header("x") == "3"
    assert answer.header("y") is None


moments = st.datetimes(timezones=st.just(UTC))
event_ids = st.text(alphabet=st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=128)


@given(st.uuids(), event_ids, moments)
def test_a_deliverys_id_is_the_uuid_5_of_route_and_event_and_day(
    route_id: uuid.UUID, event_id: str, at: datetime
) -> None:
    assert delivery_id(route_id, event_id, at) == str(uuid.uuid5(route_id, f"{event_id}\n{at.date()}"))


def test_a_deliverys_id_is_the_same_in_every_release() -> None:
    route_id = uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")
    at = datetime(2026, 11, 23, 8, tzinfo=UTC)
    assert delivery_id(route_id, "www.example.com", at) == "faba2399-7e16-5e20-aba5-669004e3aed6"


@given(st.uuids(), event_ids, moments)
def test_an_event_id_that_is_used_again_a_day_later_has_another_delivery(
    route_id: uuid.UUID, event_id: str, at: datetime
) -> None:
    assume(at < datetime(9999, 12, 30, tzinfo=UTC))
    assert delivery_id(route_id, event_id, at) != delivery_id(route_id, event_id, at + timedelta(hours=24))


def test_an_event_that_is_published_again_as_of_the_same_day_has_the_same_delivery() -> None:
    route_id, morning = uuid.UUID(int=1), datetime(2026, 11, 23, 8, tzinfo=UTC)
    assert delivery_id(route_id, "evt_1", morning) == delivery_id(route_id, "evt_1", morning + timedelta(hours=15))


@given(st.uuids(), event_ids, moments, st.integers(-14, 14))
def test_the_day_is_that_of_utc_wherever_the_time_is_from(
    route_id: uuid.UUID, event_id: str, at: datetime, hours: int
) -> None:
    assume(datetime(2, 1, 1, tzinfo=UTC) < at < datetime(9998, 1, 1, tzinfo=UTC))
    elsewhere = at.astimezone(timezone(timedelta(hours=hours)))
    assert delivery_id(route_id, event_id, elsewhere) == delivery_id(route_id, event_id, at)


@given(st.uuids(), event_ids, moments)
def test_the_key_of_a_delivery_is_the_beginning_of_its_id(route_id: uuid.UUID, event_id: str, at: datetime) -> None:
    which = delivery_id(route_id, event_id, at)
    assert delivery_key(which) == int.from_bytes(uuid.UUID(which).bytes[:4], signed=True)
