"""Reloads of a daemon that runs, and what its log says of them."""

from __future__ import annotations

import signal
from typing import Any

from tests.support.processes.running import Running
from tests.support.until import until

SECONDS = 40.0
_ENDS = ("config.reloaded", "config.refused")


async def reload(daemon: Running) -> dict[str, Any]:
    """Sends SIGHUP. Returns the line of the log that says how it went."""
    before = len(daemon.events(*_ENDS))
    daemon.process.send_signal(signal.SIGHUP)
    await until(lambda: len(daemon.events(*_ENDS)) > before, seconds=SECONDS)
    return daemon.events(*_ENDS)[-1]
