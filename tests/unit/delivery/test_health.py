"""The health of a receiver, request by request."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import groupby

from hypothesis import given
from hypothesis import strategies as st

from daemon.core.delivery import health
from daemon.core.delivery.health import AnsweredRequest, HealthState, ReceiverHealth

START = datetime(2026, 11, 23, 13, tzinfo=UTC)
OK, FAILING, DOWN = HealthState.OK, HealthState.FAILING, HealthState.DOWN


def request(second: int, *, error: str | None = None) -> AnsweredRequest:
    at = START + timedelta(seconds=second)
    status = 200 if error is None else None
    return AnsweredRequest(at=at, status_code=status, error=error, event_id="e", event_time=START)


def after(pattern: str, *, seconds_apart: int = 1) -> ReceiverHealth:
    """The health after requests, `+` for a success and `-` for a failure."""
    found: ReceiverHealth | None = None
    for number, letter in enumerate(pattern):
        found = health.after(found, request(number * seconds_apart, error=None if letter == "+" else "timeout"))
    assert found is not None
    return found


@given(st.text(alphabet="+-", min_size=1, max_size=60) | st.just("---" + "+" * 20 + "-" + "+" * 19))
def test_successes_in_a_row_may_be_told_at_once(pattern: str) -> None:
    found: ReceiverHealth | None = None
    second = 0
    for letter, letters in groupby(pattern):
        count = len(list(letters))
        if letter == "+":
            began, last = START + timedelta(seconds=second), request(second + count - 1)
            found = health.after_successes(found, last, count=count, began=began)
        else:
            for each in range(count):
                found = health.after(found, request(second + each, error="timeout"))
        second += count
    assert found == after(pattern)


def test_a_receiver_that_answers_is_well_since_its_first_answer() -> None:
    found = after("+++")
    assert (found.state, found.since, found.ill_since) == (OK, START, None)


def test_one_failure_makes_it_failing_and_three_in_a_row_down() -> None:
    assert after("+-").state is FAILING
    assert after("+--").state is FAILING
    assert after("+---").state is DOWN
    assert after("---").state is DOWN


def test_down_begins_with_the_first_failure_in_a_row_and_failing_with_the_first_of_all() -> None:
    assert after("+-+---").since == START + timedelta(seconds=3)
    assert after("+-+--").since == START + timedelta(seconds=1)
    assert after("+-+---+").since == START + timedelta(seconds=1)


def test_a_receiver_that_fails_now_and_then_stays_failing() -> None:
    assert after("+" * 30 + "-+" * 30).state is FAILING
    assert after("+" * 30 + "-+++" * 30).state is FAILING


def test_twenty_successes_in_a_row_make_it_well() -> None:
    assert after("---" + "+" * 19).state is FAILING
    recovered = after("---" + "+" * 20)
    assert (recovered.state, recovered.since, recovered.ill_since) == (OK, START + timedelta(seconds=3), START)


def test_a_quiet_one_is_well_a_minute_after_its_last_failure() -> None:
    found = after("--+")
    assert health.rested(found, START + timedelta(seconds=60)).state is FAILING
    assert health.rested(found, START + timedelta(seconds=61)).state is OK
    assert health.rested(after("--"), START + timedelta(days=1)).state is FAILING
    assert health.rested(after("---"), START + timedelta(days=1)).state is DOWN


def test_a_new_bad_time_begins_anew() -> None:
    found = after("-" + "+" * 20 + "-")
    assert (found.state, found.since, found.failures) == (FAILING, START + timedelta(seconds=21), 1)


def test_the_last_request_is_that_of_the_present_run() -> None:
    failed, answered = after("+-").last_request, after("-+").last_request
    assert failed is not None
    assert failed.error == "timeout"
    assert answered is not None
    assert answered.error is None
