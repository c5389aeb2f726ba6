"""Which deliveries may be sent again, by the windows of their route."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from daemon.core.delivery import resend
from daemon.core.delivery.resend import ResendRefused
from daemon.core.routing.route import Route, RouteStatus, evolve
from daemon.core.routing.windows import Window
from tests.support.values.lifecycles import created

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def at(minutes: float) -> datetime:
    return NOON + minutes * MINUTE


def route(*windows: tuple[float, float | None], status: RouteStatus = RouteStatus.ENABLED) -> Route:
    return replace(
        evolve(None, created()),
        status=status,
        windows=tuple(Window(at(start), None if end is None else at(end)) for start, end in windows),
    )


def reason(refused: ResendRefused | datetime | None) -> str:
    assert isinstance(refused, ResendRefused)
    return refused.reason


@pytest.mark.parametrize("minutes", [0, 0.5, 100])
def test_what_happened_in_the_open_window_may_be_sent_again(minutes: float) -> None:
    assert resend.delivery(route((0, None)), at(minutes)) is None


def test_what_happened_before_a_disable_is_refused_with_both_moments() -> None:
    text = reason(resend.delivery(route((0, 10), (20, None)), at(5)))
    assert "disabled at 2026-01-01 12:10:00" in text
    assert "enabled again at 2026-01-01 12:20:00" in text


def test_what_happened_while_the_route_was_disabled_is_refused() -> None:
    text = reason(resend.delivery(route((0, 10), (20, None)), at(15)))
    assert text.startswith("the route was disabled when it happened")
    assert text.endswith("what happened then is never sent")


@pytest.mark.parametrize(
    ("closed", "word"),
    [
        (route((0, 10), status=RouteStatus.DISABLED), "is disabled since 2026-01-01 12:10:00"),
        (route(status=RouteStatus.DISABLED), "never was enabled"),
        (route((0, 10), status=RouteStatus.DELETED), "was deleted"),
    ],
)
def test_a_route_that_is_not_enabled_gets_nothing(closed: Route, word: str) -> None:
    assert word in reason(resend.delivery(closed, at(5)))
    assert word in reason(resend.period(closed, since=at(0), until=at(30), kept_from=None))


@pytest.mark.parametrize(
    ("since", "until", "kept_from", "expected"),
    [
        (0, 30, None, 20),
        (25, 30, None, 25),
        (0, 30, 22, 22),
        (25, 30, 22, 25),
        (0, 30, 10, 20),
        (20, 20.1, None, 20),
    ],
)
def test_a_replay_begins_with_the_open_window_and_with_what_is_kept(
    since: float, until: float, kept_from: float | None, expected: float
) -> None:
    begin = resend.period(
        route((0, 10), (20, None)),
        since=at(since),
        until=at(until),
        kept_from=None if kept_from is None else at(kept_from),
    )
    assert begin == at(expected)


def test_a_period_before_the_open_window_is_refused() -> None:
    text = reason(resend.period(route((0, 10), (20, None)), since=at(0), until=at(20), kept_from=None))
    assert "before 2026-01-01 12:20:00" in text


def test_a_period_that_is_no_longer_kept_is_refused() -> None:
    assert "12:25:00" in reason(resend.period(route((0, None)), since=at(0), until=at(25), kept_from=at(25)))
