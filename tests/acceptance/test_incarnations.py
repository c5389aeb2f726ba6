"""One incarnation of the daemon after the other, and what becomes of one that hangs or fails. Here they do nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from daemon import incarnations
from daemon.app import LoopFailed, Running
from daemon.config import Config, ListenAddress, load
from daemon.incarnations import Incarnations, NotReplaced
from daemon.runtime.signals import Ending
from daemon.web.http.listeners import open_listeners

SECONDS = 30.0


@dataclass
class FakeDaemon:
    """Is ready, then ends when it is asked to. What an incarnation does is named by `dashboard.name` instead."""

    seen: list[str] = field(default_factory=list)

    async def run(self, config: Config, *, ready: Callable[[Running], None], ending: Ending, **_more: Any) -> None:
        name, asked = config.dashboard.name, asyncio.Event()
        self.seen.append(f"{name} begins")
        try:
            if name == "broken":
                raise ValueError("it is broken")
            if name == "endless start":
                await asyncio.Event().wait()
            with ending.serving(stop=asked.set, retire=asked.set):
                ready(Running(url="http://x", ops_url=None, address=ListenAddress(host="x", port=1)))
                await asked.wait()
            if name == "endless end":
                await asyncio.Event().wait()
            if name == "failing":
                raise LoopFailed("a loop failed", [ValueError("it is broken")])
        finally:
            self.seen.append(f"{name} ends")


def named(name: str) -> Config:
    return load(None, {"HOME": "/nowhere", "HOOKLEDGER_DASHBOARD__NAME": name}, listen="127.0.0.1:0")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeDaemon:
    daemon = FakeDaemon()
    monkeypatch.setattr("daemon.incarnations.app.run", daemon.run)
    monkeypatch.setattr("daemon.incarnations.logs.configure", lambda *_: None)
    return daemon


@asynccontextmanager
async def run_by(name: str) -> AsyncIterator[Incarnations]:
    """Runs until the end of the block, and through it. Raises what `run` raises."""
    config = named(name)
    async with asyncio.timeout(SECONDS):
        them = Incarnations(config, open_listeners(config.server))
        running = asyncio.create_task(them.run(lambda _: None))
        await asyncio.wait({running, asyncio.create_task(them.is_ready.wait_set())}, return_when="FIRST_COMPLETED")
        yield them
        await running


async def test_a_successor_begins_before_the_former_one_ends(fake: FakeDaemon) -> None:
    async with run_by("first") as them:
        assert await them.replace(named("second")) is None
        assert await them.replace(named("third")) is None
        them.stop()
    assert fake.seen == [
        *("first begins", "second begins", "first ends"),
        *("third begins", "second ends", "third ends"),
    ]


@pytest.mark.parametrize(
    ("name", "reason"), [("broken", "it is broken"), ("endless start", "the daemon was not ready within 0 s with it")]
)
async def test_a_successor_that_is_never_ready_changes_nothing(
    fake: FakeDaemon, monkeypatch: pytest.MonkeyPatch, name: str, reason: str
) -> None:
    monkeypatch.setattr(incarnations, "READY_SECONDS", 0.05)
    async with run_by("first") as them:
        assert str(await them.replace(named(name))).startswith(reason)
        assert fake.seen == ["first begins", f"{name} begins", f"{name} ends"]
        them.stop()


async def test_a_former_one_that_does_not_end_is_cancelled(fake: FakeDaemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incarnations, "FINISH_SECONDS", 0.05 - named("x").delivery.timeout_seconds)
    async with run_by("endless end") as them:
        assert await them.replace(named("second")) is None
        assert fake.seen[-1] == "endless end ends"
        them.stop()


async def test_a_stop_ends_one_that_is_starting_too(fake: FakeDaemon) -> None:
    async with run_by("first") as them:
        replaced = asyncio.create_task(them.replace(named("endless start")))
        while "endless start begins" not in fake.seen:
            await asyncio.sleep(0)
        them.stop()
        assert isinstance(await replaced, NotReplaced)
    assert sorted(fake.seen[2:]) == ["endless start ends", "first ends"]


async def test_a_failure_of_one_that_had_been_ready_ends_all(fake: FakeDaemon) -> None:
    with pytest.raises(LoopFailed):
        async with run_by("failing") as them:
            assert await them.replace(named("second")) is None
    assert fake.seen[-1] == "second ends"


async def test_what_keeps_the_first_one_from_being_ready_is_raised(fake: FakeDaemon) -> None:
    with pytest.raises(ValueError, match="it is broken"):
        async with run_by("broken"):
            pass
    assert fake.seen == ["broken begins", "broken ends"]
