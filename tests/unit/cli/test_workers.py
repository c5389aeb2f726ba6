"""The pauses between restarts of a worker, the orders that a parent writes to it, and the watchdog."""

from __future__ import annotations

import asyncio
import os

import pytest

from daemon.config import ListenAddress, load
from daemon.workers import orders, watchdog
from daemon.workers.orders import InheritedSockets, WorkerOrders
from daemon.workers.parent import pause_seconds
from daemon.workers.watchdog import Watchdog
from tests.support.until import until


def test_pauses_double_from_half_a_second_to_ten() -> None:
    assert [pause_seconds(n) for n in range(1, 8)] == [0.5, 1, 2, 4, 8, 10, 10]
    assert pause_seconds(100_000) == 10


@pytest.fixture
def given() -> WorkerOrders:
    config = load(None, {"HOME": "/nowhere", "HOOKLEDGER_SERVER__ADMIN_TOKEN": "canary" * 8})
    return WorkerOrders(
        number=3,
        config=config,
        main=InheritedSockets(address=ListenAddress(host="::1", port=80), descriptors=(7, 8)),
        ops=None,
        watchdog=9,
    )


def test_orders_arrive_as_they_were_given_and_nothing_behind_them_is_read(given: WorkerOrders) -> None:
    reading, writing = os.pipe()
    os.write(writing, orders.encode(given) + orders.STOP)
    received = orders.read(reading)
    assert received == given
    assert received.config.server.admin_token is not None
    assert received.config.server.admin_token.reveal() == "canary" * 8
    assert os.read(reading, 100) == orders.STOP
    os.close(reading)
    os.close(writing)


def test_orders_that_end_too_early_are_none(given: WorkerOrders) -> None:
    reading, writing = os.pipe()
    os.write(writing, orders.encode(given)[:-1])
    os.close(writing)
    with pytest.raises(EOFError):
        orders.read(reading)
    os.close(reading)


@pytest.mark.parametrize("why", ["é" * 1_000_000, "no file /etc/\udcff", "two\nlines"])
def test_a_refusal_is_one_line_that_a_pipe_takes_whatever_it_says(why: str) -> None:
    line = orders.refusal(why)
    assert len(line) < 64 * 1024
    assert line.count(b"\n") == 1
    assert orders.why_refused(line)


async def test_a_watchdog_hears_an_event_loop_that_turns_and_misses_one_that_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watchdog, "PING_SECONDS", 0.001)
    dog, looks = Watchdog(), 0
    look = dog._was_pinged

    def counted() -> bool:
        nonlocal looks
        looks += 1
        return look()

    monkeypatch.setattr(dog, "_was_pinged", counted)
    sending = asyncio.create_task(watchdog.send_pings(dog.descriptor))
    hanging = asyncio.create_task(dog.until_hanging())
    await until(lambda: looks > 5 * watchdog.MISSED_PINGS)
    assert not hanging.done()
    sending.cancel()
    await asyncio.wait_for(hanging, 30)
    dog.close_writing()
    dog.close()
