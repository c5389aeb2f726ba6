"""Reloads of a daemon that runs, and what its log says of them."""

from __future__ import annotations

import json
import signal
from typing import Any

from tests.support.running import Running
from tests.support.until import until

SECONDS = 40.0


def log_of(daemon: Running) -> list[dict[str, Any]]:
    return [json.loads(line) for line in daemon.log.read_text().splitlines(keepends=True) if line.endswith("}\n")]


def events_of(daemon: Running, *names: str) -> list[dict[str, Any]]:
    return [line for line in log_of(daemon) if line["event"] in names]


async def reload(daemon: Running) -> dict[str, Any]:
    """Sends SIGHUP. Returns the line of the log that says how it went."""
    before = len(events_of(daemon, "config.reloaded", "config.refused"))
    daemon.process.send_signal(signal.SIGHUP)
    await until(lambda: len(events_of(daemon, "config.reloaded", "config.refused")) > before, seconds=SECONDS)
    return events_of(daemon, "config.reloaded", "config.refused")[-1]
