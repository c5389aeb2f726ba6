"""Moves the wall clock of a daemon while it runs, as an administrator or a broken time server would."""

from __future__ import annotations

import mmap
import os
import struct
from pathlib import Path

_HERE = Path(__file__).parent


class WallClock:
    """Start the process with `environment`, so that it uses this clock."""

    def __init__(self, file: Path, *, path: str) -> None:
        file.write_bytes(struct.pack("d", 0.0))
        with file.open("r+b") as opened:
            self._shift = mmap.mmap(opened.fileno(), 8)
        self.environment = {
            "SHIFTED_CLOCK": str(file),
            "PYTHONPATH": os.pathsep.join([str(_HERE / "shifted_clock"), path]),
        }

    def shift(self, seconds: float) -> None:
        """Sets the clock to the true time plus `seconds`, which may be negative."""
        self._shift[:8] = struct.pack("d", seconds)
