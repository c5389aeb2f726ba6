"""Whoever waits for PostgreSQL says so, once."""

from __future__ import annotations

import asyncio

from structlog.testing import capture_logs

from daemon.pipeline.loops import Patience
from eventstore.postgres.errors import StoreUnavailable
from tests.support.until import until


async def test_it_says_once_that_it_waits_however_many_ask_and_once_that_it_goes_on() -> None:
    patience, asked, is_away = Patience("recorder", pause_seconds=0.001), 0, True

    async def ask() -> str:
        nonlocal asked
        asked += 1
        if is_away:
            raise StoreUnavailable("another transaction holds a lock")
        return "written"

    with capture_logs() as lines:
        waiting = [asyncio.ensure_future(patience.until_answered(ask)) for _ in range(3)]
        await until(lambda: asked > 9)
        assert [line["event"] for line in lines] == ["database.unavailable"]
        is_away = False
        assert await asyncio.gather(*waiting) == ["written"] * 3
        assert await patience.until_answered(ask) == "written"
    said = [(line["event"], line["loop"], line.get("cause")) for line in lines]
    assert said == [
        ("database.unavailable", "recorder", "another transaction holds a lock"),
        ("database.recovered", "recorder", None),
    ]


async def test_any_other_failure_is_raised() -> None:
    async def ask() -> None:
        raise LookupError("gone")

    (found,) = await asyncio.gather(Patience("recorder", pause_seconds=0).until_answered(ask), return_exceptions=True)
    assert isinstance(found, LookupError)
