from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from jinja2 import Environment
from markupsafe import Markup

from daemon.core import durations
from daemon.web.dashboard.html.template_filters import (
    FILTERS,
    after_label,
    capitalize_first,
    full_sentence,
    moment,
    number,
    size,
)

NOW = datetime(2026, 11, 24, 18, 5, 12, 345678, tzinfo=UTC)


def ago_text(at: datetime) -> Markup:
    """The text of the filter `ago`, with NOW as the time of the page."""
    environment = Environment(autoescape=True)
    environment.filters |= FILTERS
    return Markup(environment.from_string("{{ at|ago }}").render(at=at, now=NOW))


@pytest.mark.parametrize(("value", "text"), [(0, "0"), (999, "999"), (12345, "12,345"), (-1234567, "-1,234,567")])
def test_a_number_has_commas(value: int, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    "at", [NOW, NOW.astimezone(timezone(timedelta(hours=5, minutes=30))), NOW.astimezone(timezone(timedelta(hours=-8)))]
)
def test_a_moment_is_shown_in_utc_and_is_exact_where_one_looks_closer(at: datetime) -> None:
    assert moment(at) == (
        '<time datetime="2026-11-24T18:05:12.345678Z" title="2026-11-24T18:05:12.345678Z" data-moment>'
        "24 Nov 2026, 18:05:12 UTC</time>"
    )


def test_a_moment_of_a_single_digit_day_has_no_zero_before_it() -> None:
    assert ">4 Nov 2026, 00:00:00 UTC<" in moment(datetime(2026, 11, 4, tzinfo=UTC))
    assert 'datetime="2026-11-04T00:00:00.000000Z"' in moment(datetime(2026, 11, 4, tzinfo=UTC))


def test_how_long_ago_has_the_exact_moment_where_one_looks_closer() -> None:
    assert 'title="24 Nov 2026, 18:05:12 UTC" data-ago>just now<' in ago_text(NOW)


@pytest.mark.parametrize(
    ("before", "text"),
    [
        (timedelta(0), "just now"),
        (timedelta(milliseconds=999), "just now"),
        (timedelta(milliseconds=-999), "just now"),  # clocks may differ
        (timedelta(seconds=1), "1 s ago"),
        (timedelta(seconds=59.9), "59 s ago"),
        (timedelta(seconds=60), "1 min ago"),
        (timedelta(minutes=59, seconds=59), "59 min ago"),
        (timedelta(hours=1), "1 h ago"),
        (timedelta(hours=23, minutes=59), "23 h ago"),
        (timedelta(days=1), "1 day ago"),
        (timedelta(days=2), "2 days ago"),
        (timedelta(days=400), "400 days ago"),
        (timedelta(minutes=-3), "in 3 min"),
        (timedelta(days=-1), "in 1 day"),
    ],
)
def test_how_long_ago_is_said_in_the_largest_unit(before: timedelta, text: str) -> None:
    assert ago_text(NOW - before).striptags() == text


def test_how_long_ago_tells_the_moment_too() -> None:
    assert 'datetime="2026-11-24T18:02:12.345678Z"' in ago_text(NOW - timedelta(minutes=3))


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [
        (0, "0 ms"),
        (142, "142 ms"),
        (999, "999 ms"),
        (999.7, "1.0 s"),
        (1000, "1.0 s"),
        (1249, "1.2 s"),
        (15000, "15.0 s"),
    ],
)
def test_a_duration_is_in_milliseconds_or_seconds(milliseconds: float, text: str) -> None:
    assert durations.shown(milliseconds) == text


@pytest.mark.parametrize(
    ("length", "text"),
    [
        (timedelta(seconds=-5), "0 s"),
        (timedelta(0), "0 s"),
        (timedelta(seconds=59.9), "59 s"),
        (timedelta(minutes=1, seconds=30), "1 min"),
        (timedelta(hours=23, minutes=59, seconds=59), "23 h 59 min"),
        (timedelta(hours=24), "1 d"),
        (timedelta(days=2, hours=3, minutes=4), "2 d 3 h"),
        (timedelta(days=2, minutes=4), "2 d 4 min"),
    ],
)
def test_a_span_has_its_two_largest_units(length: timedelta, text: str) -> None:
    assert durations.span(length) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (16384, "16.0 KiB"), (262144, "256.0 KiB")]
)
def test_a_size_is_in_bytes_or_kilobytes(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("text", "capital"), [("", ""), ("it's so, HTTP", "It's so, HTTP"), ("“x” is", "“x” is"), ("über", "Über")]
)
def test_a_sentence_begins_with_a_capital_and_is_else_as_it_was(text: str, capital: str) -> None:
    assert capitalize_first(text) == capital


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("is empty: name one", "Is empty: name one."),
        ("did you mean order.cancel?", "Did you mean order.cancel?"),
        ("a.b is unknown: did you mean “a.c”?", "a.b is unknown: did you mean “a.c”?"),
        ("it is “over”", "It is “over”."),
        (Markup("since <time>now</time>"), "Since <time>now</time>."),
        (Markup("is it &lt;b&gt;?"), "Is it &lt;b&gt;?"),
    ],
)
def test_a_sentence_ends_once(text: str, sentence: str) -> None:
    assert full_sentence(text) == sentence
    assert isinstance(full_sentence(text), type(text))


@pytest.mark.parametrize(
    ("message", "behind"),
    [
        ("must be a number", " must be a number"),
        ("is no JMESPath expression", " is no JMESPath expression"),
        ("calls foo()", " calls foo()"),
        ("choose which deliveries to send again", ": choose which deliveries to send again"),
        ("21 headers; at most 20 are allowed", ": 21 headers; at most 20 are allowed"),
        ("'order' is no event type", ": 'order' is no event type"),
        ("The URL carries a user name", ": The URL carries a user name"),
        ("island is no verb", ": island is no verb"),
    ],
)
def test_a_message_goes_on_behind_the_name_of_its_field_or_follows_a_colon(message: str, behind: str) -> None:
    assert after_label(message) == behind


def test_moments_in_a_sentence_are_times_that_a_reader_sees_in_their_own_zone() -> None:
    sentence = FILTERS["plain"]("failed at 2026-11-03 08:00:00.042999 UTC: <b> was “23 Nov”")
    assert sentence == (
        'failed at <time datetime="2026-11-03T08:00:00.042Z" title="2026-11-03T08:00:00.042Z" data-moment="ms">'
        "3 Nov 2026, 08:00:00.042 UTC</time>: &lt;b&gt; was “23 Nov”"
    )
    assert FILTERS["timed"]("nothing & no time") == "nothing &amp; no time"


@pytest.mark.parametrize(
    "text", ["“31 Feb 2026, 08:00:00.000 UTC”", "1 Jan 0000, 08:00:00.000 UTC", "2026-99-99 99:99:99.000000 UTC"]
)
def test_what_somebody_wrote_like_a_moment_that_never_was_stays_a_text(text: str) -> None:
    assert FILTERS["plain"](f"disabled: {text}") == f"disabled: {text}"
