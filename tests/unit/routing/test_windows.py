"""Half-open windows: the enable is inside, the disable is not; and the check before each attempt."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daemon.core.routing import windows
from daemon.core.routing.route import LifecycleEventType, RouteStatus, evolve
from daemon.core.routing.windows import Window
from tests.support.values.lifecycles import NOON, TICK, after, created, life

HOUR = timedelta(hours=1)
moments = st.integers(-50, 50).map(lambda count: NOON + count * TICK)


def test_a_window_holds_its_first_microsecond_and_not_the_one_of_its_end() -> None:
    window = Window(NOON, NOON + HOUR)
    assert not window.contains(NOON - TICK)
    assert window.contains(NOON)
    assert window.contains(NOON + HOUR - TICK)
    assert not window.contains(NOON + HOUR)
    assert not window.is_open


def test_an_open_window_has_no_end() -> None:
    window = Window(NOON)
    assert window.is_open
    assert window.contains(NOON + 10_000 * HOUR)
    assert not window.contains(NOON - TICK)


@pytest.mark.parametrize("length", [timedelta(0), -TICK])
def test_a_window_that_holds_nothing_cannot_be(length: timedelta) -> None:
    with pytest.raises(ValueError, match="must end after it starts"):
        Window(NOON, NOON + length)


def test_opening_an_open_window_is_an_error_and_closing_a_closed_one_is_not() -> None:
    with pytest.raises(ValueError, match="open already"):
        windows.opened((Window(NOON),), NOON + HOUR)
    shut = (Window(NOON, NOON + HOUR),)
    assert windows.closed(shut, NOON + 2 * HOUR) == shut
    assert windows.closed((), NOON) == ()


@given(st.lists(st.integers(1, 10), max_size=12), moments)
def test_the_window_found_is_the_one_that_contains_the_moment(lengths: list[int], at: datetime) -> None:
    cuts = [NOON - 30 * TICK]
    for length in lengths:
        cuts.append(cuts[-1] + length * TICK)
    pairs = [Window(start, end) for start, end in zip(cuts[::2], cuts[1::2], strict=False)]
    if len(cuts) % 2:
        pairs.append(Window(cuts[-1]))
    scanned = [window for window in pairs if window.start <= at and (window.end is None or at < window.end)]
    assert windows.find(tuple(pairs), at) == (scanned[0] if scanned else None)
    is_sendable = bool(scanned) and scanned[0].end is None
    assert windows.is_sendable(tuple(pairs), at) is is_sendable


def test_nothing_is_sendable_without_a_window() -> None:
    assert not windows.is_sendable((), NOON)
    assert windows.find((), NOON) is None


def test_an_event_of_the_microsecond_of_the_enable_is_sendable_and_one_before_is_not() -> None:
    opened = (Window(NOON),)
    assert windows.is_sendable(opened, NOON)
    assert not windows.is_sendable(opened, NOON - TICK)


@given(st.lists(st.booleans(), min_size=1, max_size=6), moments)
def test_after_a_disable_and_an_enable_no_event_of_the_old_window_is_ever_sendable(
    also_edited: list[bool], at: datetime
) -> None:
    route = evolve(None, created(at=NOON - 20 * TICK))
    for is_edited in also_edited:
        route = evolve(route, after(route, LifecycleEventType.DISABLED, at=route.updated_at + 3 * TICK))
        disabled_at = route.updated_at
        assert not windows.is_sendable(route.windows, at)
        if is_edited:
            route = evolve(route, after(route, LifecycleEventType.EDITED, at=route.updated_at + TICK))
        route = evolve(route, after(route, LifecycleEventType.ENABLED, at=route.updated_at + 2 * TICK))
        if at < route.updated_at:
            assert not windows.is_sendable(route.windows, at)
            assert not windows.is_sendable(route.windows, disabled_at - TICK)
        else:
            assert windows.is_sendable(route.windows, at)
    deleted = evolve(route, after(route, LifecycleEventType.DELETED, at=route.updated_at + TICK))
    assert deleted.status is RouteStatus.DELETED
    assert not windows.is_sendable(deleted.windows, at)


def test_a_route_that_is_edited_or_given_a_new_key_keeps_its_window() -> None:
    route = life(LifecycleEventType.EDITED, LifecycleEventType.KEY_ROTATED, LifecycleEventType.KEY_REVOKED)
    assert route.windows == (Window(NOON),)
