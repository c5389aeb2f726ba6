"""The ticker: how often it asks, whom it tells, and what its question proves."""

from __future__ import annotations

import time

from daemon.pipeline.intake import ticker
from daemon.pipeline.intake.ticker import Ticker
from daemon.pipeline.sending.send_gate import SendGate
from eventstore.domain_events import ticks
from tests.support.house import House, house


def ticker_of(it: House, rung: list[str]) -> tuple[Ticker, SendGate]:
    send_gate = SendGate()
    send_gate.hold(3, 1e12)
    made = Ticker(it.database, it.projection, send_gate, on_tick=lambda: rung.append("tick"))
    made.wakeup.set()
    return made, send_gate


async def test_it_asks_less_often_when_nothing_is_new(database_url: str) -> None:
    async with house(database_url, run=False) as it:
        asking, _ = ticker_of(it, [])
        assert asking.pause_seconds == ticker.POLL_SECONDS
        asking._made_at -= ticker.BUSY_SECONDS
        assert asking.pause_seconds == ticker.IDLE_POLL_SECONDS
        await asking.run_once()
        assert asking.pause_seconds == ticker.IDLE_POLL_SECONDS
        await it.publish()
        await asking.run_once()
        assert asking.pause_seconds == ticker.POLL_SECONDS


async def test_it_tells_of_new_ticks_whoever_made_them(database_url: str) -> None:
    rung: list[str] = []
    async with house(database_url, run=False) as it:
        asking, _ = ticker_of(it, rung)
        await asking.run_once()
        assert rung == []
        await it.publish()
        await asking.run_once()
        await it.publish()
        await ticks.make(it.database)
        await asking.run_once()
        await asking.run_once()
        assert rung == ["tick", "tick"]


async def test_each_question_proves_that_the_projection_was_up_to_date_when_it_was_asked(database_url: str) -> None:
    async with house(database_url, run=False) as it, house(database_url, run=False) as other:
        asking, send_gate = ticker_of(it, [])
        await other.route("http://127.0.0.1:9/")
        assert not send_gate.allows(3)
        began = time.monotonic()
        await asking.run_once()
        assert it.projection.index.position == 1
        assert began < send_gate._known_until < time.monotonic() + 1
