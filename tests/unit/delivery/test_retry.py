"""The retry schedule against a literal copy, and every form of Retry-After a receiver may send."""

import math
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from daemon.core.delivery.retry import RetryPolicy, delay, retry_after

NOW = datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
DEFAULT = RetryPolicy()
MIDDLE = 0.5  # the roll without jitter

# A literal copy of the promised schedule, in seconds.
SCHEDULE = [60, 120, 240, 480] + [600] * 55


def wait(policy: RetryPolicy, failures: int, *, roll: float = MIDDLE, at_least: timedelta | None = None) -> timedelta:
    found = delay(policy, failures=failures, roll=roll, at_least=at_least)
    assert found is not None
    return found


def test_the_default_schedule_is_sixty_attempts_over_nine_hours_and_twenty_five_minutes() -> None:
    waits = [wait(DEFAULT, failures) for failures in range(1, 60)]
    assert [each.total_seconds() for each in waits] == SCHEDULE
    assert sum(waits, timedelta()) == timedelta(hours=9, minutes=25)
    assert delay(DEFAULT, failures=60, roll=MIDDLE) is None


policies = st.builds(
    lambda first, factor, growth, attempts, jitter: RetryPolicy(
        first=timedelta(seconds=first), factor=factor, cap=timedelta(seconds=first * growth), attempts=attempts, jitter=jitter
    ),
    st.floats(0.001, 3600),
    st.floats(1, 1e300),
    st.floats(1.01, 1000),
    st.integers(1, 100_000),
    st.floats(0, 0.99),
)  # fmt: skip


@given(policies, st.integers(1, 200_000), st.floats(0, 1, exclude_max=True))
@example(RetryPolicy(factor=1e300, attempts=10**9), 10**9 - 1, 0.0)
@example(RetryPolicy(attempts=10**9), 10**9 - 1, 0.999)
def test_every_wait_lies_within_the_jitter_around_a_wait_that_never_passes_the_cap(
    policy: RetryPolicy, failures: int, roll: float
) -> None:
    found = delay(policy, failures=failures, roll=roll)
    assert (found is None) is (failures >= policy.attempts)
    if found is not None:
        plain = wait(policy, failures)
        grain = timedelta(microseconds=2)
        assert policy.first - grain <= plain <= policy.cap + grain
        assert plain * (1 - policy.jitter) - grain <= found <= plain * (1 + policy.jitter) + grain


@given(policies, st.integers(1, 5000))
def test_waits_grow_until_the_cap_and_stay_there(policy: RetryPolicy, failures: int) -> None:
    assume(failures + 1 < policy.attempts)
    assert wait(policy, failures) <= wait(policy, failures + 1)


@pytest.mark.parametrize("factor", [1.01, 1.05, 1.5, 2, 10, 1e200])
def test_a_schedule_reaches_its_cap_however_slowly_it_grows(factor: float) -> None:
    policy = RetryPolicy(factor=factor, attempts=10_000)
    steps = math.ceil(math.log(10, factor)) + 1
    assert wait(policy, steps + 1) == policy.cap
    assert wait(policy, 9_999) == policy.cap


def test_the_roll_places_the_wait_between_ten_percent_less_and_ten_percent_more() -> None:
    assert wait(DEFAULT, 1, roll=0) == timedelta(seconds=54)
    assert wait(DEFAULT, 1, roll=MIDDLE) == timedelta(seconds=60)
    assert timedelta(seconds=65.9) < wait(DEFAULT, 1, roll=0.999_999) < timedelta(seconds=66)


def test_the_last_attempt_has_no_next_one_even_if_the_receiver_asks_for_it() -> None:
    assert delay(RetryPolicy(attempts=1), failures=1, roll=MIDDLE) is None
    assert delay(DEFAULT, failures=60, roll=MIDDLE, at_least=timedelta(seconds=5)) is None
    assert delay(DEFAULT, failures=61, roll=MIDDLE) is None


def test_what_a_receiver_asks_for_is_a_lower_bound_up_to_six_times_the_cap() -> None:
    assert wait(DEFAULT, 1, at_least=timedelta(seconds=1)) == timedelta(seconds=60)
    assert wait(DEFAULT, 1, at_least=timedelta(seconds=-5)) == timedelta(seconds=60)
    assert wait(DEFAULT, 1, at_least=timedelta(seconds=120)) == timedelta(seconds=120)
    assert wait(DEFAULT, 1, at_least=timedelta(seconds=3600)) == timedelta(seconds=3600)
    assert wait(DEFAULT, 1, at_least=timedelta(seconds=3601)) == timedelta(seconds=3600)
    assert wait(DEFAULT, 1, at_least=timedelta.max) == timedelta(seconds=3600)


@pytest.mark.parametrize(
    "options",
    [
        {"first": timedelta(0)},
        {"first": timedelta(seconds=-1)},
        {"cap": timedelta(seconds=59)},
        {"factor": 0.99},
        {"factor": math.nan},
        {"factor": math.inf},
        {"attempts": 0},
        {"jitter": -0.1},
        {"jitter": 1.0},
        {"jitter": math.nan},
    ],
    ids=str,
)
def test_a_policy_that_makes_no_sense_cannot_be(options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"must be|are at least"):
        RetryPolicy(**options)  # type: ignore[arg-type]  # one wrong value each


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (" 120 ", 120),
        ("0120", 120),
        ("0000000000000120", 120),
        ("999999999", 999_999_999),
        ("Mon, 23 Nov 2026 08:02:00 GMT", 120),
        ("Monday, 23-Nov-26 08:02:00 GMT", 120),
        ("Mon Nov 23 08:02:00 2026", 120),
        ("Mon, 23 Nov 2026 09:02:00 +0100", 120),
        ("Mon, 23 Nov 2026 08:02:00 -0000", 120),
    ],
)
def test_seconds_and_dates_are_understood(value: str, seconds: int) -> None:
    assert retry_after(value, now=NOW) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "value",
    [
        None, "", " ", "-1", "+5", "1.5", "1e3", "soon", "120s", "120, 240", "٣", "²", "0x10", "NaN", "\x00", "é",
        "Mon, 23 Nov 2026 08:00:00 GMT", "Mon, 23 Nov 2026 07:59:59 GMT", "Thu, 01 Jan 1970 00:00:00 GMT",
        "Mon, 99 Nov 2026 08:02:00 GMT", "Mon, 23 Nov 2026", "Mon, 23 Nov 99999999999 08:02:00 GMT",
        "Mon, 23 Nov 2026 08:02:00 +99999999999999", "Mon, 23 Nov 2026 08:02:00 +9999", ",", "Mon,",
        "Mon, 01 Feb 9999999999:9901 99999999999", "2026-11-23T08:02:00Z",
    ],
)  # fmt: skip
def test_a_past_date_and_anything_else_ask_for_nothing(value: str | None) -> None:
    assert retry_after(value, now=NOW) is None


@pytest.mark.parametrize("value", ["1000000000", "9" * 20, "9" * 5000, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_retry_after_of_years_is_limited_to_six_times_the_cap(value: str) -> None:
    requested = retry_after(value, now=NOW)
    assert requested is not None
    assert wait(DEFAULT, 1, at_least=requested) == timedelta(hours=1)


dates = st.datetimes(min_value=datetime(1000, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - below, years are short
pieces = st.sampled_from(
    ["Mon, ", "01 ", "Jan ", "2020 ", "00:00:00 ", "GMT", "+", "-", "9999", "99999999999", ":", " "]
)


@given(st.one_of(st.text(max_size=60), st.lists(pieces, max_size=9).map("".join), st.integers().map(str)))
def test_no_header_makes_it_raise_or_ask_for_a_negative_wait(value: str) -> None:
    requested = retry_after(value, now=NOW)
    assert requested is None or requested >= timedelta(0)
    wait(DEFAULT, 1, at_least=requested)


@given(dates)
def test_a_date_asks_for_the_time_until_then(at: datetime) -> None:
    whole = at.replace(microsecond=0)
    requested = retry_after(format_datetime(whole, usegmt=True), now=NOW)
    assert requested == (whole - NOW if whole > NOW else None)
