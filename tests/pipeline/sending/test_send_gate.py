"""The send gate: it is open only while the lease is certainly ours and the routes are certainly no older than a second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from daemon.pipeline.held_shards import HeldShards, Takeover
from daemon.pipeline.sending.send_gate import FRESH_MARGIN_SECONDS, FRESH_SECONDS, SendGate

NOW = 1000.0
FRESH_UNTIL = NOW + FRESH_SECONDS - FRESH_MARGIN_SECONDS


@pytest.fixture
def send_gate(monkeypatch: pytest.MonkeyPatch, shards: HeldShards) -> SendGate:
    at(monkeypatch, NOW)
    return SendGate(shards)


@pytest.fixture
def shards() -> HeldShards:
    return HeldShards()


def hold(shards: HeldShards, until: float) -> None:
    """Shard 3 is ours, for certain until then."""
    if shards.is_held(3):
        shards.renew(3, 1, until)
    else:
        shards.take({3: 1}, until)
        shards.hold(Takeover(checkpoints={3: 0}), {3: 1})


def at(monkeypatch: pytest.MonkeyPatch, now: float) -> None:
    monkeypatch.setattr("daemon.pipeline.sending.send_gate.time.monotonic", lambda: now)


def test_nothing_is_allowed_without_both_kinds_of_evidence(send_gate: SendGate, shards: HeldShards) -> None:
    assert not send_gate.allows(3)
    hold(shards, NOW + 9)
    assert not send_gate.allows(3)
    send_gate.known(NOW)
    assert send_gate.allows(3)
    assert not send_gate.allows(4)
    assert (send_gate.knows(3), send_gate.knows(4)) == (True, False)
    shards.part([3])
    assert not send_gate.allows(3)
    assert not send_gate.knows(3)


def test_a_lease_in_doubt_allows_nothing_until_it_is_renewed(
    send_gate: SendGate, shards: HeldShards, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(shards, NOW + 0.5)
    send_gate.known(NOW)
    at(monkeypatch, NOW + 0.499)
    assert send_gate.allows(3)
    at(monkeypatch, NOW + 0.5)
    assert not send_gate.allows(3)
    assert send_gate.knows(3)
    hold(shards, NOW + 5)
    assert send_gate.allows(3)


def test_routes_are_fresh_for_a_second_from_before_it_was_asked(
    send_gate: SendGate, shards: HeldShards, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(shards, NOW + 9)
    send_gate.known(NOW)
    send_gate.known(NOW - 0.5)  # an older answer that arrives later
    at(monkeypatch, FRESH_UNTIL - 0.001)
    assert send_gate.allows(3)
    at(monkeypatch, FRESH_UNTIL)
    assert not send_gate.allows(3)
    assert FRESH_UNTIL < NOW + 1


async def test_all_who_wait_are_woken_by_each_news() -> None:
    shards = HeldShards()
    send_gate = SendGate(shards)
    all_news: list[Callable[[], None]] = [
        lambda: send_gate.known(1.0),
        lambda: hold(shards, 1.0),
        lambda: shards.lose(3),
    ]
    for news in all_news:
        waiting = [asyncio.ensure_future(send_gate.changed()) for _ in range(3)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in waiting)
        news()
        async with asyncio.timeout(20):
            await asyncio.gather(*waiting)
