"""The pauses between restarts of a worker, and the orders that a parent writes to it."""

from __future__ import annotations

import os

import pytest

from daemon.config import ListenAddress, load
from daemon.workers import orders
from daemon.workers.orders import InheritedSockets, WorkerOrders
from daemon.workers.parent import pause_seconds


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
