from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.web.dashboard.html.text import moment_field, parse_moment

MORNING = datetime(2026, 11, 24, 8, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-11-24T08:30", MORNING),
        ("2026-11-24T08:30:00", MORNING),
        ("2026-11-24 08:30", MORNING),
        ("  2026-11-24 08:30\t", MORNING),
        ("2026-11-24T08:30:00Z", MORNING),
        ("2026-11-24t08:30:00z", MORNING),
        ("2026-11-24T08:30Z", MORNING),
        ("2026-11-24T08:30:00.123456Z", MORNING.replace(microsecond=123456)),
        ("2026-11-24", MORNING.replace(hour=0, minute=0)),
        ("0001-01-01T00:00", datetime(1, 1, 1, 0, 0, 0, 1, tzinfo=UTC)),
        ("9999-12-31T23:59:59", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_a_moment_without_a_zone_is_one_in_utc(text: str, at: datetime) -> None:
    assert parse_moment(text) == at
    assert parse_moment(text).tzinfo is UTC  # type: ignore[union-attr]  # it is a moment


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-24T10:30:00+02:00",
        "2026-11-24T10:30+02:00",
        "2026-11-24 10:30+02:00",
        "2026-11-24T03:00-05:30",
        "2026-11-24T10:30:00 02:00",  # a plus in a URL is a blank
    ],
)
def test_an_offset_counts(text: str) -> None:
    assert parse_moment(text) == MORNING


@pytest.mark.parametrize("text", ["", " ", "\n"])
def test_an_empty_field_is_no_moment(text: str) -> None:
    assert parse_moment(text) is None
    assert moment_field(text) == ""


@pytest.mark.parametrize(
    "text",
    [
        "yesterday",
        "24.11.2026",
        "2026-11-24T25:00",
        "2026-02-30",
        "08:30",
        "1700000000",
        "\0",
        "0001-01-01T00:00+14:00",
    ],
)
def test_what_is_no_moment_says_how_one_looks_and_stays_as_it_was_typed(text: str) -> None:
    with pytest.raises(ValueError, match=r"^must be a date and a time in UTC, like 2026-11-24 08:30$"):
        parse_moment(text)
    assert moment_field(text) == text


def test_the_example_of_the_sentence_is_one() -> None:
    assert parse_moment("2026-11-24 08:30") == MORNING


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2026-11-24 08:30", "2026-11-24T08:30:00"),
        ("2026-11-24T10:30:00.9+02:00", "2026-11-24T08:30:00"),
        ("0001-01-01", "0001-01-01T00:00:00"),
    ],
)
def test_a_browsers_field_gets_it_in_utc_and_to_the_second(text: str, value: str) -> None:
    assert moment_field(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2026-11-24T08:30:00Z", "2026-11-24T08:30:00"),
        ("2026-11-24T08:30:59.000001Z", "2026-11-24T08:31:00"),
        ("9999-12-31T23:59:59.9Z", "9999-12-31T23:59:59"),
        ("", ""),
        ("tomorrow", "tomorrow"),
    ],
)
def test_the_end_of_a_period_is_not_before_itself(text: str, value: str) -> None:
    assert moment_field(text, is_end=True) == value


@given(st.integers(0, 4_000_000_000), st.integers(-14 * 60, 14 * 60))
def test_moments_in_our_links_are_read_exactly(seconds: int, offset_minutes: int) -> None:
    at = datetime.fromtimestamp(seconds, timezone(timedelta(minutes=offset_minutes)))
    assert parse_moment(at.isoformat()) == at
    assert parse_moment(at.isoformat(timespec="minutes")) == at.replace(second=0)
    assert parse_moment(moment_field(at.isoformat())) == at


@given(st.text())
def test_no_text_is_too_odd(text: str) -> None:
    assert isinstance(moment_field(text), str)
    assert moment_field(moment_field(text)) == moment_field(text)
