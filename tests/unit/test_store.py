"""Opening the store: what becomes of an embedded server when its start is interrupted."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from daemon import config
from daemon.store import open_store
from eventstore import embedded


class StartedServer:
    """Stands for a server that takes its time to start."""

    url = "postgresql://unused"

    def __init__(self) -> None:
        self.is_asked, self.goes_on = threading.Event(), threading.Event()
        self.is_stopped = False

    def start(self, _data_dir: Path) -> StartedServer:
        self.is_asked.set()
        assert self.goes_on.wait(20)
        return self

    def stop(self) -> None:
        self.is_stopped = True


async def test_a_server_that_was_starting_when_it_was_interrupted_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = StartedServer()
    monkeypatch.setattr(embedded, "start", server.start)
    loaded = config.load(None, {"HOOKLEDGER_DATABASE__DATA_DIR": str(tmp_path)})

    async def use() -> None:
        async with open_store(loaded):
            raise AssertionError("it is never open")

    using = asyncio.ensure_future(use())
    assert await asyncio.to_thread(server.is_asked.wait, 20)
    using.cancel()
    server.goes_on.set()
    with pytest.raises(asyncio.CancelledError):
        await using
    assert server.is_stopped
