"""The permit: a lease that is surely ours, and routes that are surely no older than a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from daemon.pipeline.sending.send_gate import FRESH_MARGIN_SECONDS, FRESH_SECONDS, Permit

NOW = 1000.0
FRESH_UNTIL = NOW + FRESH_SECONDS - FRESH_MARGIN_SECONDS


@pytest.fixture
def permit(monkeypatch: pytest.MonkeyPatch) -> Permit:
    at(monkeypatch, NOW)
    return Permit()


def at(monkeypatch: pytest.MonkeyPatch, now: float) -> None:
    monkeypatch.setattr("daemon.pipeline.sending.send_gate.time.monotonic", lambda: now)


def test_nothing_is_allowed_without_both_kinds_of_evidence(permit: Permit) -> None:
    assert not permit.allows(3)
    permit.hold(3, NOW + 9)
    assert not permit.allows(3)
    permit.known(NOW)
    assert permit.allows(3)
    assert not permit.allows(4)
    assert (permit.knows(3), permit.knows(4)) == (True, False)
    permit.withdraw(3)
    assert not permit.allows(3)
    assert not permit.knows(3)


def test_a_lease_in_doubt_allows_nothing_until_it_is_renewed(permit: Permit, monkeypatch: pytest.MonkeyPatch) -> None:
    permit.hold(3, NOW + 0.5)
    permit.known(NOW)
    at(monkeypatch, NOW + 0.499)
    assert permit.allows(3)
    at(monkeypatch, NOW + 0.5)
    assert not permit.allows(3)
    assert permit.knows(3)
    permit.hold(3, NOW + 5)
    assert permit.allows(3)


def test_routes_are_fresh_for_a_second_from_before_it_was_asked(
    permit: Permit, monkeypatch: pytest.MonkeyPatch
) -> None:
    permit.hold(3, NOW + 9)
    permit.known(NOW)
    permit.known(NOW - 0.5)  # an answer that was overtaken
    at(monkeypatch, FRESH_UNTIL - 0.001)
    assert permit.allows(3)
    at(monkeypatch, FRESH_UNTIL)
    assert not permit.allows(3)
    assert FRESH_UNTIL < NOW + 1


async def test_all_who_wait_are_woken_by_each_news() -> None:
    permit = Permit()
    all_news: list[Callable[[], None]] = [
        lambda: permit.known(1.0),
        lambda: permit.hold(3, 1.0),
        lambda: permit.withdraw(3),
    ]
    for news in all_news:
        waiting = [asyncio.ensure_future(permit.changed()) for _ in range(3)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        news()
        async with asyncio.timeout(20):
            await asyncio.gather(*waiting)
