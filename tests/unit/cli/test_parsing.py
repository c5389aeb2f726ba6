"""The parsers of option values, and their messages about wrong values."""

from datetime import UTC, datetime, timedelta

import click
import pytest

from daemon.cli.console import parsing


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-11-23T08:00:00Z", datetime(2026, 11, 23, 8, tzinfo=UTC)),
        ("2026-11-23T08:00:00.000001+01:00", datetime(2026, 11, 23, 7, 0, 0, 1, tzinfo=UTC)),
        ("2026-11-23 08:00:00Z", datetime(2026, 11, 23, 8, tzinfo=UTC)),
        ("2026-11-23", datetime(2026, 11, 23, tzinfo=UTC)),
    ],
)
def test_a_moment_is_read_as_utc(text: str, at: datetime) -> None:
    assert parsing.timestamp(text) == at
    assert parsing.timestamp(text).utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2026-11-23T08:00:00", "has no offset"),
        ("yesterday", "is no time"),
        ("2026-02-30", "is no time"),
        ("0001-01-01T00:00:00+10:00", "is no time"),
        ("", "is no time"),
    ],
)
def test_what_is_no_moment_is_refused_with_an_example(text: str, message: str) -> None:
    with pytest.raises(click.BadParameter, match=message):
        parsing.timestamp(text)


def test_headers_are_read_as_they_are_written_in_http() -> None:
    assert parsing.headers(["X-Shop: acme", "Authorization:Bearer a:b"]) == {
        "X-Shop": "acme",
        "Authorization": "Bearer a:b",
    }


@pytest.mark.parametrize("lines", [["X-Shop"], [": acme"], ["X-Shop: a", "x-shop: b"]])
def test_headers_without_name_or_given_twice_are_refused(lines: list[str]) -> None:
    with pytest.raises(click.BadParameter):
        parsing.headers(lines)


@pytest.mark.parametrize(
    ("given", "selection"),
    [
        ([], None),
        (["none"], None),
        (["customer"], (("customer", None),)),
        (["orders:total, public_id ,total", "customer"], (("customer", None), ("orders", ("total", "public_id")))),
    ],
)
def test_a_snapshot_selection_names_entities_and_fields(given: list[str], selection: object) -> None:
    assert parsing.snapshot(given) == selection


@pytest.mark.parametrize("given", [[":total"], ["orders:"], ["orders", "orders:total"], [""]])
def test_a_selection_of_nothing_is_refused(given: list[str]) -> None:
    with pytest.raises(click.BadParameter):
        parsing.snapshot(given)


@pytest.mark.parametrize(("text", "rate"), [(None, None), ("none", None), ("5", 5.0), ("0.5", 0.5)])
def test_a_rate_is_a_number_or_none(text: str | None, rate: float | None) -> None:
    assert parsing.rate(text) == rate


def test_a_rate_that_is_no_number_is_refused() -> None:
    with pytest.raises(click.BadParameter, match="requests per second"):
        parsing.rate("fast")
